"""Images in class folders: which files there are, as arrays, and what they count as for a run's identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdlab.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
TEST_FOLDERS = ("test", "val")      # the first that exists; ImageNet's val is a test split, since validation is held out of train


@dataclass(frozen=True)
class Files:
    """The images of a split, class by class, names sorted.

    The names lie one behind the other in one array of bytes: a Python object a file would be copied into every worker process, page by
    page, by nothing but the counting of references.
    """

    folder: Path
    classes: tuple[str, ...]
    target: Tensor              # (N,), int64
    names: np.ndarray           # bytes of all names, below ``folder``
    ends: np.ndarray            # (N,): where each name ends

    def path(self, row: int) -> str:
        begin = self.ends[row - 1] if row else 0
        return os.path.join(self.folder, os.fsdecode(self.names[begin : self.ends[row]].tobytes()))


@dataclass(frozen=True)
class Listing:
    """A folder's two splits, and the hash of what was listed."""

    train: Files
    test: Files
    digest: str


_listed: dict[Path, tuple[dict[str, int], Listing]] = {}      # folder -> when its folders were changed last, and what was found


def listing(folder: Path) -> Listing:
    """The images below ``folder/train`` and ``folder/test`` (or ``folder/val``), listed once a process as long as no file comes or goes.

    Raises:
        InputError: a folder is missing or cannot be read, there are fewer than two classes, a class is empty or stands in one split only,
            a file is empty.
    """
    key = Path(folder).absolute()
    if key not in _listed or not _unchanged(_listed[key][0]):
        visited: dict[str, int] = {}
        try:
            _listed[key] = visited, _list(Path(folder), visited)
        except OSError as error:
            raise InputError(f"data: {error.filename or folder} cannot be read ({error.strerror or error})") from error
    return _listed[key][1]


def content(folder: Path) -> str:
    """What an image folder counts as for a run's identity: SHA-256 over split, class, name and size in bytes of every image.

    Not over the pixels: reading all of ImageNet takes longer than many a run. So a file that is replaced by another of the same name
    and size goes unnoticed.
    """
    return listing(folder).digest


def _unchanged(visited: dict[str, int]) -> bool:
    try:
        return all(os.stat(folder).st_mtime_ns == changed for folder, changed in visited.items())
    except OSError:
        return False


def _list(folder: Path, visited: dict[str, int]) -> Listing:
    layout = "it must hold train/CLASS/*.jpg and test/CLASS/*.jpg (or val/CLASS/*.jpg); name it with data.folder=… or paths.data=…"
    if not folder.is_dir():
        raise InputError(f"data: there is no image folder {folder}; {layout}")
    visited[str(folder)] = os.stat(folder).st_mtime_ns
    test = next((name for name in TEST_FOLDERS if (folder / name).is_dir()), None)
    missing = [name for name, found in (("train", (folder / "train").is_dir()), ("test (and no val)", test)) if not found]
    if missing:
        raise InputError(f"data: {folder} holds no folder {' and no '.join(missing)}; {layout}")
    digest = hashlib.sha256()
    classes = _classes(folder / "train", visited)
    if len(classes) < 2:
        raise InputError(f"data: {folder / 'train'} holds {len(classes)} class folders ({', '.join(classes) or 'none'}); it takes at least two")
    theirs = _classes(folder / test, visited)
    _compare(folder / test, theirs, classes)
    splits = [_files(folder / name, classes, as_split, digest, visited) for name, as_split in (("train", "train"), (test, "test"))]
    return Listing(*splits, digest.hexdigest())


def _classes(folder: Path, visited: dict[str, int]) -> list[str]:
    visited[str(folder)] = os.stat(folder).st_mtime_ns
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _compare(folder: Path, found: list[str], expected: list[str]) -> None:
    unknown, lacking = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    if unknown:
        raise InputError(f"data: {folder} has classes that train lacks: {_some(unknown)}; both must have the same class folders")
    if lacking:
        raise InputError(f"data: {folder} lacks classes that train has: {_some(lacking)}; both must have the same class folders")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _files(folder: Path, classes: list[str], split: str, digest, visited: dict[str, int]) -> Files:
    names, lengths, counts, empty = [], [], [], []
    for name in classes:
        found = sorted(_images(folder / name, os.fsencode(name), visited))
        if not found:
            empty.append(name)
        for path, size in found:
            if size == 0:
                raise InputError(f"data: {folder / os.fsdecode(path)} is empty; fetch it again or remove it")
            digest.update(b"%s/%s\0%d\n" % (split.encode(), path, size))
        names.append(np.frombuffer(b"".join(path for path, _ in found), np.uint8))
        lengths.append(np.array([len(path) for path, _ in found], np.int64))
        counts.append(len(found))
    if empty:
        raise InputError(f"data: {folder} has class folders without images ({', '.join(ENDINGS)}): {_some(empty)}; fill them or remove them")
    target = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor(counts))
    return Files(folder, tuple(classes), target, np.concatenate(names), np.concatenate(lengths).cumsum())


def _images(folder: Path, below: bytes, visited: dict[str, int]) -> Iterator[tuple[bytes, int]]:
    """(name below the split, size) of every image in a class folder and the folders in it."""
    visited[str(folder)] = os.stat(folder).st_mtime_ns
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = below + b"/" + os.fsencode(entry.name)
            if entry.is_dir():
                yield from _images(folder / entry.name, name, visited)
            elif entry.name.lower().endswith(ENDINGS):
                yield name, entry.stat().st_size
