"""Strategies: who learns, from whom, when. One file each; the base class does the rest once."""

from .base import Step, Strategy
from .offline import Offline
from .online import Online
from .supervised import Supervised

__all__ = ["Offline", "Online", "Step", "Strategy", "Supervised"]
