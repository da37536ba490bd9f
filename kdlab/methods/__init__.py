"""The index of methods, made from the code: each file of ``conf/loss/`` and ``conf/strategy/``, the class that it
names, and the functions that this class uses."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .docstrings import parameters, prose
    from .entries import index, lookup
    from .losses import Entry
    from .strategies import StrategyEntry

__all__ = ["Entry", "StrategyEntry", "index", "lookup", "parameters", "prose"]

# imported on first use: the printed index needs none of them, and so no torch
_PLACES = {
    "Entry": ".losses",
    "StrategyEntry": ".strategies",
    "index": ".entries",
    "lookup": ".entries",
    "parameters": ".docstrings",
    "prose": ".docstrings",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    found = getattr(import_module(_PLACES[name], __name__), name)
    globals()[name] = found
    return found
