"""Losses on the logits of several labels a sample, each present or absent: one value a row.

Every function takes logits ``(..., C)``, one a label, computed in at least float32, and ``mask`` and ``reduction`` as
in :mod:`kdlab.functional.logits`. It raises ValueError, with both shapes, if they do not fit.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from .rows import reduced, same_shape, without_masked
from .sources import Paper, method

_SERVES = ("multi-label",)


@method(
    "logits",
    Paper(
        "Bishop",
        2006,
        "Pattern Recognition and Machine Learning",
        "https://www.microsoft.com/en-us/research/publication/pattern-recognition-machine-learning/",
    ),
    serves=_SERVES,
)
def binary_cross_entropy(
    student: Tensor,
    target: Tensor,
    *,
    mean_over_labels: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Binary cross-entropy to the labels, :math:`-\frac{1}{C}\sum_c [y_c \log \sigma(z_c) + (1 - y_c) \log (1 -
    \sigma(z_c))]`, in nats a label. Equation 5.22 of the book, there a sum over the labels.

    Args:
        target: ``(..., C)``, in [0, 1].
        mean_over_labels: a mean over the labels; if false, their sum.

    >>> import torch
    >>> binary_cross_entropy(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([0.4100])
    """
    same_shape(student, target, "binary_cross_entropy", "a target has one column for each label")
    logits, target = without_masked(student, mask), without_masked(target, mask)
    values = -(target * logsigmoid(logits) + (1 - target) * logsigmoid(-logits))
    return _over_labels(values, mean_over_labels, mask, reduction)


@method(
    "logits",
    Paper("Yang et al.", 2023, "Multi-Label Knowledge Distillation", "https://arxiv.org/abs/2308.06453"),
    serves=_SERVES,
)
def sigmoid_kd(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    temperature_squared: bool = True,
    *,
    mean_over_labels: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Soft targets of each label: :math:`\frac{T^2}{C}\sum_c \mathrm{KL}(p_c \,\|\, q_c)` of the two Bernoulli
    distributions :math:`p_c = \sigma(z^t_c / T)` and :math:`q_c = \sigma(z^s_c / T)`, in nats a label.

    The paper's multi-label logits distillation, there a sum over the labels, at temperature 1.

    Args:
        temperature: T, positive.
        temperature_squared: whether the factor T^2 is applied, as in :func:`kdlab.functional.hinton_kd`.
        mean_over_labels: a mean over the labels; if false, their sum.

    >>> import torch
    >>> z = torch.tensor([[2.0, 0.0]])
    >>> sigmoid_kd(z, z), sigmoid_kd(z, -z)
    (tensor([0.]), tensor([0.7616]))
    """
    same_shape(student, teacher, "sigmoid_kd", "teacher and student must have the same labels")
    mine, theirs = (without_masked(logits, mask) / temperature for logits in (student, teacher))
    p = theirs.sigmoid()
    present = p * (logsigmoid(theirs) - logsigmoid(mine))
    absent = (1 - p) * (logsigmoid(-theirs) - logsigmoid(-mine))
    values = _over_labels(present + absent, mean_over_labels, mask, reduction)
    return values * temperature**2 if temperature_squared else values


def _over_labels(values: Tensor, mean: bool, mask: Tensor | None, reduction: str) -> Tensor:
    return reduced(values.mean(-1) if mean else values.sum(-1), mask, reduction, values.shape[-1])
