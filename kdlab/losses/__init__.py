"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md in this folder.
"""

from .attention import AttentionCE, AttentionMSE, MiniLM, MiniLMv2, TinyBERT
from .base import Loss, Probe
from .correlation import BatchCorrelation, ClassCorrelation, DIST, MultiLevel
from .decoupled import DKD, NKD, USKD, WSLD
from .divergences import (
    AdaptiveKL, AlphaBeta, Divergence, ForwardKL, JensenShannon, ReverseKL, SkewForwardKL, SkewReverseKL, SymmetricKL, TotalVariation,
)
from .features import Hint
from .logits import CrossEntropy, HardLabel, HintonKD, LogitMSE, SoftCrossEntropy, VirtualTeacher
from .relations import CC, CCKernel, CKA, FSP, KDSVD, NST, PKT, RKD, SP
from .sequences import UniversalLogits
from .temperature import CTKD, Standardised
from .transformer import HiddenCosine, HiddenMSE, PKD, SequenceFSP, SequenceMMD

__all__ = [
    "AdaptiveKL", "AlphaBeta", "AttentionCE", "AttentionMSE", "BatchCorrelation", "CC", "CCKernel", "CKA", "CTKD", "ClassCorrelation",
    "CrossEntropy", "DIST", "DKD", "Divergence", "FSP", "ForwardKL", "HardLabel", "HiddenCosine", "HiddenMSE", "Hint", "HintonKD",
    "JensenShannon", "KDSVD", "LogitMSE", "Loss", "MiniLM", "MiniLMv2", "MultiLevel", "NKD", "NST", "PKD", "PKT", "Probe", "RKD", "ReverseKL",
    "SP", "SequenceFSP", "SequenceMMD", "SkewForwardKL", "SkewReverseKL", "SoftCrossEntropy", "Standardised", "SymmetricKL", "TinyBERT",
    "TotalVariation", "USKD", "UniversalLogits", "VirtualTeacher", "WSLD",
]
