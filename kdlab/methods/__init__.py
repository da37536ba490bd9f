"""The index of methods, made from the code: each file of ``conf/loss/`` and ``conf/strategy/``, the class that it
names, and the functions that this class uses."""

from .docstrings import parameters, prose
from .index import index, lookup
from .losses import Entry
from .strategies import StrategyEntry

__all__ = ["Entry", "StrategyEntry", "index", "lookup", "parameters", "prose"]
