"""Strategies: who learns, from whom, when. One file each; the base class does the rest once."""

from .base import Step, Strategy
from .born_again import BornAgain
from .offline import Offline
from .supervised import Supervised

__all__ = ["BornAgain", "Offline", "Step", "Strategy", "Supervised"]
