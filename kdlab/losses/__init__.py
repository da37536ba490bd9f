"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md in this folder.
"""

from .ab import ActivationBoundary
from .attention import AttentionCE, AttentionMSE, MiniLM, MiniLMv2, TinyBERT
from .base import Loss, Probe
from .correlation import DIST, BatchCorrelation, ClassCorrelation, MultiLevel
from .crd import CRD
from .decoupled import DKD, NKD, USKD, WSLD
from .divergences import (
    AdaptiveKL,
    AlphaBeta,
    Divergence,
    ForwardKL,
    JensenShannon,
    ReverseKL,
    SkewForwardKL,
    SkewReverseKL,
    SymmetricKL,
    TotalVariation,
)
from .factor import FactorTransfer
from .features import AttentionTransfer, Hint, VariationalInformation
from .logits import CrossEntropy, HardLabel, HintonKD, LogitMSE, SoftCrossEntropy, VirtualTeacher
from .multilabel import BinaryCrossEntropy, SigmoidKD
from .ofd import OverhaulDistillation
from .peers import MutualKL, OneKL
from .policy import PolicyGradient
from .regression import SquaredError
from .relations import CC, CKA, FSP, KDSVD, NST, PKT, RKD, SP, CCKernel, SimilarityKL
from .reviewkd import ReviewKD
from .semckd import SemCKD
from .sequences import UniversalLogits
from .simkd import SimKD
from .srrl import SRRL
from .temperature import CTKD, Standardised
from .transformer import PKD, HiddenCosine, HiddenMSE, SequenceFSP, SequenceMMD

__all__ = [
    "ActivationBoundary",
    "AdaptiveKL",
    "AlphaBeta",
    "AttentionCE",
    "AttentionMSE",
    "AttentionTransfer",
    "BatchCorrelation",
    "BinaryCrossEntropy",
    "CC",
    "CCKernel",
    "CKA",
    "CRD",
    "CTKD",
    "ClassCorrelation",
    "CrossEntropy",
    "DIST",
    "DKD",
    "Divergence",
    "FSP",
    "FactorTransfer",
    "ForwardKL",
    "HardLabel",
    "HiddenCosine",
    "HiddenMSE",
    "Hint",
    "HintonKD",
    "JensenShannon",
    "KDSVD",
    "LogitMSE",
    "Loss",
    "MiniLM",
    "MiniLMv2",
    "MultiLevel",
    "MutualKL",
    "NKD",
    "NST",
    "OneKL",
    "OverhaulDistillation",
    "PKD",
    "PKT",
    "PolicyGradient",
    "Probe",
    "RKD",
    "ReverseKL",
    "ReviewKD",
    "SP",
    "SRRL",
    "SemCKD",
    "SequenceFSP",
    "SequenceMMD",
    "SigmoidKD",
    "SimKD",
    "SimilarityKL",
    "SkewForwardKL",
    "SkewReverseKL",
    "SoftCrossEntropy",
    "SquaredError",
    "Standardised",
    "SymmetricKL",
    "TinyBERT",
    "TotalVariation",
    "USKD",
    "UniversalLogits",
    "VariationalInformation",
    "VirtualTeacher",
    "WSLD",
]
