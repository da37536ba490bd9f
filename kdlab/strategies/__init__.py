"""Strategies: which network learns, from which network, and when. One file each; the base class has the common
parts."""

from .base import Step, Strategy
from .born_again import BornAgain
from .byot import OwnTeacher
from .cotrain import CoTrained
from .cs_kd import ClassWise
from .dlb import LastBatch
from .ema import MeanTeacher
from .kdcl import Collaborative
from .offline import Offline
from .on_policy import OnPolicy
from .one import NativeEnsemble
from .online import Online
from .previous_checkpoint import PreviousCheckpoint
from .privileged import Privileged
from .ps_kd import Progressive
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
    "OnPolicy",
    "Online",
    "OwnTeacher",
    "PreviousCheckpoint",
    "Privileged",
    "Progressive",
    "Step",
    "Strategy",
    "Supervised",
]
