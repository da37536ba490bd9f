"""Callbacks of other packages: Lightning looks for them in all installed packages each time that a Trainer is made,
which takes most of the time of making one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from typing import Any, cast

from lightning.fabric.utilities import registry

GROUP = "lightning.pytorch.callbacks_factory"


@contextlib.contextmanager
def found_once() -> Iterator[None]:
    """Lightning gets the entry points that were found before in this process inside the context, as long as the
    folders of ``sys.path`` are the same. It still makes its own callbacks of them."""
    module = cast(Any, registry)
    before = getattr(module, "entry_points", None)
    if before is not metadata.entry_points:  # another version of Lightning, or nested
        yield
        return
    module.entry_points = lambda **wanted: _found(tuple(sorted(wanted.items())), _folders())
    try:
        yield
    finally:
        module.entry_points = before


def look_up() -> None:
    """Find the entry points now."""
    _found((("group", GROUP),), _folders())


@lru_cache(maxsize=4)
def _found(wanted: tuple, folders: tuple) -> metadata.EntryPoints:
    found: metadata.EntryPoints = cast(Any, metadata).entry_points(**dict(wanted))
    return found


def _folders() -> tuple:
    """The folders of ``sys.path`` with the times of their last change; a package that is installed changes one."""
    found: list[tuple[str, int | None]] = []
    for entry in sys.path:
        try:
            found.append((entry, os.stat(entry or ".").st_mtime_ns))
        except OSError:
            found.append((entry, None))
    return tuple(found)
