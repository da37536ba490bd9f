"""Losses that treat the label's class and the other classes separately, one value per row.

Every function takes logits ``(..., C)``, computed in at least float32, and

    target: class numbers ``(...)``; rows of label -100 do not count.
    mask: ``(...)``, 0 for rows that do not count (padding); their gradient is exactly 0, whatever values they hold.
    reduction: ``none`` (one value per row, the default), ``mean``, ``sum``, ``batchmean``, ``elementmean``:
        :func:`kdlab.functional.reduced`.

and raises ValueError, with both shapes, if they do not fit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .divergences import forward_kl
from .logits import cross_entropy, labelled, soft_cross_entropy
from .rows import reduced, same_shape, without_masked
from .sources import TASKS, Paper, method

_UNIFIED = Paper(
    "Yang et al.",
    2023,
    "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and "
    "Customized Soft Labels",
    "https://arxiv.org/abs/2303.13005",
)


@method(
    "logits",
    Paper("Zhao et al.", 2022, "Decoupled Knowledge Distillation", "https://arxiv.org/abs/2203.08679"),
    {"megvii-research/mdistiller": "dkd", "sunshangquan/logit-standardization-KD": "dkd_logit_std"},
    TASKS,
)
def dkd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    *,
    temperature_squared: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Decoupled distillation, :math:`T^2\,[\alpha\,\mathrm{TCKD} + \beta\,\mathrm{NCKD}]`.

    TCKD is the KL divergence between the binary distributions :math:`(p_y, 1 - p_y)` of teacher and student. NCKD is
    the KL divergence between their distributions over the other classes alone. All are softened by T. With
    :math:`\alpha = 1` and :math:`\beta = 1 - p_y` it would be Hinton's loss. The computation uses log-sum-exp
    throughout, never the logarithm of a sum of probabilities.

    Args:
        alpha, beta: weights of TCKD and NCKD. The authors tune beta for every pair of networks: 2, 6 or 8 on CIFAR-100,
            0.5 or 2 on ImageNet.
        temperature: T, positive.
        temperature_squared: whether the factor T^2 is applied.

    >>> s, t, y = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
    >>> dkd(s, t, y, temperature=1.0), dkd(s, t, y, beta=0.0, temperature=1.0)
    (tensor([0.9781]), tensor([0.0172]))
    """
    same_shape(student, teacher, "dkd", "teacher and student must have the same classes")
    target, counts = labelled(student, target, mask, "dkd")
    student, teacher = without_masked(student, counts) / temperature, without_masked(teacher, counts) / temperature
    others, silent = _other_classes(student, teacher, target)
    values = alpha * forward_kl(_own_and_rest(student, target), _own_and_rest(teacher, target)) + beta * forward_kl(
        *others
    ).masked_fill(silent, 0.0)
    return reduced(values * temperature**2 if temperature_squared else values, counts, reduction, student.shape[-1])


@method("logits", _UNIFIED, {"yzd-v/cls_KD": "nkd"}, TASKS)
def nkd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    temperature: float = 1.0,
    gamma: float = 1.5,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Normalised distillation, :math:`-p_y \log q_y - \gamma T^2 \sum_{c \ne y} \hat p^T_c \log \hat q^T_c`, where
    :math:`\hat p, \hat q` are the distributions over the other classes alone. The first term is at temperature 1, with
    :math:`p_y` a constant.

    It is a cross-entropy, so it is not 0 if the student equals the teacher. The cross-entropy of the labels is added
    with weight 1.

    Args:
        target: class numbers ``(...)``, or probabilities ``(..., C)`` (mixed labels), of which the largest is used.
        temperature: T of the second term, positive.
        gamma: weight of the second term.

    >>> nkd(torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
    tensor([1.4547])
    """
    same_shape(student, teacher, "nkd", "teacher and student must have the same classes")
    if target.is_floating_point() and target.shape == student.shape:
        target = target.argmax(-1)
    target, counts = labelled(student, target, mask, "nkd")
    student, teacher = without_masked(student, counts), without_masked(teacher, counts)
    own = target[..., None]
    label = -(teacher.softmax(-1).gather(-1, own).detach() * student.log_softmax(-1).gather(-1, own)).squeeze(-1)
    others, silent = _other_classes(student, teacher, target)
    rest = soft_cross_entropy(*others, temperature, temperature_squared=True).masked_fill(silent, 0.0)
    return reduced(label + gamma * rest, counts, reduction, student.shape[-1])


@method("logits", _UNIFIED, {"yzd-v/cls_KD": "uskd"})
def uskd(
    student: Tensor,
    weak: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 0.1,
    mu: float = 0.005,
    *,
    rank_by_logarithm: bool = False,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Universal self-distillation: customised soft labels instead of a teacher,

    .. math:: -\alpha P_y \log q_y - \beta \sum_{c \ne y} Z_c \log \hat q_c + \mu\,\mathrm{CE}_{0.1}(w).

    :math:`P_y = q_y^2 + 1 - \overline{q_y^2}`, with the mean over the batch. :math:`Z` is proportional to 1 / rank over
    the other classes, 0 for the label, and sums to 1. The rank is that of :math:`w_c / (1 - w_y) + q_c / (1 - q_y)`,
    with the probabilities w of a weak classifier on an intermediate feature. :math:`\hat q` is the student's
    distribution over the other classes alone. The last term trains the weak classifier on labels smoothed by 0.1. P and
    Z are constants: no gradient flows through them.

    Args:
        student: logits ``(N, C)``.
        weak: logits of the weak classifier, of the same shape.
        target: class numbers ``(N,)``.
        alpha, beta, mu: the weights of the three terms.
        rank_by_logarithm: rank by :math:`w_c / (1 - w_y) + \log q_c / (1 - \log q_y)`, as in the authors' code, in
            which a variable for probabilities holds logarithms at this point.

    >>> s, w, y = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.5]]), torch.tensor([0])
    >>> uskd(s, w, y)
    tensor([0.4826])
    """
    same_shape(student, weak, "uskd", "the weak classifier must have the same classes")
    target, counts = labelled(student, target, mask, "uskd")
    weak_loss = cross_entropy(weak, target, label_smoothing=0.1, mask=counts)
    student, weak = without_masked(student, counts), without_masked(weak, counts)
    own = target[..., None]
    log_q = student.log_softmax(-1)
    log_label = log_q.gather(-1, own).squeeze(-1)
    with torch.no_grad():
        square = log_label.exp().square()
        square = square if counts is None else square.masked_fill(~counts, 0.0)
        rows = square.numel() if counts is None else counts.sum().clamp(min=1)
        label_target = square + 1 - square.sum() / rows
        likeness = _odds(weak.softmax(-1), own) + _odds(log_q if rank_by_logarithm else log_q.exp(), own)
        rank = likeness.argsort(-1, descending=True).argsort(-1) + 1
        zipf = (1 / rank.to(student.dtype)).masked_fill(_is(target, student), 0.0)
        zipf = zipf / zipf.sum(-1, keepdim=True)
    log_others = _others(student, target).log_softmax(-1).masked_fill(_is(target, student), 0.0)
    values = -alpha * label_target * log_label - beta * (zipf * log_others).sum(-1) + mu * weak_loss
    return reduced(values, counts, reduction, student.shape[-1])


@method(
    "logits",
    Paper(
        "Zhou et al.",
        2021,
        "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective",
        "https://arxiv.org/abs/2102.00650",
    ),
    serves=TASKS,
)
def wsld(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    temperature: float = 2.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Weighted soft labels, :math:`T^2 \big(1 - e^{-\mathrm{CE}_s / \mathrm{CE}_t}\big) \big(-\sum_c p^T_c \log
    q^T_c\big)`.

    :math:`\mathrm{CE}_s, \mathrm{CE}_t` are the cross-entropies of student and teacher to the label, at temperature 1:
    a row has less weight if the student predicts its label better than the teacher does. The weight is a constant: no
    gradient flows through it.

    Args:
        temperature: T, positive.

    >>> wsld(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0]), temperature=1.0)
    tensor([0.2215])
    """
    same_shape(student, teacher, "wsld", "teacher and student must have the same classes")
    target, counts = labelled(student, target, mask, "wsld")
    with torch.no_grad():
        mine, theirs = cross_entropy(student, target, mask=counts), cross_entropy(teacher, target, mask=counts)
        # 1 if only the teacher is certain of the label
        weight = -torch.expm1(-mine / theirs.clamp(min=torch.finfo(theirs.dtype).tiny))
    values = soft_cross_entropy(student, teacher, temperature, temperature_squared=True, mask=counts)
    return reduced(weight * values, counts, reduction, student.shape[-1])


# -- what they share ---------------------------------------------------------------------------------------------------


def _is(target: Tensor, logits: Tensor) -> Tensor:
    """True at each row's label, ``(..., C)``."""
    return torch.arange(logits.shape[-1], device=logits.device) == target[..., None]


def _others(logits: Tensor, target: Tensor) -> Tensor:
    """The logits with the label's class excluded."""
    return logits.masked_fill(_is(target, logits), float("-inf"))


def _other_classes(student: Tensor, teacher: Tensor, target: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Both sides' logits with the label's class excluded, and the rows in which the teacher excludes all other classes
    with -inf. Those rows are set to zeros."""
    mine, theirs = _others(student, target), _others(teacher, target)
    silent = torch.isneginf(theirs).all(-1)
    rows = silent[..., None]
    return (mine.masked_fill(rows, 0.0), theirs.masked_fill(rows, 0.0)), silent


def _own_and_rest(logits: Tensor, target: Tensor) -> Tensor:
    """Logits ``(..., 2)`` of the binary distribution: the label's class, and all others together."""
    return torch.stack(
        [logits.gather(-1, target[..., None]).squeeze(-1), _others(logits, target).logsumexp(-1)], dim=-1
    )


def _odds(values: Tensor, own: Tensor) -> Tensor:
    """Each class's value divided by one minus the label's value, as in the authors' code of USKD (which adds 1e-6 to
    avoid a division by 0)."""
    return values / (1 - values.gather(-1, own) + 1e-6)
