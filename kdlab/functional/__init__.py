"""The mathematics: pure functions on tensors, a file per family. One value a row; :func:`reduce` makes the scalar."""

from .divergences import forward_kl
from .features import hint
from .logits import cross_entropy, hinton_kd, logit_mse
from .rows import reduce, same_shape, wide

__all__ = ["cross_entropy", "forward_kl", "hint", "hinton_kd", "logit_mse", "reduce", "same_shape", "wide"]
