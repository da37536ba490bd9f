"""Strategies: who learns, from whom, when. One file each; the base class does the rest once."""

from .base import Step, Strategy
from .born_again import BornAgain
from .offline import Offline
from .online import Online
from .supervised import Supervised

__all__ = ["BornAgain", "Offline", "Online", "Step", "Strategy", "Supervised"]
