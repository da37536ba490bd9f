"""Losses on logits, one value per row.

Every function takes logits ``(..., C)``, computed in at least float32, and

    target: class numbers ``(...)``; rows of label -100 do not count.
    mask: ``(...)``, 0 for rows that do not count (padding); their gradient is exactly 0, whatever values they hold.
    reduction: ``none`` (one value per row, the default), ``mean``, ``sum``, ``batchmean``, ``elementmean``:
        :func:`kdlab.functional.reduced`.

and raises ValueError, with both shapes, if they do not fit.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .divergences import forward_kl, log_probabilities
from .rows import is_empty, reduced, same_shape, without_masked
from .sources import KINDS, TASKS, Paper, method

_HINTON = Paper(
    "Hinton et al.", 2015, "Distilling the Knowledge in a Neural Network", "https://arxiv.org/abs/1503.02531"
)


@method(
    "logits",
    Paper(
        "Szegedy et al.",
        2016,
        "Rethinking the Inception Architecture for Computer Vision",
        "https://arxiv.org/abs/1512.00567",
    ),
    {
        "sunshangquan/logit-standardization-KD": "label_smoothing_szegedy",
        "yuanli2333/Teacher-free-Knowledge-Distillation": "label_smoothing_tfkd",
    },
    TASKS,
)
def cross_entropy(
    student: Tensor,
    target: Tensor,
    label_smoothing: float = 0.0,
    *,
    smoothing_over: Literal["all", "others"] = "all",
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Cross-entropy to the labels, :math:`-\sum_c t_c \log q_c`, with one of the two definitions of label smoothing:
    :math:`t = (1 - \epsilon)\,\mathrm{onehot}(y) + \epsilon / C`, or :math:`t_y = 1 - \epsilon` and
    :math:`t_c = \epsilon / (C - 1)` for the other classes.

    Args:
        label_smoothing: epsilon, in [0, 1].
        smoothing_over: ``all``: all classes share epsilon, the label's too (section 7 of the paper; torch). ``others``:
            only the other classes share it (the code of Tf-KD), which equals ``all`` with epsilon C / (C - 1).

    >>> cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor([0.1269])
    >>> cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), label_smoothing=0.1)
    tensor([0.2269])
    >>> cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), label_smoothing=0.1, smoothing_over="others")
    tensor([0.3269])
    """
    if smoothing_over not in ("all", "others"):
        raise ValueError(f"smoothing_over must be 'all' or 'others', got {smoothing_over!r}")
    target, counts = labelled(student, target, mask, "cross_entropy")
    log_q, classes = without_masked(student, counts).log_softmax(-1), student.shape[-1]
    if log_q.dim() == 2:  # the same bits in fewer operations
        values = torch.nn.functional.nll_loss(log_q, target, reduction="none")
    else:
        values = -log_q.gather(-1, target[..., None]).squeeze(-1)
    if label_smoothing:
        everywhere = -log_q.sum(-1)
        share = everywhere / classes if smoothing_over == "all" else (everywhere - values) / (classes - 1)
        values = (1 - label_smoothing) * values + label_smoothing * share
    return reduced(values, counts, reduction, classes)


def labelled(student: Tensor, target: Tensor, mask: Tensor | None, what: str) -> tuple[Tensor, Tensor | None]:
    """A class number for every row, and which rows count: those that the mask keeps and whose label is not -100. None
    if all are known to count (:func:`kdlab.functional.rows.is_empty`).

    Raises:
        ValueError: the target is not one class number per row, or the mask is not one entry per row.
    """
    if target.shape != student.shape[:-1] or target.is_floating_point():
        raise ValueError(
            f"{what}: logits {tuple(student.shape)} need one class number per row, got a target of shape "
            f"{tuple(target.shape)} and type {target.dtype}"
        )
    ignored = target == -100
    if mask is not None:
        if mask.shape != target.shape:
            raise ValueError(
                f"{what}: a mask has one entry per row: the target is {tuple(target.shape)} and the mask "
                f"{tuple(mask.shape)}"
            )
        ignored = ignored | (mask == 0)
    return (target, None) if is_empty(ignored) else (target.masked_fill(ignored, 0), ~ignored)


@method(
    "logits",
    _HINTON,
    {
        "HobbitLong/RepDistiller": "kd",
        "megvii-research/mdistiller": "kd_total",
        "yuanli2333/Teacher-free-Knowledge-Distillation": "tfkd_kd tfkd_self",
        "intersun/PKD-for-BERT-Model-Compression": "pkd_kd",
    },
    TASKS,
)
def hinton_kd(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 4.0,
    temperature_squared: bool = True,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Soft targets: :math:`T^2\,\mathrm{KL}(p^T \,\|\, q^T)`, both distributions softened by T.

    Section 2 of the paper. The factor T^2 keeps the size of the gradient when T changes, because the gradient shrinks
    as 1/T^2.

    Args:
        temperature: T, positive.
        temperature_squared: whether the factor T^2 is applied.
        reduction: for a classifier, ``mean`` over rows equals torch's ``batchmean``. Tf-KD, PKD and TAKD use
            ``elementmean``.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> hinton_kd(z, z)
    tensor([0., 0.])
    >>> hinton_kd(z, -z, temperature=2.0)
    tensor([1.8485, 0.4898])
    """
    values = forward_kl(student, teacher, temperature, mask=mask, reduction=reduction)
    return values * temperature**2 if temperature_squared else values


@method(
    "logits",
    _HINTON,
    {
        "huawei-noah/Pretrained-Language-Model": "tinybert_pred",
        "airaria/TextBrewer": "textbrewer_kd_ce_loss",
        "jongwooko/distillm": "distillm_forward_kl",
    },
    TASKS,
)
def soft_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    temperature_squared: bool = False,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Cross-entropy to the teacher's soft targets, :math:`-\sum_c p^T_c \log q^T_c`: its gradient is that of the
    forward KL. Its value is larger by the teacher's entropy, so it is not 0 if the student equals the teacher.

    Args:
        temperature: T, positive.
        temperature_squared: the factor T^2 of :func:`hinton_kd`. Off by default, as in the code of TinyBERT, TextBrewer
            and DistiLLM.
        reduction: TinyBERT uses ``elementmean``.
        skip_infinite: leave out the classes that either side excludes with -inf, as in DistiLLM.

    >>> soft_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.6931])
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "soft_cross_entropy")
    p = log_p.exp()
    empty = p == 0
    if skip_infinite:
        empty = empty | torch.isinf(log_q)
    # filled before the product, not after it: the gradient of 0 times inf is NaN even if the value is masked
    values = reduced(
        -(p.masked_fill(empty, 0.0) * log_q.masked_fill(empty, 0.0)).sum(-1), mask, reduction, student.shape[-1]
    )
    return values * temperature**2 if temperature_squared else values


@method(
    "logits",
    Paper(
        "Touvron et al.",
        2021,
        "Training data-efficient image transformers & distillation through attention",
        "https://arxiv.org/abs/2012.12877",
    ),
    serves=TASKS,
)
def hard_label(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""Hard distillation: cross-entropy to the teacher's most probable class, :math:`-\log q_{\arg\max_c z_{t,c}}`.
    DeiT adds it to the cross-entropy of the labels, each with weight 1/2.

    >>> hard_label(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    tensor([2.1269])
    """
    same_shape(student, teacher, "hard_label", "teacher and student must have the same classes")
    return cross_entropy(student, without_masked(teacher, mask).argmax(-1), mask=mask, reduction=reduction)


@method(
    "logits",
    Paper("Ba and Caruana", 2014, "Do Deep Nets Really Need to be Deep?", "https://arxiv.org/abs/1312.6184"),
    {"airaria/TextBrewer": "textbrewer_kd_mse_loss"},
    KINDS,
)
def logit_mse(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    mean_over_classes: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Squared difference of logits, :math:`\frac{1}{C}\sum_c \big((z_{s,c} - z_{t,c}) / T\big)^2`.

    Equation 1 of the paper, which has the factor 1/2 and a sum over classes. Here it is a mean, so that the weight does
    not depend on the number of classes.

    Args:
        temperature: T, positive: both sides' logits are divided by it, as in TextBrewer. It has the same effect as a
            weight of 1 / T^2.
        mean_over_classes: False sums over the classes, as the code of DistilBERT does.
        reduction: a row is already a mean over classes, so ``elementmean`` equals ``mean``.

    >>> logit_mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([2.5000])
    """
    same_shape(student, teacher, "logit_mse", "teacher and student must have the same classes")
    student, teacher = without_masked(student, mask), without_masked(teacher, mask)
    # excluded by both: the difference is 0, but inf minus inf would be NaN
    excluded = torch.isneginf(student) & torch.isneginf(teacher)
    squares = ((student.masked_fill(excluded, 0.0) - teacher.masked_fill(excluded, 0.0)) / temperature).square()
    return reduced(squares.mean(-1) if mean_over_classes else squares.sum(-1), mask, reduction, 1)


@method(
    "logits",
    Paper(
        "Yuan et al.",
        2020,
        "Revisiting Knowledge Distillation via Label Smoothing Regularization",
        "https://arxiv.org/abs/1909.11723",
    ),
    {"yuanli2333/Teacher-free-Knowledge-Distillation": "tfkd_reg"},
)
def virtual_teacher(
    student: Tensor,
    target: Tensor,
    correct_probability: float = 0.99,
    temperature: float = 40.0,
    *,
    student_temperature: float = 1.0,
    softened: Literal["probabilities", "logarithms"] = "probabilities",
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Teacher-free regularisation (Tf-KD): :math:`\mathrm{KL}(p \,\|\, q)` from a hand-designed teacher. It gives the
    label probability a and every other class :math:`(1 - a) / (C - 1)`, softened by T.

    Args:
        correct_probability: a, in (0, 1).
        temperature: T of the virtual teacher, positive.
        student_temperature: the student's logits are divided by it; 1 in the authors' code.
        softened: ``probabilities``: :math:`p = \mathrm{softmax}(u / T)` of the probabilities u themselves, as in the
            authors' code: at most a factor e between the label and other classes, so p is nearly uniform at the
            authors' T. ``logarithms``: :math:`\mathrm{softmax}(\log u / T)`, the usual meaning of a temperature.
        reduction: the authors' code uses ``elementmean``.

    >>> virtual_teacher(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor([0.4216])
    """
    if softened not in ("probabilities", "logarithms"):
        raise ValueError(f"softened must be 'probabilities' or 'logarithms', got {softened!r}")
    target, counts = labelled(student, target, mask, "virtual_teacher")
    log_q, classes = (without_masked(student, counts) / student_temperature).log_softmax(-1), student.shape[-1]
    own = torch.arange(classes, device=student.device) == target[..., None]
    teacher = torch.full_like(log_q, (1 - correct_probability) / (classes - 1)).masked_fill(own, correct_probability)
    log_p = ((teacher if softened == "probabilities" else teacher.log()) / temperature).log_softmax(-1)
    return reduced((log_p.exp() * (log_p - log_q)).sum(-1), counts, reduction, classes)
