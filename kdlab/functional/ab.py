"""AB: activation boundaries, a loss on pre-activations (the inputs of a ReLU). One value per sample."""

import torch
from torch import Tensor

from .maps import samples
from .rows import reduced
from .sources import Paper, method

_AB = Paper(
    "Heo et al.",
    2019,
    "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons",
    "https://arxiv.org/abs/1811.03233",
)


@method("features", _AB, {"HobbitLong/RepDistiller": "ab"})
def activation_boundary(
    student: Tensor, teacher: Tensor, margin: float = 1.0, *, mask: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    r"""Activation boundaries: the student's pre-activation must be on the teacher's side of 0, by a margin,

    .. math:: \sum_d \mathbb{1}[t_d > 0] \max(0, m - s_d)^2 + \mathbb{1}[t_d \le 0] \max(0, m + s_d)^2 .

    Args:
        student: pre-activations ``(B, ...)``, after the connector.
        teacher: pre-activations of the same shape.
        margin: m.

    Returns:
        ``(B,)``, a sum over the elements of a sample. It is not 0 for equal features, unless all of them are at least a
        margin away from 0. RepDistiller multiplies the mean over samples by 3/1000; ``conf/loss/ab.yaml`` has this
        weight.

    Raises:
        ValueError: the shapes differ.

    >>> import torch
    >>> activation_boundary(torch.tensor([[0.5, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, -1.0]]))
    tensor([9.2500])
    """
    student, teacher = samples(student, teacher, mask, "activation_boundary")
    values = torch.where(teacher > 0, (margin - student).relu(), (margin + student).relu()).square()
    return reduced(values.flatten(1).sum(1), mask, reduction)
