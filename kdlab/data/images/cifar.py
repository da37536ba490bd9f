"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32 x 32 pixels.

Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images", https://www.cs.toronto.edu/~kriz/cifar.html,
whose two versions are read: pickles ("python version") and records of bytes ("binary version").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdlab.data.base import download, missing_data
from kdlab.errors import InputError

from . import pickled
from .memory import Images, InMemoryData

_PIXELS = 3 * 32 * 32


class _Cifar(InMemoryData):
    """What the two sets share. A subclass gives the names and the layout of its files."""

    NOT_IDENTITY = ("folder", "download")  # wherever it lies, it is the same
    SHAPE = (3, 32, 32)
    SCALE = 255.0
    TITLE: str  # for people
    FOLDERS: tuple[str, str]  # how the two versions call their folder: python, binary
    FILES: dict[str, tuple[str, ...]]  # split -> files of the python version; those of the binary version end with .bin
    ROWS: dict[str, int]  # split -> images a file
    LABELS: tuple[bytes, ...]  # number of labels before each image's bytes in the binary version; the last one is used

    def __init__(self, folder: str = "data", download: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.download = Path(folder), download

    def _folders(self) -> list[Path]:
        name = type(self).__name__
        parents = [
            self.folder,
            self.folder / name.lower(),
            self.folder / name,
            self.folder / name.lower().replace("cifar", "cifar-"),
        ]
        return [*parents, *(parent / below for parent in parents for below in self.FOLDERS)]

    def read(self) -> tuple[Images, Images]:
        folder, binary = self._find()
        train, test = (
            _joined([self._read_file(folder / (name + binary), self.ROWS[split]) for name in self.FILES[split]])
            for split in ("train", "test")
        )
        return train, test

    def _find(self) -> tuple[Path, str]:
        """The folder, and the ending of its files: ``""`` (python version) or ``.bin``. One file is enough to find it;
        reading it names the files that are missing."""
        names = [name for split in self.FILES.values() for name in split]
        for folder in self._folders():
            for ending in ("", ".bin"):
                if any((folder / (name + ending)).is_file() for name in names):
                    return folder, ending
        if self.download:
            download(type(self).__name__, self.folder)
            return self.folder / self.FOLDERS[0], ""
        raise missing_data(
            self.TITLE,
            self._folders(),
            "Get it with data.download=true (through torchvision), or unpack the python or the binary version of "
            "https://www.cs.toronto.edu/~kriz/cifar.html there; or name the folder that holds it with paths.data=…",
        )

    def _read_file(self, path: Path, rows: int) -> Images:
        if not path.is_file():
            raise InputError(f"data: {path.parent} holds no {path.name}; the data set there is incomplete")
        try:
            pixels, labels = self._records(path) if path.suffix else self._pickle(path)
            if len(labels) != len(pixels) or len(pixels) != rows:
                raise ValueError(f"it holds {len(pixels)} images and {len(labels)} labels, not {rows}")
            if labels.min() < 0 or labels.max() >= self.CLASSES:
                raise ValueError(
                    f"its labels go from {labels.min()} to {labels.max()}, not from 0 to {self.CLASSES - 1}"
                )
        except (OSError, ValueError) as error:
            raise InputError(f"data: {path} cannot be read ({error}); fetch it again") from error
        return Images(
            torch.from_numpy(pixels.reshape(-1, *self.SHAPE).copy()), torch.from_numpy(labels.astype(np.int64))
        )

    def _pickle(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """A dict with ``data`` (rows of 3,072 bytes: red, green, blue) and the labels."""
        content = pickled.load(path)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not a dict")
        content = {key.encode() if isinstance(key, str) else key: value for key, value in content.items()}
        pixels, labels = content.get(b"data"), content.get(self.LABELS[-1])
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
            raise ValueError(f"its 'data' are no rows of {_PIXELS} bytes")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels) or not labels:
            raise ValueError(f"its '{self.LABELS[-1].decode()}' are no list of whole numbers")
        return pixels, np.array(labels)

    def _records(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Records of a byte for each label and 3,072 bytes of the image."""
        content, size = np.fromfile(path, np.uint8), len(self.LABELS) + _PIXELS
        if not len(content) or len(content) % size:
            raise ValueError(f"it has {len(content)} bytes, which is no multiple of {size}")
        records = content.reshape(-1, size)
        return records[:, len(self.LABELS) :], records[:, len(self.LABELS) - 1]


def _joined(files: list[Images]) -> Images:
    return Images(torch.cat([file.inputs for file in files]), torch.cat([file.target for file in files]))


class CIFAR10(_Cifar):
    """Looked for in ``folder`` and below it, in the python or the binary version.

    Args:
        folder: where the user keeps data sets.
        download: fetch it with torchvision into ``folder`` if it is nowhere.
        options: those of :class:`InMemoryData`.
    """

    CLASSES = 10
    MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    TITLE = "CIFAR-10"
    FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
    FILES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
    ROWS = {"train": 10_000, "test": 10_000}
    LABELS = (b"labels",)


class CIFAR100(_Cifar):
    """Looked for in ``folder`` and below it, in the python or the binary version. The labels are the 100 fine ones.
    Mean and std are those of the tables of Tian, Krishnan, Isola (2020), "Contrastive Representation Distillation",
    https://arxiv.org/abs/1910.10699.

    Args:
        folder: where the user keeps data sets.
        download: fetch it with torchvision into ``folder`` if it is nowhere.
        options: those of :class:`InMemoryData`.
    """

    CLASSES = 100
    MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    TITLE = "CIFAR-100"
    FOLDERS = ("cifar-100-python", "cifar-100-binary")
    FILES = {"train": ("train",), "test": ("test",)}
    ROWS = {"train": 50_000, "test": 10_000}
    LABELS = (b"coarse_labels", b"fine_labels")
