"""What a data set gives: a digest of it, which is part of a cache's key, and whether it gives the same again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlab.data import Data
from kdlab.data.loader import BatchLoader
from kdlab.data.random_numbers import restored_random_numbers
from kdlab.data.text.tokens import Ragged

from .store import CannotKeep

_DIGESTED = 64  # samples of a split that the digest covers where the inputs are not in memory
_TRIED = 16  # samples that are asked for twice
_EPOCHS = 3


def inputs_digest(data: Data) -> str:
    """SHA-256 of the inputs of a data set: of those in memory, and of some samples of each split as a network gets
    them. So a data set whose code or files have changed has another digest."""
    digest = hashlib.sha256()
    data.setup()
    with restored_random_numbers():
        for split in ("train", "validation", "test"):
            loader = data.in_order(split)
            inputs = getattr(loader, "inputs", None)
            batch = loader.batch(_some(data, loader, _DIGESTED))
            theirs = () if batch.teacher_inputs is None else _tensors(batch.teacher_inputs)
            for value in (*_stored(inputs), *_tensors(batch.inputs), *theirs):
                shape = (int(value.lengths.sum()),) if isinstance(value, Ragged) else tuple(value.shape)
                digest.update(f"{value.dtype} {shape} ".encode())
                for part in value.blocks() if isinstance(value, Ragged) else [value]:
                    digest.update(part.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_repeatable(data: Data, fixed: bool) -> None:
    """Check that a sample's inputs are a function of seed, epoch and view, and with ``fixed`` of the sample alone: only
    then is an answer that is kept the answer to the inputs that the student gets.

    Raises:
        CannotKeep: they are not.
    """
    with restored_random_numbers():
        for split in ("train", "validation"):
            loader = data.in_order(split, views=2)
            rows, shown = _some(data, loader, _TRIED), []
            for epoch in range(_EPOCHS):
                batch, again = loader.batch(rows, epoch), loader.batch(rows.flip(0), epoch)
                shown += [batch.inputs, *batch.further_views]
                for one, other in zip((batch.inputs, *batch.further_views), (again.inputs, *again.further_views)):
                    if not _same(one, other, torch.arange(len(rows)).flip(0)):
                        key = "data.augment" if split == "train" and data.draws else "data"
                        raise CannotKeep(
                            f"{key}: the same {split} samples have other inputs each time that they are asked for, so "
                            "the teacher's answers cannot be kept. They must be a function of (seed, epoch, view, "
                            "index), as with kdlab.data.Augment; teacher.cache=live asks the teacher in every step"
                        )
            if (fixed or split != "train") and not all(_same(shown[0], other) for other in shown):
                raise CannotKeep(
                    f"data: {type(data).__name__} gives other {split} inputs in other epochs or views, although "
                    "data.augment draws nothing, so one answer to each sample is not enough; "
                    + ("teacher.cache=views" if split == "train" else "teacher.cache=live")
                )


def _some(data: Data, loader: BatchLoader, count: int) -> Tensor:
    """At most ``count`` samples, spread over the split."""
    rows = data.part("train") if loader.split == "train" else loader.sampler.rows
    return rows[:: max(len(rows) // count, 1)][:count].contiguous()


def _stored(inputs: Any) -> Iterable[Tensor | Ragged]:
    """All inputs of a split: tensors, and rows that need not be in memory."""
    values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    return [one for one in values if isinstance(one, (Tensor, Ragged))]


def _tensors(value: Any) -> Iterable[Tensor]:
    """The tensors of inputs: one, or those of a mapping."""
    values = value.values() if isinstance(value, Mapping) else [value]
    return [one for one in values if isinstance(one, Tensor)]


def _same(one: Any, other: Any, order: Tensor | None = None) -> bool:
    """Whether inputs are equal but for rounding, which may depend on a sample's place in its batch.

    >>> _same(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]), torch.tensor([1, 0]))
    True
    >>> _same(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]))
    False
    """
    return all(
        mine.shape == theirs.shape
        and torch.allclose(
            mine.double(), (theirs if order is None else theirs[order]).double(), 1e-3, 1e-5, equal_nan=True
        )
        for mine, theirs in zip(_tensors(one), _tensors(other))
    )
