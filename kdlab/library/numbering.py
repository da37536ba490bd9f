"""DataLoaders whose samples come with their numbers in the data set."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Sequence, Sized
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from kdlab.data.loader import member_by_member

#: samplers that read all samples, or say which
KNOWN_SAMPLERS = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler)


class Epochs(Protocol):
    """What knows the present epoch."""

    epoch: int


class Groups:
    """A batch sampler of groups of samples that stay together."""

    def __init__(self, order: Callable[[int], Tensor], batch_size: int, drop_last: bool, batches: Epochs):
        self.order, self.batch_size, self.drop_last, self.batches = order, batch_size, drop_last, batches

    def _starts(self, count: int) -> range:
        tail = count % self.batch_size
        return range(0, count - tail if self.drop_last or tail < 2 else count, self.batch_size)

    def __len__(self) -> int:
        return len(self._starts(len(self.order(self.batches.epoch))))

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(self.batches.epoch)
        for start in self._starts(len(order)):
            yield member_by_member(order[start : start + self.batch_size]).tolist()


class _Numbered(Dataset):
    """A data set whose items come with their numbers."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number):
        return number, self.dataset[number]

    def __getitems__(self, numbers):
        several = getattr(self.dataset, "__getitems__", None)  # as the DataLoader asks a data set
        items = several(numbers) if several else [self.dataset[number] for number in numbers]
        return list(zip(numbers, items, strict=True))

    def __getattr__(self, name):
        if name == "dataset" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dataset, name)  # for a worker_init_fn that looks at the data set


class _Collated:
    """A collation that keeps the numbers."""

    def __init__(self, collate_fn: Callable):
        self.collate_fn = collate_fn

    def __call__(self, pairs):
        try:
            numbers = torch.tensor([operator.index(number) for number, _ in pairs])
        except TypeError:  # a data set with keys of another kind
            numbers = None
        return numbers, self.collate_fn([item for _, item in pairs])


def fetched(dataset: _Numbered, numbers: Sequence[int]) -> list:
    """Items of a data set with their numbers, as a DataLoader fetches them."""
    return dataset.__getitems__(list(numbers))


def is_map_style(loader: object) -> TypeGuard[DataLoader]:
    """Whether a loader is a DataLoader of a data set whose samples have numbers, in batches that it makes itself."""
    # not a subclass, which may iterate in its own way
    return (
        type(loader) is DataLoader
        and not isinstance(loader.dataset, IterableDataset)
        and loader.batch_sampler is not None
        and isinstance(loader.dataset, Sized)
    )


def numbering(loader: DataLoader, batch_sampler: Any = None) -> DataLoader:
    """The same loader with numbered items."""
    kept: tuple[str, ...] = (
        "num_workers",
        "pin_memory",
        "timeout",
        "worker_init_fn",
        "multiprocessing_context",
        "generator",
    )
    kept += ("prefetch_factor", "persistent_workers", "pin_memory_device", "in_order")
    known = inspect.signature(DataLoader.__init__).parameters
    return DataLoader(
        _Numbered(loader.dataset),
        batch_sampler=batch_sampler or loader.batch_sampler,
        collate_fn=_Collated(loader.collate_fn),
        **{name: getattr(loader, name) for name in kept if name in known and hasattr(loader, name)},
    )


def labels_of(dataset: Any) -> Tensor | None:
    """The labels of a data set's samples in their order, where it has a list of them: a TensorDataset of inputs and
    labels, ``targets`` (torchvision), ``labels``, or a Subset of such a set. None otherwise.

    >>> whole = TensorDataset(torch.zeros(3, 2), torch.tensor([5, 6, 7]))
    >>> labels_of(whole), labels_of(Subset(whole, [2, 0]))
    (tensor([5, 6, 7]), tensor([7, 5]))
    """
    if isinstance(dataset, Subset):
        whole = labels_of(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor([int(number) for number in dataset.indices])]
    if isinstance(dataset, TensorDataset):
        found = dataset.tensors[1] if len(dataset.tensors) == 2 else None
    else:
        found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    try:
        labels = None if found is None else torch.as_tensor(found).cpu()
    except (TypeError, ValueError, RuntimeError):
        return None
    if labels is None or labels.is_floating_point() or labels.shape != (len(dataset),):
        return None
    return labels.long()
