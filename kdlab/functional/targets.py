r"""Soft targets computed from several networks: the rules of KDCL, and the leave-one-out mean of co-distillation.

Each rule takes ``peers``, the logits ``(N, C)`` of the M networks, and returns logits of the same shape, in at least
float32. A target is a constant; with ``detach=False`` the gradient flows into the networks. Any loss on logits can use
it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import contraction
from .peers import KDCL, stacked
from .rows import wide
from .simplex import least_cross_entropy
from .sources import Paper, method

_CODISTILLATION = Paper(
    "Anil et al.",
    2018,
    "Large scale distributed neural network training through online distillation",
    "https://arxiv.org/abs/1804.03235",
)
AVERAGES = ("logits", "probabilities")
_GCN = "wangz3066/OnlineDistillGCN"


@method("strategy", KDCL, {"shaoeric/Online-Knowledge-Distillation-via-Collaborative-Learning": "kdcl_mean"})
def kdcl_mean(peers: Sequence[Tensor], *, average: str = "logits", detach: bool = True) -> Tensor:
    r"""The mean of all networks' logits, :math:`\frac{1}{M} \sum_m z_m`: not a rule of the paper, but of its
    re-implementation by shaoeric.

    Args:
        average: ``logits``, or ``probabilities`` (the result is then the log of their mean, at temperature 1).

    >>> import torch
    >>> kdcl_mean([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]])])
    tensor([[2., 1.]])
    """
    return _mean(stacked(peers, "kdcl_mean", detach), average)


@method("strategy", KDCL, {_GCN: "kdcl_naive_loss"})
def kdcl_naive(
    peers: Sequence[Tensor],
    target: Tensor,
    *,
    per_sample: bool = False,
    mask: Tensor | None = None,
    detach: bool = True,
) -> Tensor:
    r"""KDCL-Naive: the logits of the network with the lowest cross-entropy, :math:`z_{m^*}` with
    :math:`m^* = \mathrm{argmin}_m\,\mathrm{CE}(z_m, y)` (the first one, if several are equal).

    Args:
        target: class numbers ``(N,)``; -100 is ignored.
        per_sample: choose a network for each sample; otherwise one for the batch, as in OnlineDistillGCN.
        mask: ``(N,)``, 0 for rows that are ignored in the batch's choice.

    >>> import torch
    >>> peers = [torch.tensor([[0.0, 2.0], [0.0, 1.0]]), torch.tensor([[4.0, 0.0], [0.0, 3.0]])]
    >>> kdcl_naive(peers, torch.tensor([1, 1]))
    tensor([[0., 2.],
            [0., 1.]])
    >>> kdcl_naive(peers, torch.tensor([1, 1]), per_sample=True)
    tensor([[0., 2.],
            [0., 3.]])
    """
    stack = stacked(peers, "kdcl_naive", detach)
    counts = _counting(stack, target, mask, "kdcl_naive")
    losses = F.cross_entropy(stack.movedim(2, 1), target.expand(len(stack), len(target)), reduction="none").masked_fill(
        ~counts, 0.0
    )
    best = losses.argmin(0) if per_sample else losses.sum(1).argmin(0).expand(len(target))
    return torch.take_along_dim(stack, best[None, :, None], 0)[0]


@method("strategy", KDCL)
def kdcl_linear(
    peers: Sequence[Tensor],
    target: Tensor,
    *,
    per_sample: bool = False,
    iterations: int = 12,
    mask: Tensor | None = None,
    detach: bool = True,
) -> Tensor:
    r"""KDCL-Linear: :math:`\sum_m \alpha_m z_m` with the convex weights of :func:`kdcl_linear_weights`, which are
    constants.

    Args:
        target, per_sample, iterations, mask: see :func:`kdlab.functional.kdcl_linear_weights`.

    >>> import torch
    >>> kdcl_linear([torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])],
    ...     torch.tensor([1, 1]))
    tensor([[0.7500, 0.7500],
            [0.7500, 0.7500]])
    """
    stack = stacked(peers, "kdcl_linear", detach)
    return weighted_target(
        list(stack),
        kdcl_linear_weights(peers, target, per_sample=per_sample, iterations=iterations, mask=mask),
        detach=detach,
    )


def kdcl_linear_weights(
    peers: Sequence[Tensor],
    target: Tensor,
    *,
    per_sample: bool = False,
    iterations: int = 12,
    mask: Tensor | None = None,
) -> Tensor:
    r"""The convex weights with the lowest cross-entropy,
    :math:`\arg\min_{\alpha \ge 0,\, \sum_m \alpha_m = 1} \mathrm{CE}(\sum_m \alpha_m z_m, y)`, without gradient.

    Args:
        target: class numbers ``(N,)``; -100 is ignored.
        per_sample: weights for each sample; otherwise one set for the batch.
        iterations: iterations of Newton's method on the simplex, :func:`kdlab.functional.simplex.least_cross_entropy`.
        mask: ``(N,)``, 0 for rows that are ignored.

    Returns:
        ``(M,)``, or ``(N, M)`` per sample.

    >>> import torch
    >>> kdcl_linear_weights([torch.tensor([[3.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])],
    ...     torch.tensor([1, 1]))
    tensor([0.2500, 0.7500])
    """
    stack = stacked(peers, "kdcl_linear_weights", True)
    counts = _counting(stack, target, mask, "kdcl_linear_weights")
    rows = stack.movedim(0, 1)  # (N, M, C)
    labels = target.clamp(min=0)
    if per_sample:
        return least_cross_entropy(rows[:, None], labels[:, None], counts[:, None], iterations)
    return least_cross_entropy(rows[None], labels[None], counts[None], iterations)[0]


@method("strategy", KDCL, {_GCN: "kdcl_minlogit"})
def kdcl_min_logit(peers: Sequence[Tensor], target: Tensor, *, detach: bool = True) -> Tensor:
    r"""KDCL-MinLogit: each network's logits minus its logit of the true class, and the minimum for each class,
    :math:`z_{t,c} = \min_m (z_{m,c} - z_{m,y})`.

    Args:
        target: class numbers ``(N,)``; the result has no meaning in a row of -100.

    >>> import torch
    >>> kdcl_min_logit([torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[4.0, 5.0, 0.0]])], torch.tensor([1]))
    tensor([[-2.,  0., -5.]])
    """
    stack = stacked(peers, "kdcl_min_logit", detach)
    _counting(stack, target, None, "kdcl_min_logit")
    labels = target.clamp(min=0).expand(len(stack), len(target))[..., None]
    return (stack - stack.gather(-1, labels)).amin(0)


def error_correlation(
    peers: Sequence[Tensor], target: Tensor, *, mask: Tensor | None = None, detach: bool = True
) -> Tensor:
    r"""The correlation of the networks' errors: the mean over samples of
    :math:`C_{ij} = \sum_c (p_{i,c} - [y = c])(p_{j,c} - [y = c])`, with probabilities at temperature 1. For a
    validation set in batches, take the mean of the batches' matrices, weighted by their numbers of rows.

    Args:
        peers: logits on validation samples.
        target: class numbers ``(N,)``; -100 is ignored.
        mask: ``(N,)``, 0 for rows that do not count.

    Returns:
        ``(M, M)``

    >>> import torch
    >>> error_correlation([torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 30.0]])], torch.tensor([0]))
    tensor([[0.5000, 1.0000],
            [1.0000, 2.0000]])
    """
    stack = stacked(peers, "error_correlation", detach)
    counts = _counting(stack, target, mask, "error_correlation")
    errors = (stack.softmax(-1) - F.one_hot(target.clamp(min=0), stack.shape[-1])).masked_fill(
        ~counts[None, :, None], 0.0
    )
    return contraction("mnc,knc->mk", errors, errors) / counts.sum().clamp(min=1)


@method("strategy", KDCL)
def kdcl_general_weights(correlation: Tensor, ridge: float = 1e-6) -> Tensor:
    r"""KDCL-General: the weights with the sum 1 that minimise the expected squared error of the ensemble,
    :math:`\alpha_i = \sum_j (C^{-1})_{ij} / \sum_{k,j} (C^{-1})_{kj}`. Some may be negative. :func:`weighted_target`
    applies them to logits.

    Args:
        correlation: C ``(M, M)``, see :func:`error_correlation`.
        ridge: this share of the mean diagonal is added to the diagonal, so that equal networks get equal weights
            instead of a singular matrix. 0 gives the paper's formula.

    >>> import torch
    >>> kdcl_general_weights(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), ridge=0.0)
    tensor([0.3333, 0.6667])
    """
    if correlation.dim() != 2 or correlation.shape[0] != correlation.shape[1]:
        raise ValueError(
            f"kdcl_general_weights: one row and one column per network, (M, M), got {tuple(correlation.shape)}"
        )
    correlation = wide(correlation)
    identity = torch.eye(len(correlation), dtype=correlation.dtype, device=correlation.device)
    # no network makes any error: equal weights
    mean = correlation.diagonal().mean().clamp(min=torch.finfo(correlation.dtype).tiny)
    inverse: Tensor = torch.linalg.solve(correlation / mean + ridge * identity, torch.ones_like(correlation[0]))
    return inverse / inverse.sum()


def weighted_target(peers: Sequence[Tensor], weights: Tensor, *, detach: bool = True) -> Tensor:
    r""":math:`\sum_m \alpha_m z_m`, with ``weights`` ``(M,)``, or ``(N, M)`` per sample.

    >>> import torch
    >>> weighted_target([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]])], torch.tensor([0.25, 0.75]))
    tensor([[3.0000, 0.5000]])
    """
    stack = stacked(peers, "weighted_target", detach)
    if weights.shape not in ((len(stack),), (stack.shape[1], len(stack))):
        raise ValueError(
            f"weighted_target: {len(stack)} networks' logits {tuple(stack.shape[1:])} need weights ({len(stack)},) or "
            f"({stack.shape[1]}, {len(stack)}), got {tuple(weights.shape)}"
        )
    return (stack * weights.to(stack.dtype).movedim(-1, 0).reshape(len(stack), -1, 1)).sum(0)


@method("strategy", _CODISTILLATION, {_GCN: "oad_co_distill_loss"})
def codistillation_targets(peers: Sequence[Tensor], *, average: str = "logits", detach: bool = True) -> list[Tensor]:
    r"""For each network the mean of all *other* networks, :math:`\frac{1}{M - 1} \sum_{j \ne m} z_j`. It is the
    network's target in co-distillation.

    Args:
        average: ``logits``, as in OnlineDistillGCN, or ``probabilities`` (the result is then the log of their mean, at
            temperature 1).

    Returns:
        M logits ``(N, C)``, in the order of the networks.

    >>> import torch
    >>> z = [torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 1.0]]), torch.tensor([[4.0, 5.0]])]
    >>> codistillation_targets(z)
    [tensor([[3., 3.]]), tensor([[2., 4.]]), tensor([[1., 2.]])]
    """
    stack = stacked(peers, "codistillation_targets", detach, least=2)
    return [_mean(torch.cat([stack[:number], stack[number + 1 :]]), average) for number in range(len(stack))]


def _mean(stack: Tensor, average: str) -> Tensor:
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
    return stack.mean(0) if average == "logits" else stack.log_softmax(-1).logsumexp(0) - math.log(len(stack))


def _counting(stack: Tensor, target: Tensor, mask: Tensor | None, what: str) -> Tensor:
    """Which rows count, ``(N,)``. Raises ValueError unless there is one label (and one entry of the mask) per row."""
    for name, given in (("class number", target), ("mask entry", mask)):
        if given is not None and given.shape != stack.shape[1:2]:
            raise ValueError(
                f"{what}: logits {tuple(stack.shape[1:])} need one {name} per row, got {tuple(given.shape)}"
            )
    return target != -100 if mask is None else (target != -100) & (mask != 0)
