r"""One network with several classifiers: the branches and gate of ONE, the exits of BYOT (be your own teacher)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .divergences import log_probabilities
from .logits import cross_entropy, hinton_kd, soft_cross_entropy
from .peers import stacked
from .rows import reduced, same_shape, wide
from .sources import Paper, method
from .terms import Terms

_ONE = Paper("Lan et al.", 2018, "Knowledge Distillation by On-the-Fly Native Ensemble", "https://arxiv.org/abs/1806.04606")
_BYOT = Paper("Zhang et al.", 2019, "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self Distillation",
              "https://arxiv.org/abs/1905.08094")
_ONE_CODE, _BYOT_CODE = "Lan1991Xu/ONE_NeurIPS2018", "luanyunteng/pytorch-be-your-own-teacher"


@method("strategy", _ONE, {_ONE_CODE: "one_total"})
def ensemble_logits(branches: Sequence[Tensor], gate: Tensor) -> Tensor:
    r"""ONE's teacher, :math:`z_e = \sum_i g_i z_i`.

    Args:
        branches: logits of each branch, ``(N, C)``.
        gate: how much each branch counts, ``(N, M)``: see :class:`kdlab.models.gate.BranchGate`.

    >>> import torch
    >>> ensemble_logits([torch.tensor([[0.0, 2.0]]), torch.tensor([[4.0, 0.0]])], torch.tensor([[0.5, 0.5]]))
    tensor([[2., 1.]])
    """
    stack = stacked(branches, "ensemble_logits", False)
    if gate.shape != (stack.shape[1], len(stack)):
        raise ValueError(f"ensemble_logits: {len(stack)} branches of logits {tuple(stack.shape[1:])} need a gate {(stack.shape[1], len(stack))}, "
                         f"got {tuple(gate.shape)}")
    return (stack * gate.movedim(1, 0)[..., None]).sum(0)


@method("logits", _ONE, {_ONE_CODE: "one_kl"})
def one_kl(student: Tensor, ensemble: Tensor, temperature: float = 3.0, *, epsilon: float = 0.0, detach: bool = True,
           temperature_squared: bool = True, mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""What a branch learns from the ensemble of the branches, :math:`T^2\,\mathrm{KL}(p_e^T \,\|\, p^T)`.

    Args:
        student: logits of a branch, ``(N, C)``.
        ensemble: :func:`ensemble_logits`.
        temperature, temperature_squared: as in :func:`kdlab.functional.hinton_kd`.
        epsilon: added to the ensemble's probabilities, which then do not sum to 1; 1e-7 in the authors' code, where equal logits
            therefore do not give 0.
        detach: whether the ensemble is a constant, as in the authors' code.
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
def byot_kd(student: Tensor, deepest: Tensor, temperature: float = 3.0, *, entropy: bool = True, detach: bool = True,
            temperature_squared: bool = True, mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""What an exit learns from the deepest classifier's distribution, :math:`T^2\,\mathrm{KL}(p_d^T \,\|\, p^T)`.

    Args:
        student: logits of an exit, ``(N, C)``.
        deepest: logits of the last classifier.
        temperature, temperature_squared: as in :func:`kdlab.functional.hinton_kd`.
        entropy: False leaves the deepest classifier's entropy in (a cross-entropy: the same gradient, not 0 at equality), as the
            usual re-implementation does.
        detach: whether the deepest classifier is a constant.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(N,)``

    >>> import torch
    >>> byot_kd(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 3.0]])), byot_kd(torch.zeros(1, 2), torch.zeros(1, 2), entropy=False)
    (tensor([0.9985]), tensor([6.2383]))
    """
    function = hinton_kd if entropy else soft_cross_entropy
    return function(student, deepest.detach() if detach else deepest, temperature, temperature_squared, mask=mask, reduction=reduction)


@method("strategy", _BYOT, {_BYOT_CODE: "byot"})
def byot_feature(student: Tensor, deepest: Tensor, *, positive_only: bool = False, detach: bool = True, mask: Tensor | None = None,
                 reduction: str = "none") -> Tensor:
    r"""Squared distance of an exit's feature from the deepest one's, :math:`\lVert f - f_d \rVert_2^2`, summed over a sample's elements.

    Args:
        student: feature of an exit, after its bottleneck, ``(B, ...)``.
        deepest: feature of the last stage, of the same shape.
        positive_only: leave out the elements where neither of the two is above 0, as the usual re-implementation does.
        detach: whether the deepest feature is a constant.
        mask, reduction: see :func:`kdlab.functional.reduced`; the usual re-implementation has ``sum``, over the batch too.

    Returns:
        ``(B,)``

    >>> import torch
    >>> a, b = torch.tensor([[1.0, -1.0]]), torch.tensor([[3.0, -2.0]])
    >>> byot_feature(a, b), byot_feature(a, b, positive_only=True)
    (tensor([5.]), tensor([4.]))
    """
    same_shape(student, deepest, "byot_feature", "a bottleneck must bring the exit's feature to the deepest one's shape")
    student, deepest = (wide(x).flatten(1) for x in (student, deepest.detach() if detach else deepest))
    if mask is not None:
        student, deepest = (x.masked_fill((mask == 0)[:, None], 0.0) for x in (student, deepest))
    squares = (student - deepest).square()
    if positive_only:
        squares = squares.masked_fill((student <= 0) & (deepest <= 0), 0.0)
    return reduced(squares.sum(1), mask, reduction, squares.shape[1])


@method("strategy", _BYOT, {_BYOT_CODE: "byot"})
def byot(deepest: Tensor, exits: Sequence[Tensor], target: Tensor, deepest_feature: Tensor | None = None, features: Sequence[Tensor] = (),
         temperature: float = 3.0, kd_weight: float = 0.1, feature_weight: float = 1e-6, deepest_weight: float = 1.0, *, entropy: bool = True,
         positive_only: bool = False, feature_reduction: str = "none", detach: bool = True, temperature_squared: bool = True) -> Terms:
    r"""Be your own teacher: with :math:`\alpha` the weight of the KD terms and :math:`\beta` that of the features,

    .. math:: w_d\,\mathrm{CE}(z_d) + \sum_i \big[(1 - \alpha)\,\mathrm{CE}(z_i) + \alpha\,T^2\,\mathrm{KL}(p_d^T \,\|\, p_i^T)
              + \beta\,\lVert f_i - f_d \rVert_2^2 \big].

    Args:
        deepest: logits of the last classifier, ``(N, C)``.
        exits: logits of the earlier exits.
        target: class numbers ``(N,)``.
        deepest_feature: ``(N, ...)``.
        features: the exits' features, after their bottlenecks; none leaves the feature terms out.
        temperature, entropy, temperature_squared: of :func:`byot_kd`.
        kd_weight, feature_weight: alpha and beta; the usual re-implementation has these defaults (its beta weighs a sum over the batch).
        deepest_weight: of the last classifier's cross-entropy: in the paper it learns from the labels alone; the usual
            re-implementation has 1 - alpha.
        positive_only, feature_reduction: of :func:`byot_feature` (the usual re-implementation: True, ``sum``).
        detach: whether logits and feature of the deepest classifier are constants for the exits.

    Returns:
        Terms ``ce_deepest``, ``ce_0``, …, ``kd_0``, …, ``feature_0``, …

    >>> import torch
    >>> z = torch.tensor([[0.0, 0.0]])
    >>> terms = byot(torch.tensor([[0.0, 3.0]]), [z], torch.tensor([1]), z, [z + 1])
    >>> list(terms.parts), terms.total()
    (['ce_deepest', 'ce_0', 'kd_0', 'feature_0'], tensor(0.7723))
    """
    if features and (deepest_feature is None or len(features) != len(exits)):
        raise ValueError(f"byot: features need one an exit and the deepest one, got {len(features)} for {len(exits)} exits and "
                         f"{'none' if deepest_feature is None else tuple(deepest_feature.shape)}")
    parts, weights = {"ce_deepest": cross_entropy(deepest, target)}, {"ce_deepest": deepest_weight}
    for number, logits in enumerate(exits):
        parts[f"ce_{number}"], weights[f"ce_{number}"] = cross_entropy(logits, target), 1 - kd_weight
    for number, logits in enumerate(exits):
        kd = byot_kd(logits, deepest, temperature, entropy=entropy, detach=detach, temperature_squared=temperature_squared)
        parts[f"kd_{number}"], weights[f"kd_{number}"] = kd, kd_weight
    for number, feature in enumerate(features):
        distance = byot_feature(feature, deepest_feature, positive_only=positive_only, detach=detach, reduction=feature_reduction)
        parts[f"feature_{number}"], weights[f"feature_{number}"] = distance, feature_weight
    return Terms(parts, weights)
