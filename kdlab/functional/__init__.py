"""The mathematics: pure functions on tensors, a file per family. One value a row; :func:`reduce` makes the scalar."""

from .branches import byot, byot_feature, byot_kd, ensemble_logits, one, one_kl, ramp_up
from .divergences import (
    adaptive_kl, alpha_beta, forward_kl, jensen_shannon, reverse_kl, skew_forward_kl, skew_reverse_kl, symmetric_kl, total_variation,
)
from .features import hint
from .logits import cross_entropy, hinton_kd, logit_mse
from .memory import cs_kd, cs_kd_kl, dlb, ps_kd, ps_kd_alpha, ps_kd_targets
from .peers import collaborative, mutual_kl, mutual_learning
from .rows import reduce, reduced, same_shape, wide
from .targets import (
    codistillation_targets, error_correlation, kdcl_general_weights, kdcl_linear, kdcl_linear_weights, kdcl_mean, kdcl_min_logit, kdcl_naive,
    weighted_target,
)
from .terms import Terms

__all__ = [
    "Terms", "adaptive_kl", "alpha_beta", "byot", "byot_feature", "byot_kd", "codistillation_targets", "collaborative", "cross_entropy", "cs_kd",
    "cs_kd_kl", "dlb", "ensemble_logits", "error_correlation", "forward_kl", "hint", "hinton_kd", "jensen_shannon", "kdcl_general_weights",
    "kdcl_linear", "kdcl_linear_weights", "kdcl_mean", "kdcl_min_logit", "kdcl_naive", "logit_mse", "mutual_kl", "mutual_learning", "one",
    "one_kl", "ps_kd", "ps_kd_alpha", "ps_kd_targets", "ramp_up", "reduce", "reduced", "reverse_kl", "same_shape", "skew_forward_kl",
    "skew_reverse_kl", "symmetric_kl", "total_variation", "weighted_target", "wide",
]
