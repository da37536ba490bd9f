"""Loaders: what a batch of an epoch holds, and which part of it is this process's; and the loader of sets that fit in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.batch import Batch

from .augment import Augment
from kdlab.counter import counter_order

_ORDER = 1          # the stream of random numbers that shuffles


@dataclass
class Share:
    """Which part of every batch this process gets: rank ``rank`` of ``world``; how many batches make an optimiser step; and how many
    batches (or which part of them) the Trainer takes of an epoch."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1
    limit: int | float | None = None

    def taken(self, batches: int) -> int:
        """How many of an epoch's batches are taken."""
        if self.limit is None:
            return batches
        return min(self.limit, batches) if isinstance(self.limit, int) else int(self.limit * batches)


class EpochOrder:
    """The order of an epoch: by (seed, epoch) alone, or by a strategy's own ``order(epoch)``.

    Lightning finds ``set_epoch`` on a loader's ``sampler`` and calls it.
    """

    def __init__(self, rows: Tensor, seed: int, shuffle: bool, order: Callable[[int], Tensor] | None = None):
        self.rows, self.seed, self.shuffle, self.order, self.epoch = rows, seed, shuffle, order, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self) -> Tensor:
        if self.order is not None:
            return self.order(self.epoch)
        return counter_order(self.rows, self.seed, self.epoch, _ORDER) if self.shuffle else self.rows


class BatchLoader(ABC):
    """Base of the loaders: yields :class:`kdlab.Batch`. A subclass gives :meth:`views_of`.

    ``batch_size`` counts the rows of all processes together; each process cuts its own share out of every batch, so a run's curve
    does not depend on how many processes share it (as long as nothing in the network looks across the batch, and no tail is left out).

    Args:
        target: the labels of the stored split, (N,).
        order: rows of an epoch, in order.
        drop_last: leave out a last batch that is not full. A tail of fewer than two rows a process is left out always.
        views: 2 adds ``second_view``, the same samples augmented independently.
    """

    batch_sampler = None        # Lightning asks for it when there is a sampler

    def __init__(self, target: Tensor, order: EpochOrder, batch_size: int, split: str, drop_last: bool = False,
                 share: Share | None = None, views: int = 1):
        self.target, self.sampler, self.batch_size, self.split = target, order, batch_size, split
        self.drop_last, self.share, self.views = drop_last, share or Share(), views

    @abstractmethod
    def views_of(self, rows: Tensor, epoch: int) -> list[Tensor]:
        """The inputs (B, …) of the given rows as they are in ``epoch``, one tensor a view."""

    def _sizes(self) -> list[int]:
        full, tail = divmod(len(self.sampler.rows), self.batch_size)
        keep_tail = tail and not self.drop_last and (self.split != "train" or tail >= 2 * self.share.world)
        return [self.batch_size] * full + [tail] * bool(keep_tail)

    def __len__(self) -> int:
        return len(self._sizes())

    def plan(self) -> Iterator[tuple[Tensor, float]]:
        """This process's rows of every batch of the epoch, and the batch's normaliser."""
        rows, start = self.sampler(), 0
        sizes, share = self._sizes(), self.share
        taken = share.taken(len(sizes))
        for number, size in enumerate(sizes[:taken]):
            group = number // share.accumulate * share.accumulate
            in_step = sum(sizes[group : min(group + share.accumulate, taken)])
            chosen = rows[start : start + size]
            start += size
            yield torch.tensor_split(chosen, share.world)[share.rank], in_step / (share.world * share.accumulate)

    def __iter__(self) -> Iterator[Batch]:
        # a generator: on resume Lightning makes the iterator before it sets the epoch, and nothing here runs until the first batch
        epoch = self.sampler.epoch
        for mine, normaliser in self.plan():
            yield self.batch(mine, epoch, normaliser)

    def batch(self, rows: Tensor, epoch: int = 0, normaliser: float | None = None) -> Batch:
        """The batch of the given rows, as it is in ``epoch``."""
        return self.made(rows, self.views_of(rows, epoch), epoch, normaliser)

    def made(self, rows: Tensor, views: list[Tensor], epoch: int, normaliser: float | None) -> Batch:
        """The batch of inputs that are there already."""
        return Batch(views[0], self.target[rows], rows, second_view=views[1] if len(views) > 1 else None, normaliser=normaliser,
                     split=self.split, epoch=epoch)


class InMemoryLoader(BatchLoader):
    """Whole batches are cut from tensors that are in memory, without a Python call a sample.

    Args:
        inputs, target: all samples of the stored split.
        prepare: turns stored inputs into network inputs (scaling); called a batch.
        seed: of the augmentation.
        augment: applied before it, to stored inputs; None for evaluation.
        options: those of :class:`BatchLoader`.
    """

    def __init__(self, inputs: Tensor, target: Tensor, order: EpochOrder, batch_size: int, prepare: Callable[[Tensor], Tensor],
                 split: str, seed: int = 0, augment: Augment | None = None, **options):
        super().__init__(target, order, batch_size, split, **options)
        self.inputs, self.prepare, self.seed, self.augment = inputs, prepare, seed, augment

    def views_of(self, rows: Tensor, epoch: int) -> list[Tensor]:
        stored = self.inputs[rows]
        # augmented as stored and scaled behind it, so that what a crop adds at the border is black
        return [self.prepare(stored if self.augment is None else self.augment(stored, rows, self.seed, epoch, view))
                for view in range(self.views)]
