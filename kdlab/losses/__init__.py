"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md in this folder.
"""

from .base import Loss, Probe
from .divergences import (
    AdaptiveKL, AlphaBeta, Divergence, ForwardKL, JensenShannon, ReverseKL, SkewForwardKL, SkewReverseKL, SymmetricKL, TotalVariation,
)
from .features import Hint
from .logits import CrossEntropy, HintonKD, LogitMSE
from .relations import CC, CKA, FSP, KDSVD, NST, PKT, RKD, SP, CCKernel

__all__ = [
    "AdaptiveKL", "AlphaBeta", "CC", "CCKernel", "CKA", "CrossEntropy", "Divergence", "FSP", "ForwardKL", "Hint", "HintonKD", "JensenShannon",
    "KDSVD", "LogitMSE", "Loss", "NST", "PKT", "Probe", "RKD", "ReverseKL", "SP", "SkewForwardKL", "SkewReverseKL", "SymmetricKL",
    "TotalVariation",
]
