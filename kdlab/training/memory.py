"""Gives back the memory of a run that is over, before the next run of the same process.

A Trainer, its loops and its loaders refer to each other, so only Python's search for such cycles frees them, and that
search comes late: a loop over runs with a data set in memory would hold many copies of it.
"""

from __future__ import annotations

import gc
from weakref import WeakSet

from kdlab.data import Data

LARGE = 16 * 2**20  # bytes of a stored data set; a search takes some tenths of a second

#: large data of runs that are over, as long as they are in memory
_left: WeakSet[Data] = WeakSet()


def note_end(data: Data) -> None:
    """A run with these data is over."""
    if data.stored_bytes() >= LARGE:
        _left.add(data)


def give_back() -> None:
    """Free what runs with large data have left."""
    if _left:
        _left.clear()
        gc.collect()
