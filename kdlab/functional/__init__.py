"""The mathematics: pure functions on tensors, a file per family. One value a row; :func:`reduce` makes the scalar."""

from .activation import activation_boundary, normal_margin, partial_l2
from .contrastive import contrastive_normaliser, contrastive_representation
from .divergences import (
    adaptive_kl, alpha_beta, forward_kl, jensen_shannon, reverse_kl, skew_forward_kl, skew_reverse_kl, symmetric_kl, total_variation,
)
from .features import attention_transfer, factor_transfer, hint, variational_information
from .logits import cross_entropy, hinton_kd, logit_mse
from .reuse import reused_classifier, softmax_regression
from .review import hierarchical_context
from .rows import reduce, reduced, same_shape, wide
from .semantic import semantic_attention, semantic_calibration

__all__ = [
    "activation_boundary", "adaptive_kl", "alpha_beta", "attention_transfer", "contrastive_normaliser", "contrastive_representation",
    "cross_entropy", "factor_transfer", "forward_kl", "hierarchical_context", "hint", "hinton_kd", "jensen_shannon", "logit_mse",
    "normal_margin", "partial_l2", "reduce", "reduced", "reused_classifier", "reverse_kl", "same_shape", "semantic_attention",
    "semantic_calibration", "skew_forward_kl", "skew_reverse_kl", "softmax_regression", "symmetric_kl", "total_variation",
    "variational_information", "wide",
]
