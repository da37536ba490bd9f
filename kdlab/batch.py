"""Batch: all that travels from the data to a strategy, and on to a loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor


@dataclass
class Batch:
    """One batch and where it came from.

    Args:
        inputs: what the network reads, first dimension B.
        target: the labels, ``(B,)`` for classifiers; after :meth:`kdlab.tasks.Task.align_batch` one label a row, ``(N,)``.
        index: number of each sample in its stored split, ``(B,)`` (after alignment ``(N,)``): tables and caches are keyed by it.
        mask: which positions of the inputs are real, ``(B, T)``, for sequences; None where every position is.
        second_view: the same samples under another augmentation, for strategies that ask for two views.
        weights: how much each row counts, ``(N,)``; made by ``align_batch``.
        normaliser: what the weighted sum of this batch's rows is divided by. It is the number of counting rows in the whole
            optimiser step (all processes, all accumulated batches) divided by (processes x accumulated batches), because DDP
            averages gradients over processes and Lightning over accumulated batches: so the step's loss is the mean over rows,
            however they were dealt. None: the sum of ``weights``.
        split, epoch, view: provenance. Augmentation is a function of (seed, epoch, view, index), so they name the exact pixels.
    """

    inputs: Any
    target: Tensor | None
    index: Tensor
    mask: Tensor | None = None
    second_view: Any = None
    weights: Tensor | None = None
    normaliser: float | None = None
    split: str = "train"
    epoch: int = 0
    view: int = 0

    def __len__(self) -> int:
        return len(self.index)

    def replace(self, **changes) -> Batch:
        return replace(self, **changes)

    def other_view(self) -> Batch:
        """The same samples as their second view has them."""
        return replace(self, inputs=self.second_view, second_view=None, view=1)

    def to(self, device, non_blocking: bool = False) -> Batch:
        """The batch with every tensor on ``device`` (Lightning calls this)."""
        return replace(self, **{field.name: _moved(getattr(self, field.name), device, non_blocking) for field in fields(self)})


def _moved(value, device, non_blocking: bool):
    if isinstance(value, Mapping):
        return {name: _moved(item, device, non_blocking) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(item, device, non_blocking) for item in value)
    return value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value
