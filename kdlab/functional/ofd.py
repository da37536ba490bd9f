"""OFD: the overhaul of feature distillation, a loss on pre-activations (the inputs of a ReLU). One value per sample."""

import math

import torch
from torch import Tensor

from .maps import samples
from .rows import reduced
from .sources import Paper, method

_OFD = Paper("Heo et al.", 2019, "A Comprehensive Overhaul of Feature Distillation", "https://arxiv.org/abs/1904.01866")


@method("features", _OFD, {"megvii-research/mdistiller": "ofd_feat ofd"})
def partial_l2(
    student: Tensor, teacher: Tensor, margin: Tensor, *, mask: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    r"""The overhaul's partial L2 with a margin ReLU on the teacher: with :math:`t'_d = \max(t_d, m_c)`,

    .. math:: \sum_d (s_d - t'_d)^2 \, \mathbb{1}[s_d > t'_d \text{ or } t'_d > 0] ,

    so if the teacher's unit is inactive, the student's unit only has to be inactive, too.

    Args:
        student: pre-activations ``(B, C, ...)``, after the connector.
        teacher: pre-activations of the same shape.
        margin: m, one per channel, ``(C,)``, below 0: see :func:`normal_margin`.

    Returns:
        ``(B,)``, a sum over the elements of a sample.

    Raises:
        ValueError: the shapes do not fit.

    >>> import torch
    >>> partial_l2(torch.tensor([[-3.0, 1.0, 1.0]]), torch.tensor([[-2.0, -2.0, 2.0]]),
    ...     torch.tensor([-0.5, -0.5, -0.5]))
    tensor([3.2500])
    """
    student, teacher = samples(student, teacher, mask, "partial_l2")
    if margin.shape != student.shape[1:2]:
        raise ValueError(
            f"partial_l2: features {tuple(student.shape)} need one margin per channel, {tuple(student.shape[1:2])}, "
            f"got {tuple(margin.shape)}"
        )
    target = torch.maximum(teacher, margin.to(teacher.dtype).view(-1, *[1] * (teacher.dim() - 2)))
    difference = student - target
    values = torch.where(target > 0, difference, difference.relu()).square()
    return reduced(values.flatten(1).sum(1), mask, reduction)


def normal_margin(scale: Tensor, shift: Tensor) -> Tensor:
    r"""The overhaul's margin for each channel: the mean of a normal variable under the condition that it is below 0,
    :math:`\mu - \sigma\,\phi(\mu/\sigma) / \Phi(-\mu/\sigma)` with :math:`\sigma = |\gamma|` and :math:`\mu = \beta` of
    the teacher's BatchNorm. If the variable is rarely below 0 (:math:`\Phi(-\mu/\sigma) \le 0.001`), the margin is
    :math:`-3\sigma`.

    Args:
        scale, shift: weight and bias of the BatchNorm, ``(C,)``.

    Returns:
        ``(C,)``, float64.

    >>> import torch
    >>> normal_margin(torch.tensor([1.0, -2.0, 1.0]), torch.tensor([0.0, 0.0, 9.0]))
    tensor([-0.7979, -1.5958, -3.0000], dtype=torch.float64)
    """
    deviation, mean = scale.double().abs(), shift.double()
    ratio = mean / deviation.clamp(min=1e-12)
    below = torch.special.ndtr(-ratio)
    expected = mean - deviation * (-ratio.square() / 2).exp() / (math.sqrt(2 * math.pi) * below.clamp(min=1e-12))
    return torch.where(below > 0.001, expected, -3 * deviation)
