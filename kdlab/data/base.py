"""What every data set shares: splitting, subsets, and which process gets which rows of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.counter import counter_bits
from kdlab.errors import InputError
from kdlab.normalisation import Normalisation
from kdlab.tasks.facts import DataFacts

from .column import Column
from .loader import BatchLoader, EpochOrder, OwnOrder, Share

_SPLIT = 2  # the stream of random numbers that chooses validation and subsets


class Stored(Protocol):
    """A stored split: the labels, (N, ...), and anything else that a subclass needs."""

    @property
    def target(self) -> Tensor:
        """The labels, (N, ...)."""


Split = TypeVar("Split", bound=Stored)  # what a data set's stored splits are


class Mixes(Protocol):
    """Mixes the images of a batch, by the run's seed."""

    def __call__(self, batch: Batch, seed: int) -> Batch:
        """The batch with mixed inputs."""


class Data(L.LightningDataModule, Generic[Split]):
    """Base of the data sets. A subclass gives ``read()``, ``loader()``, ``classes`` and ``shape``.

    Validation is held out of the stored training split: the same part of each of :meth:`strata`, chosen by
    ``split_seed`` alone. So runs with different seeds share it with each other and with their teachers. Only
    :meth:`test_dataloader` reads the test split.

    Args:
        batch_size: rows of a training batch over all processes. Where the strategy's order has groups that stay
            together, it counts groups.
        evaluation_batch_size: rows of a validation or test batch.
        validation: part of the stored training split that is held out, between 0 and 1.
        split_seed: chooses the held-out part and the subset.
        fraction: part of the remaining samples that is trained on, the same part of each of :meth:`strata`. A smaller
            fraction is a subset of a larger one.
        augment: applied to training images.
        drop_last: leave out the last training batch of an epoch where it is not full.
        mixing: mixes the images of a training batch; it is called with the batch and the run's seed. A
            :class:`kdlab.data.Mixup` or :class:`kdlab.data.CutMix`.
        augment_seed: of the augmentation; None: the run's seed. With a seed of its own, runs of different seeds see the
            same augmented images in the same epochs, so they can share a teacher's answers (:mod:`kdlab.cache`).
        replicas: K sets of views that are used again and again: epoch e, counted from 0, draws the augmentation of
            epoch e mod K. The order of the samples is still that of epoch e. So K passes of a teacher serve any number
            of epochs, as in Shen and Xing (2022), "A Fast Knowledge Distillation Framework for Visual Recognition",
            https://arxiv.org/abs/2112.01528. None: each epoch draws its own.

    Raises:
        ValueError: an argument is out of its range, or ``replicas`` is given together with ``mixing``.
    """

    #: the names of the inputs that a network must read, where a batch holds inputs by name; empty: one tensor
    INPUTS: tuple[str, ...] = ()
    #: the options that make the training split smaller, for messages
    thins_out: tuple[str, ...] = ("data.fraction", "data.validation")

    def __init__(
        self,
        batch_size: int = 128,
        evaluation_batch_size: int = 1000,
        validation: float = 0.1,
        split_seed: int = 0,
        fraction: float = 1.0,
        augment: Callable | None = None,
        drop_last: bool = True,
        mixing: Mixes | None = None,
        augment_seed: int | None = None,
        replicas: int | None = None,
    ):
        super().__init__()
        for name, size in (("batch_size", batch_size), ("evaluation_batch_size", evaluation_batch_size)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not 0 < validation < 1:
            raise ValueError(f"validation must lie between 0 and 1 (a part of train), got {validation}")
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be greater than 0 and at most 1, got {fraction}")
        if mixing is not None and not callable(mixing):
            raise ValueError(
                "mixing must be a kdlab.data.Mixup or CutMix (choose it with mixing=mixup or mixing=cutmix) or null, "
                f"got {mixing!r}"
            )
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.validation, self.split_seed, self.fraction = validation, split_seed, fraction
        if augment_seed is not None and not 0 <= augment_seed < 2**63:
            raise ValueError(f"augment_seed must be at least 0 and less than 2**63, got {augment_seed}")
        if replicas is not None and replicas < 1:
            raise ValueError(f"replicas must be at least 1 (sets of views), or null, got {replicas}")
        if replicas is not None and mixing is not None:
            raise ValueError(
                f"replicas={replicas} uses the same views again, and mixing makes other images of them in every epoch; "
                "leave one of the two out"
            )
        self.augment, self.drop_last, self.mixing = augment, drop_last, mixing
        self.augment_seed, self.replicas = augment_seed, replicas
        # set while the run is assembled, before the loaders are made: the seed of shuffling and augmentation, this
        # process's part of every batch, and what the strategy asks for
        self.seed = 1
        self.share = Share()
        self.views = 1
        #: from the labels of the stored training split to how many rows each sample has
        #: (:meth:`kdlab.tasks.Task.row_counts`)
        self.row_counts: Callable[[Tensor], Tensor | None] = lambda target: None
        self._order: OwnOrder | None = None
        self._stored: tuple[Split, Split] | None = None
        self._parts: dict[str, Tensor] = {}

    def share_samples(self, other: Data) -> None:
        """Take over the samples in memory of another data set with the same arguments, so that there is one copy."""
        if type(self) is type(other) and other._stored is not None:
            self._stored, self._parts = other._stored, other._parts

    # -- what a subclass gives -----------------------------------------------------------------------------------------

    def read(self) -> tuple[Split, Split]:
        """The stored (train, test) splits. Raises InputError where the data are missing; it names the folders and the
        cure."""
        raise self._undefined("read()")

    def loader(self, stored: Split, **options: Any) -> BatchLoader:
        """A loader of a stored split. ``options``: ``order``, ``batch_size``, ``split``, ``seed``, ``augment``,
        ``drop_last``, ``share``, ``views``, ``mixing``, as :class:`kdlab.data.loader.InMemoryLoader` takes them."""
        raise self._undefined("loader(stored, **options)")

    @property
    def classes(self) -> int:
        """How many columns a network's answers have: classes, labels, or values."""
        raise self._undefined("classes")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        raise self._undefined("shape")

    @property
    def normalisation(self) -> Normalisation | None:
        """How pixels become inputs, known without reading the data; None if the inputs are no pixels."""
        return None

    @property
    def facts(self) -> DataFacts:
        """What a task must know of the data."""
        return DataFacts(self.classes, tuple(self.shape))

    def wrong_fact(self, key: str, stated: object, found: object) -> str:
        """The message where the config states another fact than the data have.

        Args:
            key: ``classes``, ``shape`` or ``vocabulary``.
        """
        have = "are" if key == "shape" else "have"
        if found is None:
            return f"data.{key}={stated}, but these data {have} none; leave it out"
        return f"data.{key}={stated}, but the data {have} {found}; set data.{key}={found}"

    def strata(self, target: Tensor) -> list[Tensor]:
        """Groups of training samples, of each of which the same part is held out and trained on. By default, one group.

        Args:
            target: the labels of the stored training split.
        """
        return [torch.arange(len(target))]

    def trains_on(self, stratum: int) -> bool:
        """Whether the samples of one of :meth:`strata` are trained on."""
        return True

    def wrong_omissions(self) -> str | None:
        """What is wrong with the strata that are left out; None if nothing is."""
        return None

    def labelled_samples(self) -> Tensor | None:
        """Which stored training samples have a label, ``(samples,)`` bool; None: all."""
        return None

    def keep_column(self, key: str, name: str) -> None:
        """Called before the data are read, where :meth:`column` will be called.

        Args:
            key: the option that names the column, for messages.

        Raises:
            InputError: the data have no columns beside their inputs and labels.
        """
        raise InputError(
            f"{key}={name}: {type(self).__name__} has no columns beside inputs and labels; take texts: data=text, "
            "data=causal_text or data=huggingface"
        )

    def column(self, key: str, name: str) -> dict[str, Column]:
        """A column at the stored samples of ``train`` (with validation) and ``test``.

        Args:
            key: the option that names the column, for messages.

        Raises:
            InputError: there is no such column.
        """
        self.keep_column(key, name)
        raise self._undefined("column(key, name)")

    def batch_dependence(self) -> str:
        """Why a network's answer to a sample depends on the other samples in its batch, so that it cannot be kept;
        empty if it does not."""
        return ""

    @property
    def longest(self) -> int | None:
        """The most positions of an input in a batch, with padding; None if the inputs are no texts."""
        return None

    @property
    def longest_for_teacher(self) -> int | None:
        """As :attr:`longest`, of the inputs of a frozen teacher."""
        return self.longest

    @property
    def longest_prompt(self) -> int | None:
        """The most tokens before an answer; None if there are no answers of tokens."""
        return None

    def stored_bytes(self) -> int:
        """Bytes of the tensors and arrays that the data set holds in memory, in its two splits; 0 before they are
        read."""
        return sum(_bytes(value) for split in self._stored or () for value in vars(split).values())

    def label_blocks(self) -> Iterator[Tensor]:
        """The labels of the stored training samples: all, or some samples at a time where they are not in memory."""
        yield self._both()[0].target

    def counted(self, count: Callable[[Tensor], Tensor | None]) -> Tensor | None:
        """What a function of labels counts in each stored training sample; None if it counts nothing."""
        found: list[Tensor] = []
        for labels in self.label_blocks():
            counts = count(labels)
            if counts is None:
                return None
            found.append(counts)
        return found[0] if len(found) == 1 else torch.cat(found)

    def position_counts(self) -> Tensor | None:
        """How many positions of each stored training sample count, ``(samples,)``; None if the inputs are no
        sequences."""
        return None

    def _undefined(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} must define {what}")

    # -- what a run asks -----------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Read and split the data, once. Within a Trainer, note this process's share of every batch."""
        if self.trainer is not None:
            self.share = Share(
                self.trainer.global_rank,
                self.trainer.world_size,
                self.trainer.accumulate_grad_batches,
                self.trainer.limit_train_batches,
            )
        if self._stored is None:
            if self.replicas is not None and not self.draws:
                raise InputError(
                    f"data.replicas={self.replicas}: data.augment draws nothing, so all epochs have the same inputs "
                    "already; leave it out. teacher.cache=fixed keeps one answer to each sample"
                )
            stored = self.read()
            self._check(stored)
            self._parts = self._split(stored[0].target)
            self._stored = stored

    def _both(self) -> tuple[Split, Split]:
        """The stored (train, test) splits, read on first use."""
        self.setup()
        if self._stored is None:
            raise RuntimeError(f"{type(self).__name__}.setup() must call that of kdlab.data.Data, which reads the data")
        return self._stored

    def _check(self, stored: tuple[Split, Split]) -> None:
        """Raises InputError if a split has no samples."""
        for name, split in zip(("training", "test"), stored):
            if not len(split.target):
                raise InputError(f"data: the {name} split holds no samples; fetch the data again")

    @property
    def train_size(self) -> int:
        """Samples in the stored training split; sample indices are smaller than it."""
        return len(self._both()[0].target)

    def part(self, name: str) -> Tensor:
        """Sample indices of ``train`` or ``validation``."""
        self.setup()
        return self._parts[name]

    def _split(self, target: Tensor) -> dict[str, Tensor]:
        bits = counter_bits(torch.arange(len(target)), self.split_seed, _SPLIT)
        train, validation = [], []
        for number, rows in enumerate(self.strata(target)):
            rows = rows[bits[rows].argsort(stable=True)]
            held_out, kept = self.held_out(rows)
            validation.append(held_out)
            if self.trains_on(number):
                train.append(kept[: max(round(self.fraction * len(kept)), 1)])
        parts = {"train": torch.cat(train).sort().values, "validation": torch.cat(validation).sort().values}
        if not len(parts["validation"]):
            raise InputError(f"data.validation={self.validation} holds out no sample of {len(target)}; make it larger")
        if len(parts["train"]) < 2:
            raise InputError(f"data: fewer than two training samples are left; see {', '.join(self.thins_out)}")
        if len(parts["train"]) < self.batch_size and self.drop_last:
            raise InputError(
                f"data.batch_size={self.batch_size} is larger than the {len(parts['train'])} training samples; "
                "make it smaller, or set data.drop_last=false"
            )
        return parts

    def held_out(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The samples of one of :meth:`strata`, in random order, as (validation, train)."""
        count = round(self.validation * len(rows))
        return rows[:count], rows[count:]

    def notes(self) -> list[str]:
        """Warnings to show before training."""
        self.setup()
        return []

    @property
    def augmentation_seed(self) -> int:
        """The seed of the augmentation: ``augment_seed``, or the run's seed."""
        return self.seed if self.augment_seed is None else self.augment_seed

    @property
    def draws(self) -> bool:
        """Whether training inputs differ between epochs and views. An augmentation says by its attribute ``draws``
        whether it draws anything; without one, it does."""
        return self.augment is not None and bool(getattr(self.augment, "draws", True))

    def in_order(self, split: str, views: int = 1, rows: int | None = None) -> BatchLoader:
        """The batches of a split in stored order, for a teacher whose answers are kept. Training samples are augmented
        as in the loader's epoch, and not mixed; the last batch is filled up with the first samples, since the last
        digits of an answer depend on the size of its batch.

        Args:
            split: ``train``, ``validation`` or ``test``.
            views: of each training sample.
            rows: of a training batch; None: ``batch_size``.
        """
        if split != "train":
            return self.val_dataloader() if split == "validation" else self.test_dataloader()
        part, size = self.part("train"), rows or self.batch_size
        whole = part.repeat(-(-size // len(part)) + 1)[: -(-len(part) // size) * size]
        return self.loader(
            self._both()[0],
            order=EpochOrder(whole, self.seed, shuffle=False),
            split=split,
            seed=self.augmentation_seed,
            batch_size=size,
            augment=self.augment,
            views=views,
        )

    def _rows(self, split: str, rows: Tensor, share: Share) -> BatchLoader:
        stored, training = self._both(), split == "train"
        own = self._order if training else None
        order = EpochOrder(rows, self.seed, shuffle=training, order=own, replicas=self.replicas if training else None)
        mixing = functools.partial(self.mixing, seed=self.seed) if training and self.mixing is not None else None
        return self.loader(
            stored[split == "test"],
            order=order,
            split=split,
            seed=self.augmentation_seed,
            share=share,
            batch_size=self.batch_size if training else self.evaluation_batch_size,
            augment=self.augment if training else None,
            drop_last=training and self.drop_last,
            views=self.views if training else 1,
            mixing=mixing,
            row_counts=self.counted(self.row_counts) if training else None,
            position_counts=self.position_counts() if training else None,
            **({"labelled": labelled} if training and (labelled := self.labelled_samples()) is not None else {}),
        )

    @property
    def order(self) -> Callable[[int], Tensor] | None:
        """A strategy's own order of the training samples: see :meth:`kdlab.strategies.Strategy.sampler`; None shuffles.

        Raises:
            InputError: the value is no order of training samples, or is too short for a batch.
        """
        return self._order

    @order.setter
    def order(self, order: Callable[[int], Tensor] | None) -> None:
        self._order = None if order is None else OwnOrder(order)
        if self._order is not None:
            self._order.check(self.part("train"))
            loader = self.train_dataloader()
            if not len(loader):
                cure = "make it smaller, or set data.drop_last=false" if self.drop_last else "there are too few of them"
                raise InputError(
                    f"data.batch_size={self.batch_size}: the strategy's order has {len(loader.sampler)} samples, or "
                    f"groups of them, and they make no batch; {cure}"
                )

    def train_dataloader(self) -> BatchLoader:
        """The training batches: in the order of the epoch, augmented, and only this process's share of each."""
        return self._rows("train", self.part("train"), self.share)

    def val_dataloader(self) -> BatchLoader:
        """The validation batches, in stored order and without augmentation; each process gets its share."""
        return self._rows("validation", self.part("validation"), Share(self.share.rank, self.share.world))

    def test_dataloader(self) -> BatchLoader:
        """The test batches, in stored order and without augmentation; each process gets all of them."""
        return self._rows("test", torch.arange(len(self._both()[1].target)), Share())


def _bytes(value: object) -> int:
    """Bytes of a tensor or an array, or of those that a dataclass is made of. What is mapped from a file counts
    nothing."""
    if isinstance(value, np.memmap):
        return 0
    if isinstance(value, (Tensor, np.ndarray)):
        return value.nbytes
    return sum(map(_bytes, vars(value).values())) if is_dataclass(value) else 0


def missing_data(name: str, folders: Sequence[Path], cure: str) -> InputError:
    """The error for missing data: the folders that were searched, and the command that fetches the data."""
    looked = ", ".join(str(folder) for folder in folders)
    return InputError(f"data: {name} was not found. Looked in: {looked}. {cure}")


def download(name: str, folder: Path) -> None:
    """Fetch torchvision's data set of that name into a folder.

    Raises:
        InputError: torchvision is not installed, or cannot fetch it.
    """
    try:
        from torchvision import datasets
    except ImportError as error:
        raise InputError("data.download=true needs torchvision: pip install torchvision") from error
    try:
        getattr(datasets, name)(str(folder), download=True)
    except (OSError, RuntimeError) as error:  # no network, a full disk, a file that does not have its checksum
        raise InputError(f"data.download: {name} could not be fetched into {folder} ({error})") from error
