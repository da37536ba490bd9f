"""Images in class folders: which files there are, as arrays, and their hash for a run's identity."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from kdlab.errors import InputError, shortened

from .endings import counted, is_image, left_out

# the first that exists; ImageNet's val is a test split, since validation is held out of train
TEST_FOLDERS = ("test", "val")
# usual names of a split that only data.validation_folder reads
VALIDATION_FOLDERS = ("val", "valid", "validation", "dev")


@dataclass(frozen=True)
class Files:
    """The images of a split, class by class, names sorted.

    The names are joined in one array of bytes. With a Python object per file, reference counting alone would copy the
    memory, page by page, into every worker process.
    """

    folder: Path
    classes: tuple[str, ...]
    target: Tensor  # (N,), int64
    names: np.ndarray  # bytes of all names, below ``folder``
    ends: np.ndarray  # (N,): where each name ends

    def path(self, row: int) -> str:
        """The path of the image in a row."""
        begin = self.ends[row - 1] if row else 0
        return os.path.join(self.folder, os.fsdecode(self.names[begin : self.ends[row]].tobytes()))


@dataclass(frozen=True)
class Joined:
    """The images of two splits as one: those of the first, then those of the second. Both have the same classes."""

    first: Files
    second: Files

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.first.classes

    @cached_property
    def target(self) -> Tensor:
        """The labels of both splits, (N,), int64."""
        return torch.cat([self.first.target, self.second.target])

    def path(self, row: int) -> str:
        """The path of the image in a row; rows of ``second`` follow those of ``first``."""
        own = len(self.first.target)
        return self.first.path(row) if row < own else self.second.path(row - own)


@dataclass(frozen=True)
class Listing:
    """A folder's two splits, and the hash of what was listed.

    Args:
        left_out: warnings about files that may have been meant as images and are not read.
        unread: folders that look like a validation split and are not read.
    """

    train: Files
    test: Files
    digest: str
    left_out: tuple[str, ...] = ()
    unread: tuple[Path, ...] = ()


@dataclass
class _Seen:
    """Notes made while folders are listed: when each was last changed, endings of files that are no images, and images
    outside the class folders."""

    changed: dict[str, int] = field(default_factory=dict)
    endings: Counter = field(default_factory=Counter)
    beside: Counter = field(default_factory=Counter)

    def folder(self, folder: Path) -> None:
        self.changed[str(folder)] = os.stat(folder).st_mtime_ns

    def lines(self, folder: Path) -> tuple[str, ...]:
        number = sum(self.endings.values())
        told = (
            [
                f"data: warning: {folder}: left out: {number} file{'s' if number > 1 else ''}"
                f" ({counted(self.endings)}), which Pillow does not read by their names; rename or convert them, or"
                " remove them"
            ]
            if number
            else []
        )
        return *told, *(
            f"data: warning: {place}: left out: {count} image{'s' if count > 1 else ''} in no class folder"
            for place, count in self.beside.items()
        )


Found = TypeVar("Found")
_listed: dict[
    tuple, tuple[dict[str, int], object]
] = {}  # what was listed -> when its folders were last changed, and what was found


def listing(folder: Path) -> Listing:
    """The images below ``folder/train`` and ``folder/test`` (or ``folder/val``). Each process lists them once, and
    again when a file is added or removed.

    Raises:
        InputError: a folder is missing or cannot be read, there are fewer than two classes, a class is empty or in one
            split only, or a file is empty.
    """
    return _once((Path(folder).absolute(),), folder, lambda seen: _list(Path(folder), seen))


def split_listing(folder: Path, classes: tuple[str, ...]) -> tuple[Files, tuple[str, ...]]:
    """The images of one more split, ``folder/CLASS/*.jpg``, and warnings about files that are left out. Each process
    lists them once, and again when a file is added or removed.

    Raises:
        InputError: it is missing or cannot be read, its classes are not those of train, a class is empty, a file is
            empty.
    """

    def make(seen: _Seen) -> tuple[Files, tuple[str, ...]]:
        return _split(Path(folder), classes, seen, hashlib.sha256()), seen.lines(folder)

    return _once((Path(folder).absolute(), classes), folder, make)


def _once(key: tuple, folder: Path, make: Callable[[_Seen], Found]) -> Found:
    if key not in _listed or not _unchanged(_listed[key][0]):
        seen = _Seen()
        try:
            _listed[key] = seen.changed, make(seen)
        except OSError as error:
            raise InputError(f"data: {error.filename or folder} cannot be read ({error.strerror or error})") from error
    return cast(Found, _listed[key][1])  # of the same key, so of the same make


def content(folder: Path) -> str:
    """The hash of an image folder for a run's identity: SHA-256 over split, class, name and size in bytes of every
    image.

    The pixels are not hashed: reading all of ImageNet takes longer than many runs. So a file that is replaced by
    another of the same name and size goes unnoticed.
    """
    return listing(folder).digest


def split_content(folder: Path) -> str:
    """The hash of one split for a run's identity, as in :func:`content`."""

    def make(seen: _Seen) -> str:
        digest = hashlib.sha256()
        _split(folder, tuple(_classes(folder, seen)), seen, digest)
        return digest.hexdigest()

    return _once((Path(folder).absolute(), "content"), folder, make)


def _unchanged(visited: dict[str, int]) -> bool:
    try:
        return all(os.stat(folder).st_mtime_ns == changed for folder, changed in visited.items())
    except OSError:
        return False


def _list(folder: Path, seen: _Seen) -> Listing:
    layout = (
        "it must hold train/CLASS/*.jpg and test/CLASS/*.jpg (or val/CLASS/*.jpg); name it with data.folder=… or "
        "paths.data=…"
    )
    if not folder.is_dir():
        raise InputError(f"data: there is no image folder {folder}; {layout}")
    seen.folder(folder)
    test = next((name for name in TEST_FOLDERS if (folder / name).is_dir()), None)
    missing = [
        name
        for name, found in (("train", (folder / "train").is_dir()), ("test (and no val)", test is not None))
        if not found
    ]
    if missing or test is None:
        there = shortened(
            sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        )
        raise InputError(
            f"data: {folder} holds no folder {' and no '.join(missing)}; {layout}"
            + (f" (there are {there})" if there else "")
        )
    digest = hashlib.sha256()
    classes = _classes(folder / "train", seen)
    if len(classes) < 2:
        raise InputError(
            f"data: {folder / 'train'} holds {len(classes)} class folders ({', '.join(classes) or 'none'}); it takes "
            "at least two"
        )
    theirs = _classes(folder / test, seen)
    _compare(folder / test, theirs, classes)
    train_files = _files(folder / "train", classes, "train", digest, seen)
    test_files = _files(folder / test, classes, "test", digest, seen)
    others = sorted(path for path in folder.iterdir() if path.name.lower() in VALIDATION_FOLDERS and path.name != test)
    unread = tuple(path for path in others if path.is_dir())
    return Listing(train_files, test_files, digest.hexdigest(), seen.lines(folder), unread)


def _split(folder: Path, classes: tuple[str, ...], seen: _Seen, digest: hashlib._Hash) -> Files:
    """One split by itself."""
    if not folder.is_dir():
        raise InputError(
            f"data.validation_folder: there is no folder {folder}; it must hold CLASS/*.jpg, as train does"
        )
    _compare(folder, _classes(folder, seen), list(classes))
    return _files(folder, list(classes), "validation", digest, seen)


def _classes(folder: Path, seen: _Seen) -> list[str]:
    seen.folder(folder)
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                found.append(entry.name)
            elif is_image(entry.name):
                seen.beside[folder] += 1
    return sorted(found)


def _compare(folder: Path, found: list[str], expected: list[str]) -> None:
    unknown, lacking = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    if unknown:
        raise InputError(
            f"data: {folder} has classes that train lacks: {shortened(unknown)}; both must have the same class folders"
        )
    if lacking:
        raise InputError(
            f"data: {folder} lacks classes that train has: {shortened(lacking)}; both must have the same class folders"
        )


def _files(folder: Path, classes: list[str], split: str, digest: hashlib._Hash, seen: _Seen) -> Files:
    names, lengths, counts, empty = [], [], [], []
    for name in classes:
        found = sorted(_images(folder / name, os.fsencode(name), seen))
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
        others = f" (there are files left out: {counted(seen.endings)})" if seen.endings else ""
        raise InputError(
            f"data: {folder} has class folders without images that Pillow reads: {shortened(empty)}{others}; fill them "
            "or remove them"
        )
    target = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor(counts))
    return Files(folder, tuple(classes), target, np.concatenate(names), np.concatenate(lengths).cumsum())


def _images(folder: Path, below: bytes, seen: _Seen) -> Iterator[tuple[bytes, int]]:
    """(name below the split, size) of every image in a class folder and the folders in it."""
    seen.folder(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = below + b"/" + os.fsencode(entry.name)
            if entry.is_dir():
                yield from _images(folder / entry.name, name, seen)
            elif is_image(entry.name):
                yield name, entry.stat().st_size
            elif ending := left_out(entry.name):
                seen.endings[ending] += 1
