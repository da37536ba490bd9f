r"""A network that learns from what it said before, or says of another sample: PS-KD, CS-KD, DLB. What is remembered is a constant."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .logits import cross_entropy, hinton_kd
from .rows import reduced, same_shape, wide, without_masked
from .sources import Paper, method
from .terms import Terms

_PS_KD = Paper("Kim et al.", 2021, "Self-Knowledge Distillation with Progressive Refinement of Targets", "https://arxiv.org/abs/2006.12000")
_CS_KD = Paper("Yun et al.", 2020, "Regularizing Class-wise Predictions via Self-knowledge Distillation", "https://arxiv.org/abs/2003.13964")
_DLB = Paper("Shen et al.", 2022, "Self-Distillation from the Last Mini-Batch for Consistency Regularization", "https://arxiv.org/abs/2203.16172")
_PS_KD_CODE, _CS_KD_CODE = "lgcnsai/PS-KD-Pytorch", "alinlab/cs-kd"


def ps_kd_alpha(epoch: int, epochs: int, last: float = 0.8) -> float:
    r"""How much the former prediction counts in ``epoch`` (from 0) of ``epochs``, :math:`\alpha_t = \alpha_T (t + 1) / T`.

    >>> [round(ps_kd_alpha(epoch, 300), 4) for epoch in (0, 149, 299)]
    [0.0027, 0.4, 0.8]
    """
    if not 0 <= epoch < epochs or not 0 <= last <= 1:
        raise ValueError(f"ps_kd_alpha: the epoch must be one of 0 to {epochs - 1} and the last alpha between 0 and 1, got {epoch} and {last}")
    return last * (epoch + 1) / epochs


@method("strategy", _PS_KD, {_PS_KD_CODE: "pskd"})
def ps_kd_targets(previous: Tensor, target: Tensor, alpha: float | Tensor, *, seen: Tensor | None = None, detach: bool = True) -> Tensor:
    r"""PS-KD's soft targets, :math:`(1 - \alpha)\,\mathrm{onehot}(y) + \alpha\,p`, with p what the network said of the sample when it last
    saw it.

    Args:
        previous: probabilities ``(N, C)``.
        target: class numbers ``(N,)``; a row of -100 gets zeros.
        alpha: in [0, 1], see :func:`ps_kd_alpha`.
        seen: ``(N,)``, 0 for samples that the network never saw, whose target is the label; in the first epoch all of them.
        detach: whether the former prediction is a constant.

    >>> import torch
    >>> ps_kd_targets(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.tensor([0, 1]), 0.4, seen=torch.tensor([True, False]))
    tensor([[0.8000, 0.2000],
            [0.0000, 1.0000]])
    """
    for name, given in (("class number", target), ("entry of seen", seen)):
        if given is not None and given.shape != previous.shape[:1]:
            raise ValueError(f"ps_kd_targets: probabilities {tuple(previous.shape)} need one {name} a row, got {tuple(given.shape)}")
    previous = wide(previous.detach() if detach else previous)
    label = F.one_hot(target.clamp(min=0), previous.shape[-1]).to(previous.dtype)
    if seen is not None:
        previous = torch.where((seen != 0)[:, None], previous, label)
    return ((1 - alpha) * label + alpha * previous).masked_fill((target == -100)[:, None], 0.0)


@method("strategy", _PS_KD, {_PS_KD_CODE: "pskd"})
def ps_kd(student: Tensor, previous: Tensor, target: Tensor, alpha: float | Tensor, *, seen: Tensor | None = None, detach: bool = True,
          mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""Progressive self-knowledge distillation: the cross-entropy :math:`-\sum_c t_c \log p_c` to :func:`ps_kd_targets`.

    Args:
        student: logits ``(N, C)``.
        previous, target, alpha, seen, detach: as there.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(N,)``

    >>> import torch
    >>> ps_kd(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]]), torch.tensor([0]), 0.4)
    tensor([0.5269])
    """
    same_shape(student, previous, "ps_kd", "the former prediction must have the same classes")
    targets = ps_kd_targets(without_masked(previous, mask), target, alpha, seen=seen, detach=detach)
    surprise = -without_masked(student, mask).log_softmax(-1)
    # a class that the target excludes adds nothing, even where the logit is -inf
    return reduced((targets * surprise.masked_fill(targets == 0, 0.0)).sum(-1), mask, reduction, student.shape[-1])


@method("strategy", _CS_KD, {_CS_KD_CODE: "cskd_kl"})
def cs_kd_kl(student: Tensor, pair: Tensor, temperature: float = 4.0, *, detach: bool = True, temperature_squared: bool = True,
             mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""What the network says of another sample of the same class, as soft target: :math:`T^2\,\mathrm{KL}(p'^T \,\|\, p^T)`.

    Args:
        student: logits ``(N, C)``.
        pair: logits of the paired samples.
        temperature, temperature_squared: as in :func:`kdlab.functional.hinton_kd`.
        detach: whether the pair is a constant, as in the paper.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(N,)``

    >>> import torch
    >>> cs_kd_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 4.0]]))
    tensor([1.7751])
    """
    return hinton_kd(student, pair.detach() if detach else pair, temperature, temperature_squared, mask=mask, reduction=reduction)


@method("strategy", _CS_KD, {_CS_KD_CODE: "cskd_total"})
def cs_kd(student: Tensor, pair: Tensor, target: Tensor, temperature: float = 4.0, weight: float = 1.0, *, detach: bool = True,
          temperature_squared: bool = True) -> Terms:
    r"""Class-wise self-knowledge distillation, :math:`\mathrm{CE} + \lambda\,T^2\,\mathrm{KL}(p'^T \,\|\, p^T)`. In a batch whose second half
    is the pairs of its first, this is the loss of the first half; the second has no cross-entropy and no gradient.

    Args:
        student: logits of the first half, ``(N, C)``.
        pair: logits of the second, in the same order.
        target: class numbers of the first half, ``(N,)``.
        weight: lambda.
        temperature, detach, temperature_squared: of :func:`cs_kd_kl`.

    Returns:
        Terms ``ce`` and ``pair``, one value a row of the first half each.

    >>> import torch
    >>> cs_kd(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([1])).total()
    tensor(2.4683)
    """
    pairs = cs_kd_kl(student, pair, temperature, detach=detach, temperature_squared=temperature_squared)
    return Terms({"ce": cross_entropy(student, target), "pair": pairs}, {"ce": 1.0, "pair": weight})


@method("strategy", _DLB, {"Meta-knowledge-Lab/DLB": "dlb"})
def dlb(student: Tensor, target: Tensor, previous: Tensor | None = None, previous_target: Tensor | None = None, recorded: Tensor | None = None,
        temperature: float = 3.0, weight: float = 1.0, *, detach: bool = True, temperature_squared: bool = True) -> Terms:
    r"""Self-distillation from the last mini-batch: the cross-entropy of this batch and, under another augmentation, of the last one, plus
    :math:`\alpha\,T^2\,\mathrm{KL}(p_r^T \,\|\, p^T)` on the last one, with :math:`p_r` what was said of it one step before.

    Args:
        student, target: logits ``(N, C)`` of this batch and its class numbers ``(N,)``.
        previous, previous_target: logits ``(P, C)`` of the last batch, seen again, and its class numbers; None in the first step.
        recorded: the last batch's logits as they were one step before.
        weight: alpha.
        temperature, temperature_squared: as in :func:`kdlab.functional.hinton_kd`.
        detach: whether the recorded logits are a constant.

    Returns:
        Terms ``ce``, and behind the first step ``ce_previous`` and ``consistency``. The two cross-entropies are weighted by their rows,
        so that together they are the mean over all N + P.

    >>> import torch
    >>> z = torch.tensor([[0.0, 0.0]])
    >>> dlb(z, torch.tensor([1])).total(), dlb(z, torch.tensor([1]), z, torch.tensor([0]), torch.tensor([[0.0, 3.0]])).total()
    (tensor(0.6931), tensor(1.6916))
    """
    if previous is None:
        return Terms({"ce": cross_entropy(student, target)}, {"ce": 1.0})
    if previous_target is None or recorded is None:
        raise ValueError("dlb: the last batch's logits come with its class numbers and with the logits recorded one step before")
    consistency = hinton_kd(previous, recorded.detach() if detach else recorded, temperature, temperature_squared)
    share = len(student) / (len(student) + len(previous))
    return Terms({"ce": cross_entropy(student, target), "ce_previous": cross_entropy(previous, previous_target), "consistency": consistency},
                 {"ce": share, "ce_previous": 1 - share, "consistency": weight})
