"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md in this folder.
"""

from .base import Loss, Probe
from .divergences import (
    AdaptiveKL, AlphaBeta, Divergence, ForwardKL, JensenShannon, ReverseKL, SkewForwardKL, SkewReverseKL, SymmetricKL, TotalVariation,
)
from .features import Hint
from .logits import CrossEntropy, HintonKD, LogitMSE
from .sequences import UniversalLogits

__all__ = [
    "AdaptiveKL", "AlphaBeta", "CrossEntropy", "Divergence", "ForwardKL", "Hint", "HintonKD", "JensenShannon", "LogitMSE", "Loss", "Probe",
    "ReverseKL", "SkewForwardKL", "SkewReverseKL", "SymmetricKL", "TotalVariation", "UniversalLogits",
]
