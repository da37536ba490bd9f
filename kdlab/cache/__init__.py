"""The cache of a frozen teacher's answers: a sweep asks its teacher once.

A sweep over temperatures and weights of losses changes nothing of what the teacher says. :class:`Store` keeps the
answers on disk; :class:`Cached` is the teacher that reads them; :func:`fill` asks the live teacher for those that are
missing. README.md says what is kept, when it is exact, and what it costs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cached import Cached
    from .cached_rows import CachedRows
    from .contents import Contents
    from .filling import fill
    from .refusals import Damaged, Misfit
    from .store import Store

__all__ = ["Cached", "CachedRows", "Contents", "Damaged", "Misfit", "Store", "fill"]

# imported on first use: kdlab cache list needs no torch
_PLACES = {
    "Cached": ".cached",
    "CachedRows": ".cached_rows",
    "Contents": ".contents",
    "fill": ".filling",
    "Store": ".store",
    **dict.fromkeys(("Damaged", "Misfit"), ".refusals"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name], __name__), name)
