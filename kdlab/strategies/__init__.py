"""Strategies: who learns, from whom, when. One file each; the base class does the rest once."""

from .base import Step, Strategy
from .born_again import BornAgain
from .class_wise import ClassWise
from .collaborative import Collaborative
from .cotrained import CoTrained
from .last_batch import LastBatch
from .mean_teacher import MeanTeacher
from .offline import Offline
from .one import NativeEnsemble
from .online import Online
from .own_teacher import OwnTeacher
from .previous_checkpoint import PreviousCheckpoint
from .progressive import Progressive
from .supervised import Supervised

__all__ = [
    "BornAgain",
    "ClassWise",
    "CoTrained",
    "Collaborative",
    "LastBatch",
    "MeanTeacher",
    "NativeEnsemble",
    "Offline",
    "Online",
    "OwnTeacher",
    "PreviousCheckpoint",
    "Progressive",
    "Step",
    "Strategy",
    "Supervised",
]
