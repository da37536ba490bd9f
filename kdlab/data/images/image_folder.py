"""Images in class folders: a set that need not fit in memory. Worker processes decode it during training."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdlab.batch import Batch
from kdlab.config.quoting import typed
from kdlab.data.classification import ClassificationData
from kdlab.data.loader import BatchLoader, EpochOrder
from kdlab.errors import LOOP_ENDERS, DataDamaged, InputError, told
from kdlab.normalisation import Normalisation

from .crops import RandomResizedCrop, centre_cropped, cropped
from .listing import Files, Joined, content, listing, split_content, split_listing
from .pixels import Deep, Reader, deep_pixels, is_deep, notes, read_image

__all__ = ["Decoder", "ImageFolder", "ImageFolderLoader", "read_image"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# before training, the headers of HEADS files are read, spread over the data, and all pixels of DEEP files with more
# than 8 bits
HEADS, DEEP = 256, 16


class ImageFolder(ClassificationData[Files | Joined]):
    """``folder/train/CLASS/*.jpg`` and ``folder/test/CLASS/*.jpg`` (whatever Pillow reads; in folders below CLASS,
    too).

    Where there is no ``test``, ``val`` is the test split, as in ImageNet. Validation is held out of train, unless
    ``validation_folder`` names a split of its own. Classes are the sorted names of train's folders, and the other
    splits must have the same. Every image is read as RGB: grey ones, palettes and CMYK are converted, transparency is
    dropped. Images of 16 bits are divided by 256. Those that use fewer bits, and 32-bit integers or floats, need
    ``bits`` or ``value_range`` for their scale. An EXIF orientation is ignored, as torchvision's ImageFolder does,
    unless ``exif_rotation`` is true.

    Args:
        folder: what holds ``train`` and ``test``.
        size: height and width of an input, in pixels.
        resize: length of the shorter side before the centre crop of evaluation, in pixels; None is 8/7 of ``size`` (256
            for 224).
        mean, std: of the pixels in [0, 1], one number or one for red, green and blue; the default is ImageNet's.
        workers: decoding processes per loader; 0 decodes in the training process. The batches are the same bit for bit.
        evaluation_batch_size: rows of a validation or test batch; every worker holds two batches ready.
        augment: applied to training images; None trains on the centre crop of evaluation.
        validation_folder: class folders from which validation is read, in place of a part of train (``validation`` is
            then ignored).
        bits, value_range, exif_rotation: see :class:`kdlab.data.images.pixels.Reader`.
        options: those of :class:`ClassificationData`.

    Raises:
        ValueError: an argument is out of its range.
    """

    NOT_IDENTITY = ("workers",)  # decoding is the same in any process
    CONTENT = {"folder": content, "validation_folder": split_content}

    def __init__(
        self,
        folder: str = "data",
        size: int = 224,
        resize: int | None = None,
        mean: float | Sequence[float] = IMAGENET_MEAN,
        std: float | Sequence[float] = IMAGENET_STD,
        workers: int = 4,
        evaluation_batch_size: int = 100,
        augment: RandomResizedCrop | None = None,
        validation_folder: str | None = None,
        bits: int | None = None,
        value_range: Sequence[float] | None = None,
        exif_rotation: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(evaluation_batch_size=evaluation_batch_size, augment=augment, **options)
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if resize is not None and resize < size:
            raise ValueError(
                f"resize must be at least size={size}, since the centre crop is cut out of it; got {resize}"
            )
        if workers < 0:
            raise ValueError(f"workers must not be negative, got {workers}")
        if augment is not None and not isinstance(augment, RandomResizedCrop):
            raise ValueError(f"augment must be a kdlab.data.RandomResizedCrop or null, got {type(augment).__name__}")
        self.folder, self.size, self.resize, self.workers = Path(folder), size, resize or round(size * 8 / 7), workers
        self.validation_folder = None if validation_folder is None else Path(validation_folder)
        self.reader = Reader(bits, value_range, exif_rotation)
        self._normalisation = Normalisation.of(mean, std)
        if not {len(self._normalisation.mean), len(self._normalisation.std)} <= {1, 3}:
            raise ValueError(f"mean and std must be one number or three, got {mean} and {std}")
        self._loaders: weakref.WeakSet[ImageFolderLoader] = weakref.WeakSet()

    def read(self) -> tuple[Files | Joined, Files | Joined]:
        """The stored (train, test) files; with ``validation_folder``, its files follow those of train.

        Raises:
            InputError: folders are missing or do not match, or ``omit_classes`` names a class that does not exist.
        """
        found = listing(self.folder)
        wrong = self.wrong_omissions()
        if wrong:
            raise InputError(f"data.{wrong}")
        if self.validation_folder is None:
            return found.train, found.test
        return Joined(found.train, split_listing(self.validation_folder, found.train.classes)[0]), found.test

    def held_out(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """With ``validation_folder``, the rows that come from it are validation; otherwise a part of the class is."""
        if self.validation_folder is None:
            return super().held_out(rows)
        theirs = rows >= len(listing(self.folder).train.target)
        return rows[theirs], rows[~theirs]

    def notes(self) -> list[str]:
        """Also files that are left out, a validation folder that is not read, and the depth of a sample of the images.

        Raises:
            InputError: an image of the sample is damaged, or deeper than ``bits`` or ``value_range`` allows.
        """
        return [*super().notes(), *self.listed(), *self._depth()]

    def listed(self) -> list[str]:
        """Warnings that follow from names alone: files that are left out, and a validation folder that is not read."""
        found = listing(self.folder)
        own = self.validation_folder
        unread = [] if own else found.unread
        return [
            *found.left_out,
            *(split_listing(own, found.train.classes)[1] if own else ()),
            *(
                f"data: warning: {folder} is not read: {found.test.folder} is the test split, and validation is held"
                f" out of train; {typed('data.validation_folder', str(folder))} reads it"
                for folder in unread
            ),
        ]

    def problem(self, path: str) -> str | None:
        """Why an image cannot be read; None if it can."""
        try:
            self.reader(path)
        except DataDamaged as error:
            return f"{path}: {error.reason}"
        except InputError as error:
            return str(error)
        return None

    def _depth(self) -> list[str]:
        """Warnings about the depth of the images, from a sample of them."""
        looked_at: list[Deep] = []
        for stored in self._both():
            step = max(1, 2 * len(stored.target) // HEADS)
            deep = [path for row in range(0, len(stored.target), step) if is_deep(path := stored.path(row))]
            looked_at += [deep_pixels(path) for path in deep[:: max(1, 2 * len(deep) // DEEP)]]
        for one in looked_at:
            self.reader.scaled(one)
        return notes(looked_at, self.reader)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by their numbers."""
        return listing(self.folder).train.classes

    @property
    def classes(self) -> int:
        """Number of class folders in train. Lists the folders on first use."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """(3, size, size)."""
        return (3, self.size, self.size)

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation of the pixels in [0, 1], as they were given."""
        return self._normalisation

    def loader(self, stored: Files | Joined, **options: Any) -> ImageFolderLoader:
        """A loader that decodes the images in ``workers`` processes, which :meth:`teardown` ends."""
        decode = self._decoder(stored, options.pop("seed"), options.pop("augment"))
        made = ImageFolderLoader(stored, decode, self.workers, **options)
        self._loaders.add(made)
        return made

    def _decoder(self, stored: Files | Joined, seed: int, augment: RandomResizedCrop | None) -> Decoder:
        return Decoder(stored, self.size, self.resize, self._normalisation, augment, seed, self.reader)

    def teardown(self, stage: str | None = None) -> None:
        """End the worker processes."""
        for made in self._loaders:
            made.close()


class Decoder:
    """Turns rows into inputs: reads, crops, scales. A function of (seed, epoch, view, row): the same in every process.

    Args:
        files: the stored split.
        size, resize, augment: see :class:`ImageFolder`.
        normalisation: applied to the pixels in [0, 1].
        seed: of the augmentation.
        read: an image file as RGB.
    """

    def __init__(
        self,
        files: Files | Joined,
        size: int,
        resize: int,
        normalisation: Normalisation,
        augment: RandomResizedCrop | None,
        seed: int,
        read: Reader | None = None,
    ):
        self.files, self.size, self.resize, self.read = files, size, resize, read or Reader()
        self.normalisation, self.augment, self.seed = normalisation, augment, seed

    def __call__(self, rows: Tensor, epoch: int, views: int) -> list[Tensor]:
        """The inputs (B, 3, size, size), float32, one tensor per view. An image is read once for all views."""
        pixels = [torch.empty(len(rows), 3, self.size, self.size, dtype=torch.uint8) for _ in range(views)]
        drawn = [self.augment.draw(rows, self.seed, epoch, view) for view in range(views)] if self.augment else []
        for place, row in enumerate(rows.tolist()):
            image = self.read(self.files.path(row))
            for view in range(views):
                if self.augment:
                    box, mirrored = self.augment.box(drawn[view][place], *image.size)
                    made = cropped(image, box, self.size, mirrored)
                else:
                    made = centre_cropped(image, self.resize, self.size)
                pixels[view][place] = torch.from_numpy(np.array(made)).permute(2, 0, 1)
        return [self.normalisation(view.to(torch.float32) / 255.0) for view in pixels]


class ImageFolderLoader(BatchLoader):
    """Batches that worker processes decode ahead of the training, in the order of the epoch.

    The workers keep no state of an epoch: each task names its rows and its epoch.

    Args:
        files: the stored split.
        decode: makes inputs of rows.
        workers: number of processes. They live until :meth:`close` or the end of the loader.
        options: those of :class:`BatchLoader`.
    """

    def __init__(
        self,
        files: Files | Joined,
        decode: Decoder,
        workers: int,
        order: EpochOrder,
        batch_size: int,
        split: str,
        **options: Any,
    ):
        super().__init__(files.target, order, batch_size, split, **options)
        self.decode, self.workers = decode, workers
        self._tasks = _Tasks()
        self._pool: DataLoader | None = None

    def views_of(self, rows: Tensor, epoch: int) -> list[Tensor]:
        """The inputs (B, 3, size, size), float32, one tensor per view, decoded in this process."""
        return self.decode(rows, epoch, self.views)

    def __iter__(self) -> Iterator[Batch]:
        if not self.workers or multiprocessing.current_process().daemon:  # a daemon may have no children
            yield from super().__iter__()
            return
        # a generator, as in the base class: the workers get nothing before the first batch is requested, when the epoch
        # is known
        epoch, plan = self.sampler.epoch, list(self.plan())
        self._tasks.tasks = [(rows.numpy(), epoch, self.views) for rows, _ in plan]
        if self._pool is None:
            self._pool = _pool(self.decode, self._tasks, self.workers)
        with _any_number_of_workers():
            answers = iter(self._pool)
        for (rows, normalisers), answer in zip(plan, answers, strict=True):
            if isinstance(answer, InputError):
                raise answer
            yield self.made(rows, answer, epoch, normalisers)

    def close(self) -> None:
        """End the workers. The next epoch starts new ones."""
        self._pool = None


class _Tasks:
    """The sampler of torch's DataLoader: what is sent to the workers in the coming epoch."""

    def __init__(self):
        self.tasks: list[tuple[np.ndarray, int, int]] = []

    def __iter__(self):
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)


class _Answers:
    """The data set of torch's DataLoader. Errors are returned, not raised: DataLoader would bury their message in a
    traceback."""

    def __init__(self, decode: Decoder):
        self.decode = decode

    def __getitem__(self, task: tuple[np.ndarray, int, int]) -> list[Tensor] | InputError:
        rows, epoch, views = task
        try:
            return self.decode(torch.from_numpy(rows), epoch, views)
        except InputError as error:
            return type(error)(*error.problems)  # without its cause, which may not be picklable
        except LOOP_ENDERS as error:  # the DataLoader would end at it
            return InputError(told(error))


def _pool(decode: Decoder, tasks: _Tasks, workers: int) -> DataLoader:
    # forked where possible: the list of files is then shared, not copied, and no script runs a second time
    context = "fork" if sys.platform.startswith("linux") else None
    with _any_number_of_workers():
        return DataLoader(
            cast(Dataset, _Answers(decode)),  # what DataLoader needs is __getitem__
            batch_size=None,
            sampler=tasks,
            num_workers=workers,
            persistent_workers=True,
            collate_fn=_as_it_is,
            worker_init_fn=_end_with_parent,
            multiprocessing_context=context,
            # its own: a draw from the global one would move a resumed run's dropout
            generator=torch.Generator(),
        )


@contextlib.contextmanager
def _any_number_of_workers():
    """Silences torch's advice on the number of workers, which the user chooses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _as_it_is(answer: Any) -> Any:
    return answer


def _end_with_parent(worker: int) -> None:
    """End this process at once when the training process is gone. Its open files (a run's lock) must not outlive a
    killed run."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
