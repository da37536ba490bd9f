"""Losses over pairs of stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdlab.outputs import Outputs

from .base import Loss, Probe

#: the inputs of the last ReLU of each of the first three stages
PREACTIVATIONS = ("preact1", "preact2", "preact3")


def taps(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    """One tap or several, as a tuple. Raises ValueError, which names the argument, for anything else."""
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if not found or not all(isinstance(tap, str) and tap for tap in found):
        raise ValueError(f"{name} must be the names of one or more taps, for example [stage1, stage2], got {value!r}")
    return found


def features(outputs: Outputs, names: Sequence[str]) -> list[Tensor]:
    """The features of the named taps, in that order."""
    return [outputs.features[name] for name in names]


def shapes(outputs: Outputs, names: Sequence[str]) -> list[torch.Size]:
    """The shapes of the named features of one sample, without the batch dimension."""
    return [outputs.features[name].shape[1:] for name in names]


class Pairs(Loss):
    """Base of the losses that compare taps in pairs: the first student tap with the first teacher tap, and so on.

    Args:
        student_taps, teacher_taps: the taps, the same number on both sides.
    """

    per = "sample"

    def __init__(self, student_taps: str | Sequence[str], teacher_taps: str | Sequence[str]):
        super().__init__()
        self.student_taps, self.teacher_taps = taps("student_taps", student_taps), taps("teacher_taps", teacher_taps)
        if len(self.student_taps) != len(self.teacher_taps):
            raise ValueError(
                "student_taps and teacher_taps are compared in pairs and must have the same length, got "
                f"{list(self.student_taps)} and {list(self.teacher_taps)}"
            )

    def pairs(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """The features of each pair of taps, the student's first."""
        return list(zip(features(student, self.student_taps), features(teacher, self.teacher_taps)))

    def shapes(self, probe: Probe) -> list[tuple[torch.Size, torch.Size]]:
        """The shapes of each pair's features of one sample."""
        return list(zip(shapes(probe.student, self.student_taps), shapes(probe.teacher_outputs, self.teacher_taps)))

    def halving(self) -> list[float]:
        """One weight per pair: 1 for the last pair, and for each earlier pair half the weight of the next."""
        return [0.5 ** (len(self.student_taps) - 1 - number) for number in range(len(self.student_taps))]
