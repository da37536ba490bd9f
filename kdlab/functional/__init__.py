"""The mathematics: pure functions on tensors, a file per family. One value a row; :func:`reduce` makes the scalar."""

from .answers import matched_tokens
from .distillm import distillm2, distillm2_beta, text_divergence
from .divergences import (
    adaptive_kl, alpha_beta, forward_kl, jensen_shannon, reverse_kl, skew_forward_kl, skew_reverse_kl, symmetric_kl, total_variation,
)
from .features import hint
from .logits import cross_entropy, hinton_kd, logit_mse
from .policy import discounted_advantage, minillm, policy_gradient, reverse_kl_estimate, reverse_kl_reward
from .rows import reduce, reduced, same_shape, wide
from .tokens import averaged, generated_mask, predicted, predicting, sequence_mean, token_log_probability, token_mask, token_rows
from .universal import uld, uld_sequences

__all__ = [
    "adaptive_kl", "alpha_beta", "averaged", "cross_entropy", "discounted_advantage", "distillm2", "distillm2_beta", "forward_kl",
    "generated_mask", "hint", "hinton_kd", "jensen_shannon", "logit_mse", "matched_tokens", "minillm", "policy_gradient", "predicted",
    "predicting", "reduce", "reduced", "reverse_kl", "reverse_kl_estimate", "reverse_kl_reward", "same_shape", "sequence_mean",
    "skew_forward_kl", "skew_reverse_kl", "symmetric_kl", "text_divergence", "token_log_probability", "token_mask", "token_rows",
    "total_variation", "uld", "uld_sequences", "wide",
]
