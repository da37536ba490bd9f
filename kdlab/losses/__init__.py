"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md in this folder.
"""

from .base import Loss, Probe
from .correlation import DIST, BatchCorrelation, ClassCorrelation, MultiLevel
from .decoupled import DKD, NKD, USKD, WSLD
from .divergences import (
    AdaptiveKL, AlphaBeta, Divergence, ForwardKL, JensenShannon, ReverseKL, SkewForwardKL, SkewReverseKL, SymmetricKL, TotalVariation,
)
from .features import Hint
from .logits import CrossEntropy, HardLabel, HintonKD, LogitMSE, SoftCrossEntropy, VirtualTeacher
from .temperature import CTKD, Standardised

__all__ = [
    "AdaptiveKL", "AlphaBeta", "BatchCorrelation", "CTKD", "ClassCorrelation", "CrossEntropy", "DIST", "DKD", "Divergence", "ForwardKL",
    "HardLabel", "Hint", "HintonKD", "JensenShannon", "LogitMSE", "Loss", "MultiLevel", "NKD", "Probe", "ReverseKL", "SkewForwardKL",
    "SkewReverseKL", "SoftCrossEntropy", "Standardised", "SymmetricKL", "TotalVariation", "USKD", "VirtualTeacher", "WSLD",
]
