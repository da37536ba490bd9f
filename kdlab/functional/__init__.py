"""The mathematics: pure functions on tensors, a file per family. One value a row; :func:`reduce` makes the scalar."""

from .attention import attention_ce, attention_mse, attention_scores, minilm, minilmv2, tinybert
from .divergences import (
    adaptive_kl, alpha_beta, forward_kl, jensen_shannon, reverse_kl, skew_forward_kl, skew_reverse_kl, symmetric_kl, total_variation,
)
from .features import hint
from .grams import fsp, kdsvd, nst
from .hidden import hidden_cosine, hidden_mse, pkd, sequence_fsp, sequence_mmd
from .logits import cross_entropy, hinton_kd, logit_mse
from .relations import cc, cc_kernel, cka, pkt, rkd, sp
from .rows import reduce, reduced, same_shape, wide

__all__ = [
    "adaptive_kl", "alpha_beta", "attention_ce", "attention_mse", "attention_scores", "cc", "cc_kernel", "cka", "cross_entropy", "forward_kl",
    "fsp", "hidden_cosine", "hidden_mse", "hint", "hinton_kd", "jensen_shannon", "kdsvd", "logit_mse", "minilm", "minilmv2", "nst", "pkd",
    "pkt", "reduce", "reduced", "reverse_kl", "rkd", "same_shape", "sequence_fsp", "sequence_mmd", "skew_forward_kl", "skew_reverse_kl", "sp",
    "symmetric_kl", "tinybert", "total_variation", "wide",
]
