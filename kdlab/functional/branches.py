r"""One network with several classifiers: the branches and gate of ONE, the exits of BYOT (be your own teacher)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .divergences import log_probabilities
from .logits import hinton_kd
from .peers import stacked
from .rows import reduced, same_shape, wide
from .sources import Paper, method

_ONE = Paper(
    "Lan et al.", 2018, "Knowledge Distillation by On-the-Fly Native Ensemble", "https://arxiv.org/abs/1806.04606"
)
_BYOT = Paper(
    "Zhang et al.",
    2019,
    "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self Distillation",
    "https://arxiv.org/abs/1905.08094",
)
_ONE_CODE, _BYOT_CODE = "Lan1991Xu/ONE_NeurIPS2018", "luanyunteng/pytorch-be-your-own-teacher"


@method("strategy", _ONE, {_ONE_CODE: "one_total"})
def ensemble_logits(branches: Sequence[Tensor], gate: Tensor) -> Tensor:
    r"""ONE's teacher, :math:`z_e = \sum_i g_i z_i`.

    Args:
        branches: logits of each branch, ``(N, C)``.
        gate: the weight of each branch, ``(N, M)``: see :class:`kdlab.models.gate.BranchGate`.

    >>> import torch
    >>> ensemble_logits([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]])], torch.tensor([[0.5, 0.5]]))
    tensor([[2., 1.]])
    """
    stack = stacked(branches, "ensemble_logits", False)
    if gate.shape != (stack.shape[1], len(stack)):
        raise ValueError(
            f"ensemble_logits: {len(stack)} branches of logits {tuple(stack.shape[1:])} need a gate "
            f"{(stack.shape[1], len(stack))}, got {tuple(gate.shape)}"
        )
    return (stack * gate.movedim(1, 0)[..., None]).sum(0)


@method("logits", _ONE, {_ONE_CODE: "one_kl"})
def one_kl(
    student: Tensor,
    ensemble: Tensor,
    temperature: float = 3.0,
    *,
    epsilon: float = 0.0,
    detach: bool = True,
    temperature_squared: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""The term by which a branch learns from the ensemble of the branches, :math:`T^2\,\mathrm{KL}(p_e^T \,\|\, p^T)`.

    Args:
        student: logits of a branch, ``(N, C)``.
        ensemble: :func:`ensemble_logits`.
        temperature, temperature_squared: as in :func:`kdlab.functional.hinton_kd`.
        epsilon: added to the ensemble's probabilities, which then do not sum to 1, so that equal logits do not give 0.
            It is 1e-7 in the authors' code.
        detach: whether no gradient flows into the ensemble, as in the authors' code.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(N,)``

    >>> import torch
    >>> one_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    tensor([0.9985])
    """
    ensemble = ensemble.detach() if detach else ensemble
    if not epsilon:
        return hinton_kd(student, ensemble, temperature, temperature_squared, mask=mask, reduction=reduction)
    log_q, log_p = log_probabilities(student, ensemble, temperature, mask, "one_kl")
    p = log_p.exp() + epsilon
    values = reduced((p * (p.log() - log_q)).sum(-1), mask, reduction, student.shape[-1])
    return values * temperature**2 if temperature_squared else values


@method("strategy", _BYOT, {_BYOT_CODE: "byot"})
def byot_feature(
    student: Tensor,
    deepest: Tensor,
    *,
    positive_only: bool = False,
    detach: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Squared distance of an exit's feature from the deepest one's, :math:`\lVert f - f_d \rVert_2^2`, summed over a
    sample's elements.

    Args:
        student: feature of an exit, after its bottleneck, ``(B, ...)``.
        deepest: feature of the last stage, of the same shape.
        positive_only: leave out the elements in which neither feature is above 0, as the usual re-implementation does.
        detach: whether no gradient flows into the deepest feature.
        mask, reduction: see :func:`kdlab.functional.reduced`; the usual re-implementation uses ``sum``, also over the
            batch.

    Returns:
        ``(B,)``

    >>> import torch
    >>> a, b = torch.tensor([[1.0, -1.0]]), torch.tensor([[3.0, -2.0]])
    >>> byot_feature(a, b), byot_feature(a, b, positive_only=True)
    (tensor([5.]), tensor([4.]))
    """
    same_shape(
        student, deepest, "byot_feature", "a bottleneck must map the exit's feature to the shape of the deepest one"
    )
    student, deepest = (wide(x).flatten(1) for x in (student, deepest.detach() if detach else deepest))
    if mask is not None:
        student, deepest = (x.masked_fill((mask == 0)[:, None], 0.0) for x in (student, deepest))
    squares = (student - deepest).square()
    if positive_only:
        squares = squares.masked_fill((student <= 0) & (deepest <= 0), 0.0)
    return reduced(squares.sum(1), mask, reduction, squares.shape[1])
