"""Losses on hidden states and attention of transformers: module form of :mod:`kdlab.functional.hidden` and
:mod:`kdlab.functional.attention`.

The default taps are those of :class:`kdlab.models.TextEncoder`: ``hidden1`` is the output of the first layer,
``hidden0`` that of the embeddings, and ``query1``, ``key1``, ``value1`` are the projections of the first layer. Layers
are counted from 1. A pattern stands for several taps: ``{layer}`` is the number of a layer, and ``{part}`` is query,
key or value.

Dotted module paths work, too, for any network: ``bert.encoder.layer.{layer}`` and
``bert.encoder.layer.{layer}.attention.self.{part}`` are the same taps of Hugging Face's BERT. The numbers in paths are
those of the modules; Hugging Face counts layers from 0.

The student's mask, or otherwise the batch's, selects the positions that count. ``average`` is the kind of mean over
sequences. With ``tokens``, every position (or pair of positions) of the batch has the same weight, and the value is one
number, as in all published code. With ``samples``, every sample has the same weight, and there is one value per sample
``(B,)``. Means over positions are right for any masks of accumulated batches and of several processes; means over pairs
of positions are computed for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.hidden import pairs, sample_mean
from kdlab.functional.rows import one_of
from kdlab.models.architectures import attention_heads
from kdlab.outputs import Outputs

from .base import Loss, Probe

LAYER = "hidden{layer}"
ATTENTION = "{part}{layer}"
EMBEDDING = "hidden0"


class Sequences(Loss):
    """Base of these losses."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, average: str = "tokens"):
        super().__init__()
        self.average = one_of("average", average, ("tokens", "samples"))
        # a mean over pairs of positions is one of the batch: with accumulation or several processes, of each of them
        self.per = "batch" if average == "tokens" else "sample"

    @torch.no_grad()
    def prepare(self, probe: Probe) -> None:
        """Computes the loss once, on the CPU in float32 like the new connectors, so that features that do not fit raise
        an error before training."""
        student, teacher = (
            outputs.replace(
                features={tap: feature.to("cpu", torch.float32) for tap, feature in outputs.features.items()}, mask=None
            )
            for outputs in (probe.student, probe.teacher_outputs)
        )
        self.forward(student, teacher, None)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """See :class:`kdlab.losses.Loss`. :meth:`prepare` tries the loss without a batch."""
        return super().forward(student, teacher, cast(Batch, batch))

    def averaged(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """The mean of ``values`` ``(B, ...)`` according to ``average``. Values ``(B,)``, one per sample, are not
        averaged."""
        if values.dim() == 1:
            return functional.reduced(values, mask)
        return sample_mean(values, mask) if self.average == "samples" else functional.reduced(values, mask, "mean")


class Hidden(Sequences):
    """Base of the losses that compare one feature: a vector per sample ``(B, D)`` or per position ``(B, T, D)``. If the
    widths differ, a linear connector maps the student's to the teacher's.

    Args:
        student_tap, teacher_tap: the features that are compared.
        average: ``tokens`` or ``samples``, see :mod:`kdlab.losses.transformer`.
    """

    def __init__(self, student_tap: str = "embedding", teacher_tap: str = "embedding", average: str = "tokens"):
        super().__init__(average)
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.connector: nn.Module = nn.Identity()

    def prepare(self, probe: Probe) -> None:
        """Builds the connector, then tries the loss once.

        Raises:
            ValueError: the features are neither two vectors nor two sequences.
        """
        student = probe.student.features[self.student_taps[0]]
        teacher = probe.teacher_outputs.features[self.teacher_taps[0]]
        if student.dim() != teacher.dim() or student.dim() not in (2, 3):
            raise ValueError(
                f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must both be vectors (B, D) or "
                "sequences (B, T, D); for maps use the loss 'hint'"
            )
        self.connector = _connector(student, teacher)
        self.per = "position" if student.dim() == 3 and self.average == "tokens" else "sample"
        super().prepare(probe)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value per position, ``(B, T)``, for sequences with ``average=tokens``; otherwise one per sample,
        ``(B,)``."""
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
    """:func:`kdlab.functional.pkd` of the first token in pairs of layers. If the widths differ, all layers share one
    linear connector.

    Args:
        student_tap, teacher_tap: patterns of the layers' taps.
        student_layers, teacher_layers: the pairs, the same number on both sides. The defaults are the paper's scheme
            "skip" for 6 and 12 layers.
        normalise, mean_over_width: see the function.
    """

    function = staticmethod(functional.pkd)

    def __init__(
        self,
        student_tap: str = LAYER,
        teacher_tap: str = LAYER,
        student_layers: Sequence[int] = (1, 2, 3, 4, 5),
        teacher_layers: Sequence[int] = (2, 4, 6, 8, 10),
        normalise: bool = True,
        mean_over_width: bool = True,
    ):
        super().__init__()
        self.per = "sample"
        as_many(student_layers, teacher_layers)
        self.student_taps = tuple(path_of("student_tap", student_tap, layer=layer) for layer in student_layers)
        self.teacher_taps = tuple(path_of("teacher_tap", teacher_tap, layer=layer) for layer in teacher_layers)
        self.normalise, self.mean_over_width = normalise, mean_over_width
        self.connector: nn.Module = nn.Identity()

    def prepare(self, probe: Probe) -> None:
        """Builds the connector, then tries the loss once.

        Raises:
            ValueError: a feature is not a sequence ``(B, T, D)``.
        """
        for role, outputs, taps in (
            ("student", probe.student, self.student_taps),
            ("teacher", probe.teacher_outputs, self.teacher_taps),
        ):
            for tap in taps:
                if outputs.features[tap].dim() != 3:
                    raise ValueError(
                        f"the {role}'s tap '{tap}' has shape {tuple(outputs.features[tap].shape)}, and must be a "
                        "sequence of hidden states (B, T, D); for other features use the loss 'hint' or 'hidden_mse'"
                    )
        self.connector = _connector(
            probe.student.features[self.student_taps[0]], probe.teacher_outputs.features[self.teacher_taps[0]]
        )
        super().prepare(probe)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value per sample, ``(B,)``: the mean over the pairs of layers."""
        mine, theirs = (
            torch.stack([outputs.features[tap][:, 0] for tap in taps], dim=1)
            for outputs, taps in ((student, self.student_taps), (teacher, self.teacher_taps))
        )
        return functional.pkd(
            self.connector(mine), theirs, normalise=self.normalise, mean_over_width=self.mean_over_width
        )


class SequencePair(Sequences):
    """Base of the losses on the relation of two layers.

    Args:
        student_taps, teacher_taps: two layers each; the same layer twice is allowed.
        average: see above.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = (LAYER.format(layer=1), LAYER.format(layer=6)),
        teacher_taps: Sequence[str] = (LAYER.format(layer=1), LAYER.format(layer=12)),
        average: str = "tokens",
    ):
        super().__init__(average)
        self.student_taps, self.teacher_taps = tuple(student_taps), tuple(teacher_taps)
        for name in ("student_taps", "teacher_taps"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name} must name two layers, got {list(getattr(self, name))}")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value per sample, ``(B,)``. A scalar if the function returns one value per pair of positions and
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
    """:func:`kdlab.functional.sequence_fsp`, one value per sample. Student and teacher must have the same width."""

    function = staticmethod(functional.sequence_fsp)

    def __init__(
        self,
        student_taps: Sequence[str] = (LAYER.format(layer=1), LAYER.format(layer=6)),
        teacher_taps: Sequence[str] = (LAYER.format(layer=1), LAYER.format(layer=12)),
    ):
        super().__init__(student_taps, teacher_taps)
        self.per = "sample"


class SequenceMMD(SequencePair):
    """:func:`kdlab.functional.sequence_mmd`."""

    function = staticmethod(functional.sequence_mmd)


def mask_of(student: Outputs, batch: Batch | None) -> Tensor | None:
    """The positions that count, ``(B, T)``: the student's mask, otherwise the batch's; None if there is no mask."""
    return student.mask if student.mask is not None or batch is None else batch.mask


def _connector(student: Tensor, teacher: Tensor) -> nn.Module:
    return nn.Identity() if student.shape[-1] == teacher.shape[-1] else nn.Linear(student.shape[-1], teacher.shape[-1])


def path_of(argument: str, pattern: str, **fields: str | int) -> str:
    """``pattern`` with its fields filled in.

    Raises:
        ValueError: the pattern has other fields. The message names the argument.
    """
    try:
        return pattern.format(**fields)
    except (IndexError, KeyError, ValueError) as error:
        names = " and ".join(f"{{{name}}}" for name in fields)
        raise ValueError(f"{argument} may contain {names} and no other braces, got {pattern!r}") from error


def heads_of(argument: str, heads: int | None, network: nn.Module | None) -> int:
    """The number of attention heads: the given one, or that of the network's config.

    Raises:
        ValueError: neither is known. The message names the argument.
    """
    found = heads if heads is not None else attention_heads(network)
    if found is None:
        raise ValueError(
            f"{argument}=null takes the number of attention heads from the network's config, and this network has "
            f"none; give the number, for example {argument}=12"
        )
    return found


def equal_heads(heads: int | None, probe: Probe) -> int:
    """The number of attention heads that student and teacher share: the given one, or that of both configs.

    Raises:
        ValueError: it is not known, or the networks have different numbers.
    """
    if heads is not None:
        return heads
    mine, theirs = heads_of("heads", None, probe.student_network), heads_of("heads", None, probe.teacher_network)
    if mine != theirs:
        raise ValueError(
            f"student and teacher must have the same number of attention heads, got {mine} and {theirs}; the loss "
            "'minilmv2' allows other numbers"
        )
    return mine


def as_many(student_layers: Sequence[int], teacher_layers: Sequence[int]) -> None:
    """Checks that both sides name the same number of layers.

    Raises:
        ValueError: the numbers differ, or are 0.
    """
    if len(student_layers) == 0 or len(student_layers) != len(teacher_layers):
        raise ValueError(
            f"student_layers and teacher_layers must have the same length, got {list(student_layers)} and "
            f"{list(teacher_layers)}"
        )
