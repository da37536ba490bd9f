"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md in this folder.
"""

from .activation import ActivationBoundary, OverhaulDistillation
from .base import Loss, Probe
from .contrastive import CRD
from .divergences import (
    AdaptiveKL, AlphaBeta, Divergence, ForwardKL, JensenShannon, ReverseKL, SkewForwardKL, SkewReverseKL, SymmetricKL, TotalVariation,
)
from .factors import FactorTransfer
from .features import AttentionTransfer, Hint, VariationalInformation
from .logits import CrossEntropy, HintonKD, LogitMSE
from .reuse import SRRL, SimKD
from .review import ReviewKD
from .semantic import SemCKD

__all__ = [
    "ActivationBoundary", "AdaptiveKL", "AlphaBeta", "AttentionTransfer", "CRD", "CrossEntropy", "Divergence", "FactorTransfer", "ForwardKL",
    "Hint", "HintonKD", "JensenShannon", "LogitMSE", "Loss", "OverhaulDistillation", "Probe", "ReverseKL", "ReviewKD", "SRRL", "SemCKD", "SimKD",
    "SkewForwardKL", "SkewReverseKL", "SymmetricKL", "TotalVariation", "VariationalInformation",
]
