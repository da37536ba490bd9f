"""Images in IDX files: what MNIST and data sets of the same format share."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlab.data.base import download, missing_data
from kdlab.errors import InputError

from .memory import Images, InMemoryData


class IDXImages(InMemoryData):
    """60,000 + 10,000 grey images of 28 x 28 pixels as IDX files (plain or .gz), looked for in ``folder`` and below it.

    The files of all such sets have the same names, so ``folder`` itself is searched only where its name shows which set
    it holds.

    Args:
        folder: where the user keeps data sets.
        download: fetch it with torchvision into ``folder`` if it is nowhere.
        options: those of :class:`InMemoryData`.
    """

    NOT_IDENTITY = ("folder", "download")  # wherever it lies, it is the same
    CLASSES = 10
    SHAPE = (1, 28, 28)
    SCALE = 255.0
    NAME: str  # as people write it
    TORCHVISION: str  # torchvision's class of it, and its folder below ``folder``
    BELOW: tuple[str, ...]  # other folders below ``folder`` that are looked in
    CURE: str  # what to do where it is nowhere

    def __init__(self, folder: str = "data", download: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.folder, self.download = Path(folder), download

    def is_named(self, folder: Path) -> bool:
        """Whether the folder's name shows that it holds this set."""
        raise NotImplementedError(f"{type(self).__name__} must define is_named(folder)")

    def folders(self) -> list[Path]:
        """Where it is looked for, in order."""
        own = [self.folder] if self.is_named(self.folder) else []
        return [*own, *(self.folder / below for below in self.BELOW), self.folder / self.TORCHVISION / "raw"]

    def read(self) -> tuple[Images, Images]:
        """The stored (train, test) images: uint8, (N, 1, 28, 28). With ``download``, missing files are fetched.

        Raises:
            InputError: the files are missing, damaged or do not belong together, or the download failed.
        """
        folder = self._find()
        return _read(folder, "train"), _read(folder, "t10k")

    def _find(self) -> Path:
        for folder in self.folders():
            if any(folder.glob("train-images-idx3-ubyte*")):
                return folder
        if self.download:
            download(self.TORCHVISION, self.folder)
            return self.folder / self.TORCHVISION / "raw"
        raise missing_data(self.NAME, self.folders(), self.CURE)


def _read(folder: Path, part: str) -> Images:
    images, labels = read_idx(folder, f"{part}-images-idx3-ubyte"), read_idx(folder, f"{part}-labels-idx1-ubyte")
    if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
        raise InputError(
            f"data: {folder} holds {part} images of shape {tuple(images.shape)} and labels of shape "
            f"{tuple(labels.shape)}, which do not belong together; fetch it again"
        )
    return Images(images.unsqueeze(1), labels.long())


def read_idx(folder: Path, name: str) -> Tensor:
    """The array of an IDX file, plain or gzipped (LeCun's format: two zero bytes, type, dimensions, sizes, data).

    Raises:
        InputError: the file is missing, truncated or not IDX.
    """
    path = next((found for found in (folder / name, folder / f"{name}.gz") if found.is_file()), None)
    if path is None:
        raise InputError(f"data: {folder} holds no {name}[.gz]; the data set there is incomplete")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if content[:3] != b"\x00\x00\x08":
            raise ValueError("it does not begin as an IDX file of bytes")
        shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
        array = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise InputError(f"data: {path} cannot be read ({error}); fetch it again") from error
    return torch.from_numpy(array.copy())
