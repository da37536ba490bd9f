"""Losses: the module form of each function in :mod:`kdlab.functional`, declaring what it needs.

A new loss is one function there, one thin class here, and one file in ``conf/loss/``. See README.md, "Your own loss".
"""

from .base import Loss, Probe
from .features import Hint
from .logits import CrossEntropy, HintonKD, LogitMSE

__all__ = ["CrossEntropy", "Hint", "HintonKD", "Loss", "LogitMSE", "Probe"]
