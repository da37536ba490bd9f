"""Strategies: who learns, from whom, when. One file each; the base class does the rest once."""

from .base import Step, Strategy
from .born_again import BornAgain
from .collaborative import Collaborative
from .cotrained import CoTrained
from .offline import Offline
from .one import NativeEnsemble
from .online import Online
from .supervised import Supervised

__all__ = ["BornAgain", "CoTrained", "Collaborative", "NativeEnsemble", "Offline", "Online", "Step", "Strategy", "Supervised"]
