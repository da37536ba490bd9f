"""The convex combination of logits with the lowest cross-entropy, for KDCL-Linear."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels import contraction, product

#: every subset of the networks is tried as the set with weights above 0; there are 2^M subsets
MOST = 10
_STEPS = 12


def least_cross_entropy(logits: Tensor, target: Tensor, counts: Tensor, iterations: int = 12) -> Tensor:
    r"""Weights :math:`\alpha` on the simplex that minimise the mean over rows of
    :math:`\log \sum_c \exp(\sum_m \alpha_m z_{m,c}) - \sum_m \alpha_m z_{m,y}`, for each of G problems. The function is
    convex.

    Newton's method within the simplex, from equal weights. Each iteration minimises the second-order model exactly over
    the whole simplex: it solves the linear system of every subset of networks with weights above 0, and takes the best
    solution without a negative weight. It then moves towards this minimum by the largest step of 1, 1/2, 1/4, … that
    lowers the loss by a share of the predicted amount (Armijo's rule). So the loss never rises, and near the minimum
    every iteration squares the error.

    Args:
        logits: ``(G, R, M, C)``, finite: R rows of M networks per problem.
        target: class numbers ``(G, R)``.
        counts: ``(G, R)``, whether a row counts. A problem in which no row counts keeps equal weights.
        iterations: a fixed number, so that the graph does not depend on the data.

    Returns:
        ``(G, M)``, non-negative, with the sum 1 in each row.

    Raises:
        ValueError: more than 10 networks.

    >>> z = torch.tensor([[[[3.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]]])
    >>> least_cross_entropy(z, torch.tensor([[1, 1]]), torch.tensor([[True, True]]))
    tensor([[0.2500, 0.7500]])
    """
    groups, _, networks, _ = logits.shape
    if networks > MOST:
        raise ValueError(
            f"least_cross_entropy: every subset of the networks is tried, so at most {MOST} of them, got {networks}"
        )
    share = counts.to(logits.dtype) / counts.sum(-1, keepdim=True).clamp(min=1)
    logits = torch.where(counts[..., None, None], logits, torch.zeros_like(logits))
    centre = logits.mean(2)
    # the weights sum to 1, so only differences from the mean network matter; they are smaller, and so are their
    # rounding errors
    apart = logits - centre[:, :, None]
    # equal networks differ from their mean by rounding alone, which must not decide between them
    rounding = networks * torch.finfo(logits.dtype).eps * logits.abs().amax(2, keepdim=True)
    apart = apart.masked_fill(apart.abs() <= rounding, 0.0)
    right = apart.gather(3, target[:, :, None, None].expand(-1, -1, networks, 1))[..., 0]

    def loss(weights: Tensor) -> Tensor:
        """``(..., G)`` for weights ``(..., G, M)``, without the part that does not depend on them."""
        mixed = contraction("...gm,grmc->...grc", weights, apart)
        return (share * ((centre + mixed).logsumexp(-1) - contraction("...gm,grm->...gr", weights, right))).sum(-1)

    weights = torch.full_like(apart[:, 0, :, 0], 1 / networks)
    steps = 0.5 ** torch.arange(_STEPS, dtype=logits.dtype, device=logits.device)[:, None]
    precision = torch.finfo(logits.dtype).eps
    for _ in range(iterations):
        p = (centre + contraction("gm,grmc->grc", weights, apart)).softmax(-1)
        mean = contraction("grc,grmc->grm", p, apart)
        gradient = contraction("gr,grm->gm", share, mean - right)
        spread = apart - mean[..., None]
        curvature = contraction("gr,grc,grmc,grkc->gmk", share, p, spread, spread)
        direction = _least_of_model(weights, gradient, curvature) - weights
        present = loss(weights)
        promised = steps * (gradient * direction).sum(-1)
        # a difference within rounding must not stop the last, quadratic steps
        lowers = loss(weights + steps[..., None] * direction) <= present + 1e-4 * promised + 100 * precision * (
            1 + present.abs()
        )
        step = torch.where(lowers, steps, torch.zeros_like(steps)).amax(0)
        weights = (weights + step[:, None] * direction).clamp(min=0.0)
        weights = weights / weights.sum(-1, keepdim=True)
    return weights


def _least_of_model(weights: Tensor, gradient: Tensor, curvature: Tensor) -> Tensor:
    r"""The minimum over the simplex of :math:`g \cdot (a - \alpha) + \tfrac12 (a - \alpha)^\top H (a - \alpha)`, ``(G,
    M)``."""
    networks, precision = weights.shape[-1], torch.finfo(weights.dtype).eps
    dtype, device = weights.dtype, weights.device
    identity = torch.eye(networks, dtype=dtype, device=device)
    scale = (
        curvature.diagonal(dim1=-2, dim2=-1).mean(-1)
        + precision * gradient.abs().amax(-1)
        + torch.finfo(weights.dtype).tiny
    )
    # equal networks make the curvature singular; this multiple of the identity keeps the weights unchanged in such
    # directions
    curvature = curvature / scale[:, None, None] + 1e3 * precision * identity
    gradient = gradient / scale[:, None]

    inside = torch.tensor(
        [[number >> network & 1 for network in range(networks)] for number in range(1, 2**networks)],
        dtype=dtype,
        device=device,
    )
    sets = len(inside)
    upper = torch.where(inside[:, :, None] == 1, curvature[:, None], identity)  # one row per network: stationary, or 0
    upper = torch.cat([upper, inside[:, :, None].expand(*upper.shape[:2], networks, 1)], dim=-1)
    sums_to_one = torch.tensor([1.0] * networks + [0.0], dtype=dtype, device=device)
    system = torch.cat([upper, sums_to_one.expand(*upper.shape[:2], 1, networks + 1)], dim=-2)
    stationary = product(curvature, weights[:, :, None])[..., 0] - gradient
    known = torch.cat(
        [inside * stationary[:, None], torch.ones_like(stationary[:, None, :1]).expand(-1, sets, 1)], dim=-1
    )

    found = torch.linalg.solve(system, known[..., None])[..., :networks, 0]
    away = found - weights[:, None]
    value = (away * gradient[:, None]).sum(-1) + 0.5 * contraction("gsm,gmk,gsk->gs", away, curvature, away)
    value = torch.where(found.amin(-1) < -100 * precision, torch.full_like(value, float("inf")), value)
    best = torch.take_along_dim(found, value.argmin(-1)[:, None, None], 1)[:, 0].clamp(min=0.0)
    return best / best.sum(-1, keepdim=True)
