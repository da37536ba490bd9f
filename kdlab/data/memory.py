"""Data sets that fit in memory: splitting, subsets, loaders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from kdlab.errors import InputError

from .augment import Augment
from kdlab.counter import counter_bits
from .loader import EpochOrder, InMemoryLoader, Share

_SPLIT = 2          # the stream of random numbers that chooses validation and subsets


@dataclass
class Images:
    """Stored images (uint8 or float, ``(N, C, H, W)``) and their labels (int64, ``(N,)``)."""

    inputs: Tensor
    target: Tensor


class InMemoryData(L.LightningDataModule):
    """Base of data sets that fit in memory. A subclass gives ``read()`` and the class facts below.

    Validation is held out of the stored training split, the same part of every class, chosen by ``split_seed`` alone: runs with
    different seeds, and their teachers, share it. Test is only touched by :meth:`test_dataloader`.

    Args:
        batch_size: rows of a training batch over all processes.
        evaluation_batch_size: rows of a validation or test batch.
        validation: part of the stored training split that is held out, between 0 and 1.
        split_seed: chooses the held-out part and the subset.
        fraction: part of what remains that is trained on, the same part of every class; a smaller fraction is a subset of a larger.
        omit_classes: classes left out of training (validation and test keep them).
        augment: applied to training images.
        drop_last: leave out the last training batch of an epoch where it is not full.

    Raises:
        ValueError: an argument is out of its range.
    """

    CLASSES: int
    SHAPE: tuple[int, ...]
    SCALE: float = 1.0
    MEAN: float = 0.0
    STD: float = 1.0

    def __init__(self, batch_size: int = 128, evaluation_batch_size: int = 1000, validation: float = 0.1,
                 split_seed: int = 0, fraction: float = 1.0, omit_classes: Sequence[int] = (), augment: Augment | None = None,
                 drop_last: bool = True):
        super().__init__()
        for name, size in (("batch_size", batch_size), ("evaluation_batch_size", evaluation_batch_size)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not 0 < validation < 1:
            raise ValueError(f"validation must lie between 0 and 1 (a part of train), got {validation}")
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be greater than 0 and at most 1, got {fraction}")
        wrong = [number for number in omit_classes if not 0 <= number < self.CLASSES]
        if wrong or len(set(omit_classes)) >= self.CLASSES:
            raise ValueError(f"omit_classes names classes from 0 to {self.CLASSES - 1}, and not all of them; got {list(omit_classes)}")
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self.validation, self.split_seed, self.fraction = validation, split_seed, fraction
        self.omit_classes, self.augment, self.drop_last = tuple(omit_classes), augment, drop_last
        # set by whoever wires the run, before the loaders are asked for: the seed of shuffling and augmentation, the part of every
        # batch that is this process's, and what the strategy asks for
        self.seed = 1
        self.share = Share()
        self.views = 1
        self.order: Callable[[int], Tensor] | None = None
        self._stored: tuple[Images, Images] | None = None
        self._parts: dict[str, Tensor] | None = None

    # -- what a subclass gives ------------------------------------------------------------------------------------------------

    def read(self) -> tuple[Images, Images]:
        """The stored (train, test) images. Raises InputError where the data are missing, naming the folders and the cure."""
        raise NotImplementedError(f"{type(self).__name__} must define read()")

    # -- what a run asks ------------------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Read and split, once. Within a Trainer, learn which share of every batch is this process's."""
        if self.trainer is not None:
            self.share = Share(self.trainer.global_rank, self.trainer.world_size, self.trainer.accumulate_grad_batches,
                               self.trainer.limit_train_batches)
        if self._stored is None:
            self._stored = self.read()
            self._parts = self._split(self._stored[0].target)

    @property
    def train_size(self) -> int:
        """Samples in the stored training split; sample indices are smaller than it."""
        self.setup()
        return len(self._stored[0].target)

    def part(self, name: str) -> Tensor:
        """Sample indices of ``train`` or ``validation``."""
        self.setup()
        return self._parts[name]

    def _split(self, target: Tensor) -> dict[str, Tensor]:
        bits = counter_bits(torch.arange(len(target)), self.split_seed, _SPLIT)
        train, validation = [], []
        for number in range(self.CLASSES):
            rows = (target == number).nonzero().flatten()
            rows = rows[bits[rows].argsort(stable=True)]
            held_out = round(self.validation * len(rows))
            validation.append(rows[:held_out])
            if number not in self.omit_classes:
                kept = rows[held_out:]
                train.append(kept[: max(round(self.fraction * len(kept)), 1)])
        parts = {"train": torch.cat(train).sort().values, "validation": torch.cat(validation).sort().values}
        if not len(parts["validation"]):
            raise InputError(f"data.validation={self.validation} holds out no sample of {len(target)}; make it larger")
        if len(parts["train"]) < 2:
            raise InputError("data: fewer than two training samples are left; see data.fraction, data.omit_classes, data.validation")
        if len(parts["train"]) < self.batch_size and self.drop_last:
            raise InputError(f"data.batch_size={self.batch_size} is larger than the {len(parts['train'])} training samples; "
                             "make it smaller, or set data.drop_last=false")
        return parts

    def prepare_images(self, images: Tensor) -> Tensor:
        """Stored images as the network reads them: scaled to [0, 1], then shifted and divided by the training set's statistics."""
        return (images.to(torch.float32) / self.SCALE - self.MEAN) / self.STD

    def _loader(self, images: Images, rows: Tensor, split: str, share: Share, **more) -> InMemoryLoader:
        size = self.batch_size if split == "train" else self.evaluation_batch_size
        order = EpochOrder(rows, self.seed, shuffle=split == "train", order=self.order if split == "train" else None)
        return InMemoryLoader(images.inputs, images.target, order, size, self.prepare_images, split, self.seed, share=share, **more)

    def train_dataloader(self) -> InMemoryLoader:
        self.setup()
        return self._loader(self._stored[0], self.part("train"), "train", self.share, augment=self.augment,
                            drop_last=self.drop_last, views=self.views)

    def val_dataloader(self) -> InMemoryLoader:
        self.setup()
        return self._loader(self._stored[0], self.part("validation"), "validation", Share(self.share.rank, self.share.world))

    def test_dataloader(self) -> InMemoryLoader:
        self.setup()
        return self._loader(self._stored[1], torch.arange(len(self._stored[1].target)), "test", Share())


def missing_data(name: str, folders: Sequence[Path], cure: str) -> InputError:
    """The error for data that are not there: which folders were looked in, and the command that gets them."""
    looked = ", ".join(str(folder) for folder in folders)
    return InputError(f"data: {name} was not found. Looked in: {looked}. {cure}")
