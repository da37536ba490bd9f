"""The cache of a frozen teacher's answers: a sweep asks its teacher once.

A sweep over temperatures and weights of losses changes nothing of what the teacher says. :class:`Store` keeps the
answers on disk; :class:`Cached` is the teacher that reads them; :func:`fill` asks the live teacher for those that are
missing. README.md says what is kept, when it is exact, and what it costs.
"""

from .cached import Cached
from .contents import Contents
from .filling import fill
from .store import Damaged, Misfit, Store, find_stores

__all__ = ["Cached", "Contents", "Damaged", "Misfit", "Store", "fill", "find_stores"]
