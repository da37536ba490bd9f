"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md in this folder.
"""

from .attention import AttentionCE, AttentionMSE, MiniLM, MiniLMv2, TinyBERT
from .base import Loss, Probe
from .divergences import (
    AdaptiveKL, AlphaBeta, Divergence, ForwardKL, JensenShannon, ReverseKL, SkewForwardKL, SkewReverseKL, SymmetricKL, TotalVariation,
)
from .features import Hint
from .logits import CrossEntropy, HintonKD, LogitMSE
from .relations import CC, CKA, FSP, KDSVD, NST, PKT, RKD, SP, CCKernel
from .transformer import PKD, HiddenCosine, HiddenMSE, SequenceFSP, SequenceMMD

__all__ = [
    "AdaptiveKL", "AlphaBeta", "AttentionCE", "AttentionMSE", "CC", "CCKernel", "CKA", "CrossEntropy", "Divergence", "FSP", "ForwardKL",
    "HiddenCosine", "HiddenMSE", "Hint", "HintonKD", "JensenShannon", "KDSVD", "LogitMSE", "Loss", "MiniLM", "MiniLMv2", "NST", "PKD", "PKT",
    "Probe", "RKD", "ReverseKL", "SP", "SequenceFSP", "SequenceMMD", "SkewForwardKL", "SkewReverseKL", "SymmetricKL", "TinyBERT",
    "TotalVariation",
]
