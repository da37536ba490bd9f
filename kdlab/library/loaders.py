"""Loaders of one's own as kdlab reads them: they yield batches of kdlab, with the number of each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SubsetRandomSampler
from torch.utils.data.distributed import DistributedSampler

from kdlab.batch import Batch
from kdlab.counter import derived_seed
from kdlab.data.loader import BatchLoader, member_by_member
from kdlab.data.random_numbers import restored_generator, restored_random_numbers, seed_all
from kdlab.errors import InputError

from .numbering import KNOWN_SAMPLERS, Groups, fetched, is_map_style, labels_of, numbering

_ORDER = 41  # the stream of random numbers of loaders that have no generator of their own
#: the number of a sample that has none: a table that is indexed by it fails
UNKNOWN = torch.iinfo(torch.int64).min
#: the entries of a dict that can be the label
TARGETS = ("target", "labels", "label")
_FIELDS = {field.name for field in fields(Batch)} - {"target"}


class Batches:
    """A loader whose batches are :class:`kdlab.Batch`.

    A batch of the loader may be a pair ``(inputs, target)``, a dict, or a Batch. A dict holds the label as ``target``,
    ``label`` or ``labels``. If it has ``inputs``, all its entries are fields of a Batch. Otherwise the entries other
    than the label are the inputs, as one dict.

    The *number* of a sample is its index in the data set. It is known for a ``DataLoader`` of a map-style data set, for
    a list of batches, and where the batches hold it as ``index``. The loader's sampler, batch size, workers, collation
    and generator stay as they are. If the loader has no generator, the order of an epoch follows from seed and epoch.

    Args:
        loader: a ``DataLoader``, or anything else that can be iterated in each epoch and has a length.
        role: its name in messages.
        split: ``train``, ``validation`` or ``test``.
        seed: of the order and of augmentation, for the training split.

    Raises:
        InputError: the loader is an iterator, has no length, or is empty.
    """

    batch_sampler = None  # Lightning asks for it when there is a sampler

    def __init__(self, loader: Iterable, role: str = "train", split: str = "train", seed: int = 1):
        if isinstance(loader, Batches):
            loader = loader.given
        _refuse_unusable(loader, role)
        self.given: Any = loader
        self.role, self.split, self.seed, self.epoch = role, split, seed, 0
        self.loader: Any = numbering(loader) if is_map_style(loader) else loader
        self._numbers = self.loader is not loader
        #: the labels of the stored training split, by number; the labels of all batches are compared with them
        self.labels: Tensor | None = loader.target if isinstance(loader, BatchLoader) else None
        #: how many classes the labels may be of; None: not checked
        self.classes: int | None = None
        #: raises InputError for labels that are not of the task
        self.check_labels: Callable[[Tensor], None] = lambda target: None
        self._groups: Groups | None = None

    def __len__(self) -> int:
        return len(self.loader) if self._groups is None else len(self._groups)

    # -- the epoch -----------------------------------------------------------------------------------------------------

    @property
    def sampler(self) -> Batches:
        """Itself: Lightning looks here for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch (from 0), for this loader and for the loader's own sampler."""
        self.epoch = epoch
        batch_sampler = getattr(self.given, "batch_sampler", None)
        own = [getattr(self.given, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
        for sampler in {id(one): one for one in own}.values():
            if callable(set_epoch := getattr(sampler, "set_epoch", None)):
                set_epoch(epoch)

    def __iter__(self) -> Iterator[Batch]:
        # a generator: on resume Lightning makes the iterator before it sets the epoch
        epoch, start = self.epoch, 0
        self._refuse_several_processes()
        if self.split == "train":
            seed_all(derived_seed(self.seed, epoch, _ORDER))
        for item in self.loader:
            batch = self._batch(item, start, epoch)
            start += len(batch)
            yield batch

    def _refuse_several_processes(self) -> None:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        if several and self.split == "train" and torch.distributed.get_world_size() > 1:
            if not isinstance(getattr(self.given, "sampler", None), DistributedSampler):
                raise InputError(
                    f"{self.role}: several processes train together, and each would read all samples; give the "
                    "DataLoader a sampler=torch.utils.data.DistributedSampler(dataset)"
                )

    # -- what is known of the samples ----------------------------------------------------------------------------------

    @property
    def dataset(self):
        """The data set of a DataLoader; None for other loaders."""
        return self.given.dataset if isinstance(self.given, DataLoader) else None

    @property
    def batch_size(self) -> int | None:
        """Samples of a batch, if the loader says so."""
        size = getattr(self.given, "batch_size", None)
        return size if isinstance(size, int) else None

    @property
    def size(self) -> int | None:
        """Samples of the stored split; None where that is not known."""
        if isinstance(self.given, BatchLoader):
            return len(self.given.target)
        if self._numbers:
            return len(self.dataset)
        if isinstance(self.given, (list, tuple)):
            return int(self._listed()[0].max()) + 1
        return None if self.labels is None else len(self.labels)

    def _listed(self) -> tuple[Tensor, Tensor]:
        """The numbers and labels of a list of batches. Samples without a number have their place in the list."""
        numbers, targets, start = [], [], 0
        for batch in (as_batch(item, self.role) for item in self.given):
            target = cast(Tensor, batch.target)  # as_batch refuses batches without
            count = len(target)
            numbers.append(torch.arange(start, start + count) if batch.index is None else batch.index.cpu())
            targets.append(target.cpu())
            start += count
        return torch.cat(numbers), torch.cat(targets)

    @property
    def rows(self) -> Tensor | None:
        """The numbers of the samples that the loader reads; None: all.

        Raises:
            InputError: a sampler of one's own reads a part that is not known.
        """
        sampler = getattr(self.given, "sampler", None)
        if isinstance(self.given, BatchLoader):
            return self.given.sampler.rows
        if isinstance(self.given, (list, tuple)):
            return self._listed()[0].unique()
        if not self._numbers:
            return None
        if isinstance(sampler, SubsetRandomSampler):
            return torch.as_tensor([int(number) for number in sampler.indices])
        if isinstance(sampler, Sized) and type(sampler) not in KNOWN_SAMPLERS and len(sampler) < len(self.dataset):
            raise InputError(
                f"{self.role}: {type(sampler).__name__} reads {len(sampler)} of {len(self.dataset)} samples, and a "
                "term or strategy that remembers samples must know which; use torch.utils.data.Subset(dataset, numbers)"
            )
        return None

    def numbered(self, batch: Batch) -> bool:
        """Whether the samples of a batch have their numbers."""
        return bool((batch.index != UNKNOWN).all())

    def find_labels(self) -> Tensor | None:
        """The labels of all samples by number, from the data set's own list of them; None if it has none."""
        if self.labels is None:
            if isinstance(self.given, (list, tuple)):
                index, target = self._listed()
                self.labels = target.new_zeros((int(index.max()) + 1, *target.shape[1:]))
                self.labels[index] = target
            elif self.dataset is not None:
                self.labels = labels_of(self.dataset)
        return self.labels

    # -- batches -------------------------------------------------------------------------------------------------------

    def first(self, count: int) -> Batch:
        """A few samples to try things out on. No random number of the training is used up for them."""
        with restored_random_numbers(), restored_generator(self.given):
            if self._groups is not None:
                numbers = member_by_member(self._groups.order(0)[:count]).tolist()
                item = self.loader.collate_fn(fetched(self.loader.dataset, numbers))
            elif isinstance(self.given, BatchLoader):
                return self.given.first(count)
            elif self._numbers:
                count = min(count, self.batch_size or count)
                numbers = list(range(len(self.dataset))) if self.rows is None else self.rows.tolist()
                item = self.loader.collate_fn(fetched(self.loader.dataset, numbers[:count]))
            else:
                item = next(iter(self.loader), None)
                if item is None:
                    raise InputError(f"{self.role}: the loader yields no batch")
        batch = self._batch(item, 0, 0)
        return batch.part(0, min(count, len(batch))) if self._groups is None else batch

    def _batch(self, item: Any, start: int, epoch: int) -> Batch:
        numbers = None
        if self._numbers:
            numbers, item = item
        batch = as_batch(item, self.role)
        if batch.index is None:
            if numbers is None and (self.split != "train" or isinstance(self.given, (list, tuple))):
                numbers = torch.arange(start, start + len(batch.target))
            index = torch.full((len(batch.target),), UNKNOWN) if numbers is None else numbers
            if len(index) != len(batch.target):
                raise InputError(
                    f"{self.role}: collate_fn made a batch of {len(batch.target)} labels of {len(index)} samples; it "
                    'must keep them, or yield a dict with "inputs", "target" and "index"'
                )
            batch = batch.replace(index=index.to(batch.target.device))
        batch = batch.replace(split=self.split, epoch=epoch)
        self._check(batch)
        return batch

    def _check(self, batch: Batch) -> None:
        """Raises InputError for labels that are not those of the classes or of the data set."""
        target = cast(Tensor, batch.target)
        try:
            self.check_labels(target)
        except InputError as error:
            raise InputError(*(f"{self.role}: {problem}" for problem in error.problems)) from error
        if self.classes is not None and target.numel():
            low, high = (int(value) for value in target.aminmax())
            if low < 0 or high >= self.classes:
                raise InputError(
                    f"{self.role}: the labels of a batch go from {low} to {high}, and not from 0 to "
                    f"{self.classes - 1}, as of {self.classes} classes"
                )
        # labels of texts on disk are not in one tensor
        listed = self.labels is not None and self.labels.dim() == target.dim()
        if self.labels is not None and listed and self.split == "train" and self.numbered(batch):
            index = batch.index.cpu()
            inside = (index >= 0) & (index < len(self.labels))
            wrong = ~inside
            differing = self.labels[index[inside]] != target.cpu()[inside]
            wrong[inside] = differing.reshape(len(differing), -1).any(1)
            if wrong.any():
                number = int(index[wrong][0])
                raise InputError(
                    f"{self.role}: sample {number} has the label {target.cpu()[wrong][0].tolist()} in its batch, and "
                    "another one in the list of all labels; give the right list with labels="
                )

    def follow(self, order: Callable[[int], Tensor]) -> None:
        """Read the samples in a strategy's own order in place of the sampler's.

        Raises:
            InputError: the loader cannot be read by number.
        """
        own = getattr(self.given, "batch_sampler", None)
        if not self._numbers or type(own) is not BatchSampler or type(own.sampler) not in KNOWN_SAMPLERS[:3]:
            raise InputError(
                f"{self.role}: the strategy has an order of samples of its own, so the loader must be a DataLoader of "
                "a data set with numbered samples, with batch_size= and at most shuffle=True or a SubsetRandomSampler"
            )
        self._groups = Groups(order, own.batch_size, own.drop_last, self)
        if not len(self._groups):
            raise InputError(f"{self.role}: its samples make no batch of {own.batch_size}; choose a smaller batch_size")
        self.loader = numbering(self.given, self._groups)


def _refuse_unusable(loader: Any, role: str) -> None:
    if isinstance(loader, Dataset):
        raise InputError(f"{role} is a data set; give a loader: torch.utils.data.DataLoader({role}, batch_size=128)")
    if isinstance(loader, (str, bytes, Mapping, Tensor)) or not isinstance(loader, Iterable):
        raise InputError(f"{role} must be a DataLoader, or a list of batches, got {type(loader).__name__}")
    if isinstance(loader, Iterator):
        raise InputError(f"{role} is an iterator, which ends after one epoch; give the loader itself, or a list")
    try:
        length = len(cast(Sized, loader))
    except TypeError as error:
        raise InputError(
            f"{role}: the loader has no length, so the end of an epoch is not known; give its data set __len__"
        ) from error
    if not length:
        raise InputError(f"{role}: the loader has no batch")


def as_batch(item: Any, role: str) -> Batch:
    """A batch of a loader as a Batch; its index may be missing (None).

    >>> as_batch((torch.zeros(2, 3), torch.tensor([1, 0])), "train").target
    tensor([1, 0])
    >>> as_batch({"tokens": torch.zeros(2, 3), "labels": torch.tensor([1, 0])}, "train").inputs.keys()
    dict_keys(['tokens'])

    Raises:
        InputError: it is none.
    """
    if isinstance(item, Batch):
        return item
    if isinstance(item, Mapping):
        names = [name for name in TARGETS if name in item]
        if len(names) != 1:
            raise InputError(
                f"{role}: a batch is a dict of {', '.join(map(str, item))}; it must hold its labels as one of "
                f"{', '.join(TARGETS)}"
            )
        rest = {name: value for name, value in item.items() if name != names[0]}
        if "inputs" in rest:
            if strangers := [name for name in rest if name not in _FIELDS]:
                raise InputError(
                    f'{role}: a batch has "inputs" and also "{strangers[0]}", which is no field of kdlab.Batch; put '
                    "all that the network reads into inputs"
                )
            batch = Batch(target=item[names[0]], **{"index": None, **rest})
        else:
            batch = Batch(rest, item[names[0]], rest.pop("index", None))
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        batch = Batch(item[0], item[1], cast(Any, None))
    else:
        what = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else type(item).__name__
        raise InputError(
            f"{role}: a batch must be a pair (inputs, target), a dict or a kdlab.Batch, got a {what}; change the "
            "collate_fn"
        )
    return _checked(batch, role)


def _checked(batch: Batch, role: str) -> Batch:
    target = batch.target
    if not isinstance(target, Tensor) or target.dim() < 1:
        raise InputError(f"{role}: the labels of a batch must be a tensor (samples,), got {_kind(target)}")
    if isinstance(batch.inputs, Tensor) and (not batch.inputs.dim() or len(batch.inputs) != len(target)):
        raise InputError(
            f"{role}: a batch has inputs of shape {tuple(batch.inputs.shape)} and {len(target)} labels; the first "
            "dimension must be the samples"
        )
    whole = not target.is_floating_point() and target.dtype != torch.bool
    return batch.replace(target=target.long()) if whole else batch


def _kind(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
