"""The mathematics: pure functions on tensors, one file per family. They return one value per row; :func:`reduce` makes
the scalar."""

from .ab import activation_boundary
from .answers import matched_tokens
from .attention import attention_ce, attention_mse, attention_scores, minilm, minilmv2, tinybert
from .branches import byot_feature, ensemble_logits, one_kl
from .correlation import batch_correlation, class_correlation, dist, multi_level
from .crd import contrastive_normaliser, contrastive_representation
from .decoupled import dkd, nkd, uskd, wsld
from .distillm import distillm2, distillm2_beta, text_divergence
from .divergences import (
    adaptive_kl,
    alpha_beta,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    skew_forward_kl,
    skew_reverse_kl,
    symmetric_kl,
    total_variation,
)
from .features import attention_transfer, factor_transfer, hint, variational_information
from .grams import fsp, kdsvd, nst
from .hidden import hidden_cosine, hidden_mse, pkd, sequence_fsp, sequence_mmd
from .logits import cross_entropy, hard_label, hinton_kd, logit_mse, soft_cross_entropy, virtual_teacher
from .multilabel import binary_cross_entropy, sigmoid_kd
from .ofd import normal_margin, partial_l2
from .peers import mutual_kl
from .policy import discounted_advantage, minillm, policy_gradient, reverse_kl_estimate, reverse_kl_reward
from .regression import squared_error
from .relations import cc, cc_kernel, cka, pkt, rkd, similarity_kl, sp
from .reviewkd import hierarchical_context
from .rows import reduce, reduced, same_shape, wide
from .semckd import semantic_attention, semantic_calibration
from .simkd import reused_classifier
from .sparse import log_probabilities_at, sampled_forward_kl, tail_bucket
from .srrl import softmax_regression
from .targets import (
    codistillation_targets,
    error_correlation,
    kdcl_general_weights,
    kdcl_linear,
    kdcl_linear_weights,
    kdcl_mean,
    kdcl_min_logit,
    kdcl_naive,
    weighted_target,
)
from .temperature import ctkd, learned_temperature, reverse_gradient, standardise
from .tokens import (
    averaged,
    generated_mask,
    predicted,
    predicting,
    sequence_mean,
    token_log_probability,
    token_mask,
    token_rows,
)
from .universal import uld, uld_sequences

__all__ = [
    "activation_boundary",
    "adaptive_kl",
    "alpha_beta",
    "attention_ce",
    "attention_mse",
    "attention_scores",
    "attention_transfer",
    "averaged",
    "batch_correlation",
    "binary_cross_entropy",
    "byot_feature",
    "cc",
    "cc_kernel",
    "cka",
    "class_correlation",
    "codistillation_targets",
    "contrastive_normaliser",
    "contrastive_representation",
    "cross_entropy",
    "ctkd",
    "discounted_advantage",
    "dist",
    "distillm2",
    "distillm2_beta",
    "dkd",
    "ensemble_logits",
    "error_correlation",
    "factor_transfer",
    "forward_kl",
    "fsp",
    "generated_mask",
    "hard_label",
    "hidden_cosine",
    "hidden_mse",
    "hierarchical_context",
    "hint",
    "hinton_kd",
    "jensen_shannon",
    "kdcl_general_weights",
    "kdcl_linear",
    "kdcl_linear_weights",
    "kdcl_mean",
    "kdcl_min_logit",
    "kdcl_naive",
    "kdsvd",
    "learned_temperature",
    "log_probabilities_at",
    "logit_mse",
    "matched_tokens",
    "minillm",
    "minilm",
    "minilmv2",
    "multi_level",
    "mutual_kl",
    "nkd",
    "normal_margin",
    "nst",
    "one_kl",
    "partial_l2",
    "pkd",
    "pkt",
    "policy_gradient",
    "predicted",
    "predicting",
    "reduce",
    "reduced",
    "reused_classifier",
    "reverse_gradient",
    "reverse_kl",
    "reverse_kl_estimate",
    "reverse_kl_reward",
    "rkd",
    "same_shape",
    "sampled_forward_kl",
    "semantic_attention",
    "semantic_calibration",
    "sequence_fsp",
    "sequence_mean",
    "sequence_mmd",
    "sigmoid_kd",
    "similarity_kl",
    "skew_forward_kl",
    "skew_reverse_kl",
    "soft_cross_entropy",
    "softmax_regression",
    "sp",
    "squared_error",
    "standardise",
    "symmetric_kl",
    "tail_bucket",
    "text_divergence",
    "tinybert",
    "token_log_probability",
    "token_mask",
    "token_rows",
    "total_variation",
    "uld",
    "uld_sequences",
    "uskd",
    "variational_information",
    "virtual_teacher",
    "weighted_target",
    "wide",
    "wsld",
]
