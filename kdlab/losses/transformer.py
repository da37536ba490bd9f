"""Losses on hidden states and attention of transformers: module form of :mod:`kdlab.functional.hidden` and
:mod:`kdlab.functional.attention`.

Hidden states are taps of whole layers, queries, keys and values taps of the linear layers that make them, all by dotted
module paths: in Hugging Face's BERT ``bert.encoder.layer.1`` and ``bert.encoder.layer.1.attention.self.query``. Paths
that stand for several are patterns, with ``{layer}`` for the number of a layer (from 0) and ``{part}`` for query, key
or value.

Which positions count is the student's mask, or the batch's. ``average`` says what a mean over sequences is: ``tokens``,
every position (or pair of positions) of the batch alike, one number, as all published code has it; ``samples``, every
sample alike, one value a sample ``(B,)``. Means over positions are right whatever the masks of accumulated batches and
of several processes are; those over pairs of positions are means of each batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.hidden import pairs, sample_mean
from kdlab.functional.rows import one_of
from kdlab.outputs import Outputs

from .base import Loss, Probe

LAYER = "bert.encoder.layer.{layer}"
ATTENTION = "bert.encoder.layer.{layer}.attention.self.{part}"


class Sequences(Loss):
    """Base of these losses."""

    def __init__(self, average: str = "tokens"):
        super().__init__()
        self.average = one_of("average", average, ("tokens", "samples"))
        # a mean over pairs of positions is one of the batch: with accumulation or several processes, of each of them
        self.per = "batch" if average == "tokens" else "sample"

    @torch.no_grad()
    def prepare(self, probe: Probe) -> None:
        """Tries the loss once, where and as its new connectors are, so that features that do not fit are refused before
        the training."""
        student, teacher = (
            outputs.replace(
                features={tap: feature.to("cpu", torch.float32) for tap, feature in outputs.features.items()}, mask=None
            )
            for outputs in (probe.student, probe.teacher)
        )
        self.forward(student, teacher, None)

    def averaged(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """``values`` ``(B, ...)`` as ``average`` says; what has one value a sample already keeps it."""
        if values.dim() == 1:
            return functional.reduced(values, mask)
        return sample_mean(values, mask) if self.average == "samples" else functional.reduced(values, mask, "mean")


class Hidden(Sequences):
    """Base of the losses that compare one feature: a vector a sample ``(B, D)`` or a position ``(B, T, D)``. Where the
    widths differ, a linear connector brings the student's to the teacher's.

    Args:
        student_tap, teacher_tap: which features are compared.
        average: see above.
    """

    def __init__(self, student_tap: str = "embedding", teacher_tap: str = "embedding", average: str = "tokens"):
        super().__init__(average)
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.connector = nn.Identity()

    def prepare(self, probe: Probe) -> None:
        """Builds the connector, then tries the loss once.

        Raises:
            ValueError: the features are neither two vectors nor two sequences.
        """
        student, teacher = probe.student.features[self.student_taps[0]], probe.teacher.features[self.teacher_taps[0]]
        if student.dim() != teacher.dim() or student.dim() not in (2, 3):
            raise ValueError(
                f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must both be vectors (B, D) or "
                "sequences (B, T, D); for maps take the loss 'hint'"
            )
        self.connector = _connector(student, teacher)
        self.per = "position" if student.dim() == 3 and self.average == "tokens" else "sample"
        super().prepare(probe)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value a position, ``(B, T)``, for sequences with ``average=tokens``; otherwise one a sample, ``(B,)``."""
        mine, theirs = self.connector(student.features[self.student_taps[0]]), teacher.features[self.teacher_taps[0]]
        mask = mask_of(student, batch) if mine.dim() == 3 else None
        values = type(self).function(mine, theirs, mask=mask)
        return values if values.dim() == 1 or self.average == "tokens" else self.averaged(values, mask)


class HiddenMSE(Hidden):
    """:func:`kdlab.functional.hidden_mse`."""

    function = staticmethod(functional.hidden_mse)


class HiddenCosine(Hidden):
    """:func:`kdlab.functional.hidden_cosine`."""

    function = staticmethod(functional.hidden_cosine)


class PKD(Sequences):
    """:func:`kdlab.functional.pkd` of the first token in pairs of layers. Where the widths differ, one linear connector
    serves all layers.

    Args:
        student_tap, teacher_tap: patterns of a layer.
        student_layers, teacher_layers: the pairs, as many on both sides. The defaults are the scheme "skip" of the
            paper for 6 and 12 layers.
        normalise, mean_over_width: see the function.
    """

    function = staticmethod(functional.pkd)

    def __init__(
        self,
        student_tap: str = LAYER,
        teacher_tap: str = LAYER,
        student_layers: Sequence[int] = (0, 1, 2, 3, 4),
        teacher_layers: Sequence[int] = (1, 3, 5, 7, 9),
        normalise: bool = True,
        mean_over_width: bool = True,
    ):
        super().__init__()
        self.per = "sample"
        as_many(student_layers, teacher_layers)
        self.student_taps = tuple(path_of("student_tap", student_tap, layer=layer) for layer in student_layers)
        self.teacher_taps = tuple(path_of("teacher_tap", teacher_tap, layer=layer) for layer in teacher_layers)
        self.normalise, self.mean_over_width = normalise, mean_over_width
        self.connector = nn.Identity()

    def prepare(self, probe: Probe) -> None:
        """Builds the connector, then tries the loss once.

        Raises:
            ValueError: a feature is not a sequence ``(B, T, D)``.
        """
        for role, outputs, taps in (
            ("student", probe.student, self.student_taps),
            ("teacher", probe.teacher, self.teacher_taps),
        ):
            for tap in taps:
                if outputs.features[tap].dim() != 3:
                    raise ValueError(
                        f"the {role}'s tap '{tap}' is {tuple(outputs.features[tap].shape)}, and must be a sequence of "
                        "hidden states (B, T, D); for other features take the loss 'hint' or 'hidden_mse'"
                    )
        self.connector = _connector(
            probe.student.features[self.student_taps[0]], probe.teacher.features[self.teacher_taps[0]]
        )
        super().prepare(probe)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value a sample, ``(B,)``: the mean over the pairs of layers."""
        mine, theirs = (
            torch.stack([outputs.features[tap][:, 0] for tap in taps], dim=1)
            for outputs, taps in ((student, self.student_taps), (teacher, self.teacher_taps))
        )
        return functional.pkd(
            self.connector(mine), theirs, normalise=self.normalise, mean_over_width=self.mean_over_width
        )


class SequencePair(Sequences):
    """Base of the losses on how two layers relate.

    Args:
        student_taps, teacher_taps: two layers each; the same one twice is allowed.
        average: see above.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = (LAYER.format(layer=0), LAYER.format(layer=5)),
        teacher_taps: Sequence[str] = (LAYER.format(layer=0), LAYER.format(layer=11)),
        average: str = "tokens",
    ):
        super().__init__(average)
        self.student_taps, self.teacher_taps = tuple(student_taps), tuple(teacher_taps)
        for name in ("student_taps", "teacher_taps"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name} must name two layers, got {list(getattr(self, name))}")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value a sample, ``(B,)``; a scalar where the function has one value a pair of positions and
        ``average=tokens``."""
        mask = mask_of(student, batch)
        features = [
            outputs.features[tap]
            for outputs, taps in ((student, self.student_taps), (teacher, self.teacher_taps))
            for tap in taps
        ]
        values = type(self).function(*features, mask=mask)
        return self.averaged(values, pairs(mask) if values.dim() == 3 else None)


class SequenceFSP(SequencePair):
    """:func:`kdlab.functional.sequence_fsp`, one value a sample. Student and teacher must be equally wide."""

    function = staticmethod(functional.sequence_fsp)

    def __init__(
        self,
        student_taps: Sequence[str] = (LAYER.format(layer=0), LAYER.format(layer=5)),
        teacher_taps: Sequence[str] = (LAYER.format(layer=0), LAYER.format(layer=11)),
    ):
        super().__init__(student_taps, teacher_taps)
        self.per = "sample"


class SequenceMMD(SequencePair):
    """:func:`kdlab.functional.sequence_mmd`."""

    function = staticmethod(functional.sequence_mmd)


def mask_of(student: Outputs, batch: Batch | None) -> Tensor | None:
    """Which positions count, ``(B, T)``: the student's mask, otherwise the batch's; None without either."""
    return student.mask if student.mask is not None or batch is None else batch.mask


def _connector(student: Tensor, teacher: Tensor) -> nn.Module:
    return nn.Identity() if student.shape[-1] == teacher.shape[-1] else nn.Linear(student.shape[-1], teacher.shape[-1])


def path_of(argument: str, pattern: str, **fields) -> str:
    """``pattern`` with its fields filled in.

    Raises:
        ValueError: the pattern has other fields; the message names the argument.
    """
    try:
        return pattern.format(**fields)
    except (IndexError, KeyError, ValueError) as error:
        names = " and ".join(f"{{{name}}}" for name in fields)
        raise ValueError(f"{argument} may have {names} in it and no other braces, got {pattern!r}") from error


def as_many(student_layers: Sequence[int], teacher_layers: Sequence[int]) -> None:
    """Checks that both sides name the same number of layers.

    Raises:
        ValueError: they do not, or name none.
    """
    if len(student_layers) == 0 or len(student_layers) != len(teacher_layers):
        raise ValueError(
            f"student_layers and teacher_layers must name as many layers, got {list(student_layers)} and "
            f"{list(teacher_layers)}"
        )
