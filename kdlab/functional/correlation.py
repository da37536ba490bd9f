"""Losses on the relations of rows and columns in a batch of predictions. One number for the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .kernels import gram
from .logits import hinton_kd
from .rows import added, same_shape, without_masked
from .sources import Paper, method
from .temperature import standardise

_MULTI_LEVEL = Paper(
    "Jin et al.",
    2023,
    "Multi-Level Logit Distillation",
    "https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html",
)
_OFFICIAL = "Jin-Ying/Multi-Level-Logit-Distillation"


@method(
    "logits",
    Paper("Huang et al.", 2022, "Knowledge Distillation from A Stronger Teacher", "https://arxiv.org/abs/2205.10536"),
    {"hunto/image_classification_sota": "dist", "hunto/DIST_KD": "dist_seg"},
)
def dist(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    *,
    temperature_squared: bool = True,
    epsilon: float = 1e-8,
    mask: Tensor | None = None,
) -> Tensor:
    r"""DIST: :math:`T^2\,[\beta\,(1 - \bar r_{\mathrm{rows}}) + \gamma\,(1 - \bar r_{\mathrm{columns}})]`, with
    Pearson's correlation r of the teacher's and the student's probabilities at T. It is computed for each sample over
    the classes (rows), and for each class over the samples (columns).

    The authors' code has the factor T^2; the paper does not mention it. For equal logits it is 0 up to the effect of
    epsilon, which is largest for classes with small probabilities everywhere.

    Args:
        student, teacher: logits ``(N, C)``, or ``(B, C, H, W)`` for segmentation, with every pixel a sample.
        temperature: T, positive.
        beta, gamma: weights of the relations between classes (rows) and within classes (columns).
        temperature_squared: whether the factor T^2 is applied.
        epsilon: added to the product of both norms.
        mask: ``(N,)`` or ``(B, H, W)``, 0 for samples that do not count.

    Returns:
        a scalar.

    Raises:
        ValueError: the shapes differ, or are neither of these. The message shows both.

    >>> s, t = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> dist(s, t), dist(s, 2 * s, gamma=0.0)
    (tensor(0.0172), tensor(0.0059))
    """
    same_shape(student, teacher, "dist", "teacher and student must have the same classes")
    if student.dim() == 4:
        student, teacher = student.movedim(1, -1).flatten(0, 2), teacher.movedim(1, -1).flatten(0, 2)
        mask = None if mask is None else mask.flatten()
    if student.dim() != 2:
        raise ValueError(
            f"dist: logits are (N, C) or (B, C, H, W), got student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}"
        )
    counts = _counts(student, mask)
    q, p = (
        (without_masked(student, mask) / temperature).softmax(-1),
        (without_masked(teacher, mask) / temperature).softmax(-1),
    )
    rows = counts.sum().clamp(min=1)
    inter = (
        1 - (_correlation(q - q.mean(1, keepdim=True), p - p.mean(1, keepdim=True), 1, epsilon) * counts).sum() / rows
    )
    column = counts[:, None]
    q, p = q * column, p * column
    intra = 1 - _correlation((q - q.sum(0) / rows) * column, (p - p.sum(0) / rows) * column, 0, epsilon).mean()
    value = beta * inter + gamma * intra
    return value * temperature**2 if temperature_squared else value


@method("logits", _MULTI_LEVEL, {_OFFICIAL: "mlkd_cc"})
def class_correlation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 4.0,
    *,
    column_mask: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Class-level term of multi-level distillation, :math:`\frac1C \lVert P^\top P - Q^\top Q \rVert_F^2`, with the
    probabilities P of the teacher and Q of the student at T, ``(N, C)``. No factor T^2.

    Args:
        student, teacher: logits ``(N, C)``.
        temperature: T, positive.
        column_mask: ``(C,)``, 0 for classes whose column of the C x C difference is left out.
        mask: ``(N,)``, 0 for rows that do not count.

    >>> class_correlation(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), temperature=1.0)
    tensor(0.1871)
    """
    same_shape(student, teacher, "class_correlation", "teacher and student must have the same classes")
    q, p = _kept(student, temperature, mask), _kept(teacher, temperature, mask)
    return _columns((gram(p.T) - gram(q.T)).square().sum(0), column_mask).sum() / student.shape[1]


@method("logits", _MULTI_LEVEL, {_OFFICIAL: "mlkd_bc"})
def batch_correlation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 4.0,
    *,
    column_mask: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Batch-level term of multi-level distillation, :math:`\frac1N \lVert P P^\top - Q Q^\top \rVert_F^2`, with the
    probabilities P of the teacher and Q of the student at T, ``(N, C)``. No factor T^2.

    Args:
        student, teacher: logits ``(N, C)``.
        temperature: T, positive.
        column_mask: ``(N,)``, 0 for samples whose column of the N x N difference is left out.
        mask: ``(N,)``, 0 for rows that do not count; N is the number of rows that count.

    >>> batch_correlation(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), temperature=1.0)
    tensor(0.0841)
    """
    same_shape(student, teacher, "batch_correlation", "teacher and student must have the same classes")
    q, p = _kept(student, temperature, mask), _kept(teacher, temperature, mask)
    return _columns((gram(p) - gram(q)).square().sum(0), column_mask).sum() / _counts(student, mask).sum().clamp(min=1)


@method("logits", _MULTI_LEVEL, {_OFFICIAL: "mlkd", "sunshangquan/logit-standardization-KD": "mlkd_logit_std"})
def multi_level(
    student: Tensor,
    teacher: Tensor,
    student_strong: Tensor,
    teacher_strong: Tensor,
    temperatures: Sequence[float] = (4.0, 3.0, 5.0, 2.0, 6.0),
    *,
    instance_weight: float = 1.0,
    class_weight: float = 1.0,
    batch_weight: float = 1.0,
    mask_after_mean: bool = False,
    reuse_weak: bool = False,
    strong_correlations: bool = True,
    standardised: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Multi-level distillation over two views of a batch: the sum over both views and all temperatures of Hinton's
    loss (instance level), :func:`class_correlation` and :func:`batch_correlation`,

    .. math:: \sum_{\text{views}} \sum_T \Big[ \frac{T^2}{N} \sum_n \mathrm{KL}(p^T_n \,\|\, q^T_n) + \frac1C \lVert
    P^\top P - Q^\top Q \rVert_F^2
              + \frac1N \lVert P P^\top - Q Q^\top \rVert_F^2 \Big].

    The weak view is masked. The instance and the batch level use the samples whose largest teacher probability does not
    exceed its median over the batch. The class level uses the classes whose teacher probability, summed over the batch,
    does not exceed its median over the classes. The strong view has no masks. The authors' code differs in three
    points, each with a switch: ``mask_after_mean``, ``reuse_weak`` and ``strong_correlations``. With all three it gives
    the code's value.

    Args:
        student, teacher, student_strong, teacher_strong: logits ``(N, C)`` of the weak and of the strong view.
        temperatures: every level has one term per temperature.
        instance_weight, class_weight, batch_weight: weights of the levels.
        mask_after_mean: average each term of the weak view over the whole batch and multiply it by the *fraction* of
            samples or classes in the mask, instead of leaving the others out.
        reuse_weak: at the instance level, from the fourth temperature on, use the weak view in place of the strong
            view.
        strong_correlations: whether the strong view has the class and the batch level. The authors' code computes them
            but leaves them out of its sum.
        standardised: whether the instance level compares standardised logits (:func:`kdlab.functional.standardise`), as
            in the code of logit standardisation.
        mask: ``(N,)``, 0 for rows that do not count.

    Returns:
        a scalar.

    >>> s, t = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])
    >>> multi_level(s, t, s, t, temperatures=[1.0])
    tensor(1.2355)
    """
    for other in (teacher, student_strong, teacher_strong):
        same_shape(student, other, "multi_level", "both views of both networks must have the same samples and classes")
    counts = _counts(student, mask)
    p = without_masked(teacher, mask).softmax(-1)
    samples = _up_to_median(p.amax(-1), counts) * counts
    classes = _up_to_median((p * counts[:, None]).sum(0), torch.ones_like(p[0]))
    rows = counts.sum().clamp(min=1)
    views = [
        (without_masked(mine, mask), without_masked(theirs, mask))
        for mine, theirs in ((student, teacher), (student_strong, teacher_strong))
    ]
    instance_views = [(standardise(mine), standardise(theirs)) for mine, theirs in views] if standardised else views

    terms = []
    for number, temperature in enumerate(temperatures):
        weak = hinton_kd(*instance_views[0], temperature, mask=counts)
        strong = hinton_kd(
            *instance_views[0 if reuse_weak and number >= 3 else 1], temperature, mask=counts, reduction="mean"
        )
        weak = weak.sum() / rows * samples.sum() / rows if mask_after_mean else (weak * samples).sum() / rows
        terms.append(instance_weight * (weak + strong))
        for correlation, weight, kept, share in (
            (class_correlation, class_weight, classes, classes.mean()),
            (batch_correlation, batch_weight, samples, samples.sum() / rows),
        ):
            value = (
                correlation(*views[0], temperature, mask=mask) * share
                if mask_after_mean
                else correlation(*views[0], temperature, column_mask=kept, mask=mask)
            )
            if strong_correlations:
                value = value + correlation(*views[1], temperature, mask=mask)
            terms.append(weight * value)
    return added(terms, "multi_level")


# -- what they share ---------------------------------------------------------------------------------------------------


def _counts(logits: Tensor, mask: Tensor | None) -> Tensor:
    """1 for each row that counts, 0 for the others."""
    ones = torch.ones(logits.shape[0], dtype=torch.promote_types(logits.dtype, torch.float32), device=logits.device)
    return ones if mask is None else ones * (mask != 0)


def _correlation(a: Tensor, b: Tensor, dim: int, epsilon: float) -> Tensor:
    """Pearson's correlation of centred a and b along a dimension."""
    norms: Tensor = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim) / (norms + epsilon)


def _kept(logits: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    """Probabilities at a temperature, 0 in the rows that do not count."""
    return (without_masked(logits, mask) / temperature).softmax(-1) * _counts(logits, mask)[:, None]


def _columns(values: Tensor, column_mask: Tensor | None) -> Tensor:
    return values if column_mask is None else values * column_mask


def _up_to_median(values: Tensor, counts: Tensor) -> Tensor:
    """1 for values that do not exceed the median of the values that count, otherwise 0. The median of an even number of
    values is the mean of the two middle ones."""
    ascending = values.masked_fill(counts == 0, float("inf")).sort().values
    number = counts.sum().long().clamp(min=1)
    low, high = ascending.gather(0, (number[None] - 1) // 2), ascending.gather(0, number[None] // 2)
    return (values <= high - (high - low) / 2).to(values.dtype)
