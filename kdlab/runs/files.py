"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file in the same folder, sync it to disk, then rename it to ``path``.

    Raises:
        OSError: it cannot be written; the error names ``path``, whatever failed.
    """
    try:
        _write_atomically(path, write)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "nt":  # Windows cannot open folders
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def try_to_write(folder: Path) -> None:
    """Check that a folder can be written: make it if it is missing, and a temporary file in it. Called before long work
    whose result goes there.

    Raises:
        OSError: that cannot be done; the error names the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(folder)) from error


def write_text(path: Path, text: str) -> None:
    r"""Write text atomically, as UTF-8 with ``\n`` at line ends. Raises OSError as :func:`write_atomically` does."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as JSON, atomically. NaN and infinity become null."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: object) -> object:
    """``value`` with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def link(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, atomically, without copying where the file system can link."""

    def make(temporary: Path) -> None:
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())

    write_atomically(target, make)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files below a folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file()):
        if file != path:
            digest.update(str(file.relative_to(path)).encode() + b"\0")
        with open(file, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()
