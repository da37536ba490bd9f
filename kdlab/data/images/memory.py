"""Data sets that fit in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kdlab.data.base import Data
from kdlab.data.classification import ClassificationData
from kdlab.data.loader import InMemoryLoader
from kdlab.errors import InputError
from kdlab.normalisation import Normalisation

MOST_PREPARED = 512 * 2**20  # bytes of a split's network inputs that are kept in memory
_ROWS = 4096  # samples that are prepared at a time


@dataclass
class Images:
    """Stored images (uint8 or float, ``(N, C, H, W)``) and their labels (int64, ``(N,)``); or any other inputs ``(N,
    ...)`` and targets ``(N, ...)``."""

    inputs: Tensor
    target: Tensor


class InMemory(Data[Images]):
    """Base of data sets of any task that fit in memory. A subclass gives ``read()`` and the facts below.

    Stored values are divided by ``SCALE``, so that they lie in [0, 1]. ``MEAN`` and ``STD`` are those of the scaled
    training set: one number, or one per channel.

    Args:
        options: those of :class:`Data`.

    Raises:
        ValueError: an argument is out of its range.
    """

    CLASSES: int
    SHAPE: tuple[int, ...]
    SCALE: float = 1.0
    MEAN: float | tuple[float, ...] = 0.0
    STD: float | tuple[float, ...] = 1.0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._whole: dict[int, Tensor] = {}
        wrong = self.wrong_omissions()
        if wrong:
            raise ValueError(wrong)

    def read(self) -> tuple[Images, Images]:
        """The stored (train, test) images. Raises InputError where the data are missing; it names the folders and the
        cure."""
        raise NotImplementedError(f"{type(self).__name__} must define read()")

    @property
    def classes(self) -> int:
        """``CLASSES``: how many columns a network's answers have."""
        return self.CLASSES

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (C, H, W) for images: ``SHAPE``, or that of the stored inputs where the class gives
        none."""
        if hasattr(self, "SHAPE"):
            return tuple(self.SHAPE)
        return tuple(self._both()[0].inputs.shape[1:])

    def _check(self, stored: tuple[Images, Images]) -> None:
        super()._check(stored)
        for name, split in zip(("training", "test"), stored):
            found, told = tuple(split.inputs.shape[1:]), tuple(getattr(self, "SHAPE", stored[0].inputs.shape[1:]))
            if found != told:
                raise InputError(f"data: the {name} images have the shape {found}, not {told}; fetch the data again")

    @property
    def normalisation(self) -> Normalisation:
        """``MEAN`` and ``STD`` of the scaled inputs."""
        return Normalisation.of(self.MEAN, self.STD)

    def prepare_images(self, images: Tensor) -> Tensor:
        """Network inputs from stored images: scaled to [0, 1], then normalised with the training set's statistics."""
        return self.normalisation(images.to(torch.float32) / self.SCALE)

    def loader(self, stored: Images, **options: Any) -> InMemoryLoader:
        """A loader that cuts its batches from the stored tensors."""
        drawn = options.get("augment") is not None and getattr(options["augment"], "draws", True)
        whole = None if drawn or not self._can_prepare(stored) else partial(self._prepared, stored)
        return InMemoryLoader(stored.inputs, stored.target, prepare=self.prepare_images, prepared=whole, **options)

    def stored_bytes(self) -> int:
        """Also of the network inputs that are kept."""
        return super().stored_bytes() + sum(value.nbytes for value in self._whole.values())

    def _can_prepare(self, stored: Images) -> bool:
        """Whether all network inputs of a split may be kept: they are small, and their preparation is kdlab's own (one
        of the user's may draw random numbers)."""
        own = type(self).prepare_images is InMemory.prepare_images
        return own and 4 * stored.inputs.numel() <= MOST_PREPARED

    def _prepared(self, stored: Images) -> Tensor:
        """The network inputs of all samples of a split, made once."""
        number = [one is stored for one in self._both()].index(True)
        if number not in self._whole:
            inputs = torch.empty(stored.inputs.shape, dtype=torch.float32)
            for start in range(0, len(inputs), _ROWS):
                inputs[start : start + _ROWS] = self.prepare_images(stored.inputs[start : start + _ROWS])
            self._whole[number] = inputs
        return self._whole[number]


class InMemoryData(InMemory, ClassificationData[Images]):
    """Base of the data sets of classifiers that fit in memory. A subclass gives ``read()`` and the class facts of
    :class:`InMemory`. ``NAMES`` are the names of the classes, if they have any.

    Args:
        options: those of :class:`ClassificationData`; ``augment`` is an :class:`Augment`.

    Raises:
        ValueError: an argument is out of its range.
    """

    NAMES: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """``NAMES``, or the numbers of the classes where there are none."""
        return self.NAMES or super().class_names
