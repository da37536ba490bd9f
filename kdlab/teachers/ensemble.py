"""Ensemble: several teachers that answer as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional import wide
from kdlab.outputs import Outputs

from .base import Teacher


class Ensemble:
    r"""The weighted average of teachers.

    Args:
        members: the teachers.
        average: ``probabilities`` (Hinton et al. 2015: the answer is :math:`\log \sum_k w_k\,\mathrm{softmax}(z_k)`, taken at
            temperature 1) or ``logits`` (:math:`\sum_k w_k z_k`, whose softmax is the geometric mean).
        weights: one a member; they are divided by their sum. None: equal.

    Raises:
        InputError: no members, or weights that do not fit them.
    """

    network = None

    def __init__(self, members: Sequence[Teacher], average: str = "probabilities", weights: Sequence[float] | None = None):
        if not members:
            raise InputError("teacher.members: an ensemble needs at least one teacher")
        if average not in ("probabilities", "logits"):
            raise InputError(f"teacher.average must be 'probabilities' or 'logits', got '{average}'")
        weights = list(weights) if weights else [1.0] * len(members)
        if len(weights) != len(members) or min(weights) < 0 or sum(weights) == 0:
            raise InputError(f"teacher.weights must be one number not below 0 for each of the {len(members)} members, got {weights}")
        # a member without weight is not asked: its answer times 0 would still be NaN where it excludes a class
        heard = [(member, weight / sum(weights)) for member, weight in zip(members, weights) if weight > 0]
        self.members, self.weights = [member for member, _ in heard], [weight for _, weight in heard]
        self.average = average

    def watch(self, taps: set[str]) -> None:
        if taps:
            raise InputError(f"an ensemble has no features of its own, so the losses that read the teacher's {', '.join(sorted(taps))} "
                             "need a single teacher")

    @torch.no_grad()
    def teach(self, batch: Batch) -> Outputs:
        answers = torch.stack([wide(member.teach(batch).logits) for member in self.members])
        weights = answers.new_tensor(self.weights).view(-1, *[1] * (answers.dim() - 1))
        if self.average == "logits":
            return Outputs((weights * answers).sum(0))
        # the logarithm of the averaged probabilities, without leaving the logarithm: it stays finite where a probability underflows
        return Outputs((answers.log_softmax(-1) + weights.log()).logsumexp(0))

    def __deepcopy__(self, memo) -> Ensemble:
        return self
