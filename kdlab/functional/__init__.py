"""The mathematics: pure functions on tensors, a file per family. One value a row; :func:`reduce` makes the scalar."""

from .correlation import batch_correlation, class_correlation, dist, multi_level
from .decoupled import dkd, nkd, uskd, wsld
from .divergences import (
    adaptive_kl, alpha_beta, forward_kl, jensen_shannon, reverse_kl, skew_forward_kl, skew_reverse_kl, symmetric_kl, total_variation,
)
from .features import hint
from .logits import cross_entropy, hard_label, hinton_kd, logit_mse, soft_cross_entropy, virtual_teacher
from .rows import reduce, reduced, same_shape, wide
from .temperature import ctkd, learned_temperature, reverse_gradient, standardise

__all__ = [
    "adaptive_kl", "alpha_beta", "batch_correlation", "class_correlation", "cross_entropy", "ctkd", "dist", "dkd", "forward_kl",
    "hard_label", "hint", "hinton_kd", "jensen_shannon", "learned_temperature", "logit_mse", "multi_level", "nkd", "reduce", "reduced",
    "reverse_gradient", "reverse_kl", "same_shape", "skew_forward_kl", "skew_reverse_kl", "soft_cross_entropy", "standardise",
    "symmetric_kl", "total_variation", "uskd", "virtual_teacher", "wide", "wsld",
]
