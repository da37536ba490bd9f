"""Loaders: what a batch of an epoch holds, and which part of it this process gets. Also the loader of sets that fit in
memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.counter import counter_order
from kdlab.errors import InputError

#: stored inputs, their samples, seed, epoch and view -> the inputs of that view
Augmentation = Callable[[Tensor, Tensor, int, int, int], Tensor]

_ORDER = 1  # the stream of random numbers that shuffles


@dataclass
class Share:
    """Which part of every batch this process gets.

    It is rank ``rank`` of ``world``. ``accumulate`` batches make an optimiser step. The Trainer takes ``limit`` batches
    of an epoch (int), or that part of them (float)."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1
    limit: int | float | None = None

    def taken(self, batches: int) -> int:
        """How many of an epoch's batches are taken."""
        if self.limit is None:
            return batches
        return min(self.limit, batches) if isinstance(self.limit, int) else int(self.limit * batches)


class OwnOrder:
    """A strategy's own ``order(epoch)``, called once per epoch.

    Args:
        order: returns sample indices, ``(N,)``, or groups of them that stay together, ``(N, G)``; the same shape in
            every epoch.
    """

    def __init__(self, order: Callable[[int], Tensor]):
        self.order = order
        self._epoch: int | None = None
        self._made: Tensor | None = None

    def __call__(self, epoch: int) -> Tensor:
        """The order of an epoch, (N,) or (N, G). Raises ValueError where its shape differs from that of the epoch
        before."""
        if self._made is not None and epoch == self._epoch:
            return self._made
        made = self.order(epoch)
        if self._made is not None and made.shape != self._made.shape:
            raise ValueError(
                f"the strategy's order has the shape {tuple(made.shape)} in epoch {epoch} and "
                f"{tuple(self._made.shape)} in epoch {self._epoch}; it must be the same in every epoch"
            )
        self._epoch, self._made = epoch, made
        return made

    def check(self, rows: Tensor) -> None:
        """Raises InputError where the order of the first epoch holds anything but ``rows``, the rows that are trained
        on."""
        made = self(0)
        if not isinstance(made, Tensor) or made.dtype != torch.int64 or made.dim() not in (1, 2) or not made.numel():
            found = f"{tuple(made.shape)} of {made.dtype}" if isinstance(made, Tensor) else type(made).__name__
            raise InputError(
                "strategy: the order that its sampler gives must be sample indices (int64) of shape (N,), or groups of "
                f"shape (N, G), got {found}"
            )
        stray = made[~torch.isin(made, rows)]
        if len(stray):
            raise InputError(
                f"strategy: the order that its sampler gives holds {len(stray)} samples that are not trained on (the "
                f"first is {int(stray[0])}); it must be made of the rows that sampler(target, rows) is given"
            )


class EpochOrder:
    """The order of an epoch: made from (seed, epoch) alone, or by a strategy.

    Lightning finds ``set_epoch`` on a loader's ``sampler`` and calls it. ``len`` is the number of samples in an epoch,
    or of groups of them.

    Args:
        replicas: K of ``data.replicas``; None: each epoch draws its own augmentation.
    """

    def __init__(
        self, rows: Tensor, seed: int, shuffle: bool, order: OwnOrder | None = None, replicas: int | None = None
    ):
        self.rows, self.seed, self.shuffle, self.order, self.replicas = rows, seed, shuffle, order, replicas
        #: the epoch whose augmentation the present epoch draws: with replicas, the present one modulo K
        self.epoch = 0
        self._present = 0
        #: how many batches at the beginning of the present epoch are left out, because they are trained already
        self.batches_done = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch (from 0) whose order is given next, from its first batch. Lightning calls this before each
        epoch."""
        self._present, self.batches_done = epoch, 0
        self.epoch = epoch if self.replicas is None else epoch % self.replicas

    @property
    def present(self) -> int:
        """The present epoch, from 0, also with replicas."""
        return self._present

    def skip(self, batches: int) -> None:
        """Begin the present epoch after that many batches: for a run that is resumed inside it. They are not loaded."""
        self.batches_done = batches

    def __call__(self) -> Tensor:
        """The rows of the present epoch, in order: (N,), or (N, G) where a strategy gives groups."""
        if self.order is not None:
            return self.order(self._present)
        return counter_order(self.rows, self.seed, self._present, _ORDER) if self.shuffle else self.rows

    @property
    def shape(self) -> tuple[int, int]:
        """Groups in an epoch, samples in a group (1 where samples stand alone)."""
        if self.order is None:
            return len(self.rows), 1
        made = self.order(self._present)
        return len(made), 1 if made.dim() == 1 else made.shape[1]

    def __len__(self) -> int:
        return self.shape[0]


class BatchLoader(ABC):
    """Base of the loaders: yields :class:`kdlab.Batch`. A subclass gives :meth:`views_of`.

    ``batch_size`` counts the rows of all processes together, and each process takes its own share of every batch. So a
    run's curve does not depend on the number of processes, as long as no layer looks across the batch and no tail is
    left out. Where the order has groups that stay together, ``batch_size`` and the normaliser count groups. A process's
    batch then holds the first members of all its groups, then all second members, and so on.

    Args:
        target: the labels of the stored split, (N,).
        order: rows of an epoch, in order.
        drop_last: leave out a last batch that is not full. A tail of fewer than two rows (or groups) per process is
            always left out.
        views: how many times each sample is augmented independently: 1 plus the number of ``further_views``.
        mixing: mixes the images of a finished batch; None for evaluation.
        row_counts: how many rows that count each stored sample has, (N,); None: one each.
        position_counts: how many positions of each stored sample count, (N,); None if the inputs are no sequences.
        labelled: which stored samples have a label, (N,); None: all.
    """

    batch_sampler = None  # Lightning asks for it when there is a sampler

    def __init__(
        self,
        target: Tensor,
        order: EpochOrder,
        batch_size: int,
        split: str,
        drop_last: bool = False,
        share: Share | None = None,
        views: int = 1,
        mixing: Callable[[Batch], Batch] | None = None,
        row_counts: Tensor | None = None,
        position_counts: Tensor | None = None,
        labelled: Tensor | None = None,
    ):
        self.row_counts, self.position_counts, self.labelled = row_counts, position_counts, labelled
        self.target, self.sampler, self.batch_size, self.split = target, order, batch_size, split
        self.drop_last, self.share, self.views, self.mixing = drop_last, share or Share(), views, mixing

    @abstractmethod
    def views_of(self, rows: Tensor, epoch: int) -> list:
        """The inputs (B, …) of the given rows in ``epoch``, one per view: tensors, or mappings of tensors, which a
        network gets by name."""

    def _sizes(self) -> list[int]:
        full, tail = divmod(len(self.sampler), self.batch_size)
        keep_tail = tail and not self.drop_last and (self.split != "train" or tail >= 2 * self.share.world)
        return [self.batch_size] * full + [tail] * bool(keep_tail)

    def __len__(self) -> int:
        return len(self._sizes())

    def epoch_rows(self) -> Tensor:
        """The rows of the present epoch, in order: (N,), or (N, G) where a strategy gives groups."""
        return self.sampler()

    def plan(self) -> Iterator[tuple[Tensor, dict[str, float]]]:
        """This process's rows of every batch of the epoch that is not done yet, and the batch's normalisers (the
        fields of :class:`kdlab.Batch`)."""
        rows, start = self.epoch_rows(), 0
        sizes, share = self._sizes(), self.share
        taken = share.taken(len(sizes))
        for number, size in enumerate(sizes[:taken]):
            if number % share.accumulate == 0:
                batches = min(share.accumulate, taken - number)
                in_step = rows[start : start + sum(sizes[number : number + batches])]
            chosen = rows[start : start + size]
            start += size
            if number < self.sampler.batches_done:
                continue
            if share.world > 1:
                chosen = torch.tensor_split(chosen, share.world)[share.rank]
            normalisers = self._normalisers(in_step, share.world * share.accumulate)
            if batches < share.accumulate:  # the last step of the epoch
                for counted, divisor in (("rows", "normaliser"), ("labelled_rows", "labelled_normaliser")):
                    if divisor in normalisers:
                        held = normalisers.get(counted, normalisers[divisor])
                        normalisers[counted] = held * share.accumulate / batches
            yield member_by_member(chosen), normalisers

    def _normalisers(self, in_step: Tensor, parts: int) -> dict[str, float]:
        """The normalisers of a batch: what the samples of the whole optimiser step hold, divided by the number of
        batches that share it."""
        rows = _held(in_step, self.row_counts)
        found = {"normaliser": (rows or 1.0) / parts}  # a step without rows has a sum of 0
        if not rows:
            found["rows"] = 0.0
        if self.row_counts is not None:
            found["sample_normaliser"] = len(in_step) / parts
        if self.position_counts is not None:
            found["position_normaliser"] = _held(in_step, self.position_counts) / parts
        if self.labelled is not None:
            held = _held(in_step, self.labelled.double())
            found["labelled_normaliser"] = max(held, 1.0) / parts  # a step without labels has a sum of 0
            if held < 1.0:
                found["labelled_rows"] = held / parts
        return found

    def __iter__(self) -> Iterator[Batch]:
        # a generator: on resume Lightning makes the iterator before it sets the epoch, and nothing here runs until the
        # first batch
        epoch = self.sampler.epoch
        for mine, normalisers in self.plan():
            yield self.batch(mine, epoch, normalisers)

    def batch(self, rows: Tensor, epoch: int = 0, normalisers: Mapping[str, float] | None = None) -> Batch:
        """The batch of the given rows in ``epoch``."""
        return self.made(rows, self.views_of(rows, epoch), epoch, normalisers)

    def first(self, count: int) -> Batch:
        """A few samples to try things out on: the first of the split, or the first groups of an order of groups."""
        groups = self.sampler.shape[1] > 1
        return self.batch(member_by_member(self.sampler()[:count]) if groups else self.sampler.rows[:count])

    def made(self, rows: Tensor, views: list, epoch: int, normalisers: Mapping[str, float] | None) -> Batch:
        """A batch from inputs that are already loaded. A loader of sequences adds their ``mask``."""
        fields: dict[str, Any] = dict(normalisers or {})
        target = self.target[rows]
        if self.labelled is not None:
            labelled = fields["labelled"] = self.labelled[rows]
            target = torch.where(labelled.view(-1, *[1] * (target.dim() - 1)), target, torch.zeros_like(target))
        batch = Batch(
            views[0],
            target,
            rows,
            further_views=tuple(views[1:]),
            split=self.split,
            epoch=epoch,
            **fields,
        )
        return batch if self.mixing is None else self.mixing(batch)


def _held(samples: Tensor, counts: Tensor | None) -> int | float:
    """What samples (or groups of them, which count once each by their mean) hold in all: one each without counts."""
    if counts is None:
        return len(samples)
    held = counts[samples]
    return held.sum().item() if samples.dim() == 1 else held.double().mean(1).sum().item()


def member_by_member(groups: Tensor) -> Tensor:
    """The samples of groups (N, G): all first members, then all second members, and so on. Samples (N,) stay as they
    are.

    >>> member_by_member(torch.tensor([[1, 2], [3, 4], [5, 6]])).tolist()
    [1, 3, 5, 2, 4, 6]
    """
    return groups if groups.dim() == 1 else groups.t().reshape(-1)


class InMemoryLoader(BatchLoader):
    """Cuts whole batches from tensors in memory, without a Python call per sample.

    Args:
        inputs, target: all samples of the stored split.
        prepare: turns stored inputs into network inputs (scaling); called once per batch.
        seed: of the augmentation.
        augment: applied to stored inputs before ``prepare``; None for evaluation.
        prepared: returns the network inputs of all samples, where nothing is drawn and they fit in memory: then an
            epoch only picks its rows. None: ``prepare`` is called for every batch.
        options: those of :class:`BatchLoader`.
    """

    def __init__(
        self,
        inputs: Tensor,
        target: Tensor,
        order: EpochOrder,
        batch_size: int,
        prepare: Callable[[Tensor], Tensor],
        split: str,
        seed: int = 0,
        augment: Augmentation | None = None,
        prepared: Callable[[], Tensor] | None = None,
        **options: Any,
    ):
        super().__init__(target, order, batch_size, split, **options)
        self.inputs, self.prepare, self.seed, self.augment = inputs, prepare, seed, augment
        self._prepared = prepared
        self._whole: Tensor | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._prepared is not None and self._whole is None:
            self._whole = self._prepared()  # not before: a few samples to try things out on do not need all of them
        yield from super().__iter__()

    def views_of(self, rows: Tensor, epoch: int) -> list[Tensor]:
        """The inputs (B, …) of the rows, augmented and then prepared, one tensor per view."""
        if self._whole is not None:
            return [self._whole[rows] for _ in range(self.views)]
        stored = self.inputs[rows]
        # augmented as stored and scaled afterwards, so that the border that a crop adds is black
        return [
            self.prepare(stored if self.augment is None else self.augment(stored, rows, self.seed, epoch, view))
            for view in range(self.views)
        ]
