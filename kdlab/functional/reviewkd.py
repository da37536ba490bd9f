"""The loss of ReviewKD, one value per sample."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .maps import samples
from .rows import reduced
from .sources import Paper, method


@method(
    "features",
    Paper("Chen et al.", 2021, "Distilling Knowledge via Knowledge Review", "https://arxiv.org/abs/2104.09044"),
    {"megvii-research/mdistiller": "reviewkd_hcl reviewkd"},
)
def hierarchical_context(
    student: Tensor,
    teacher: Tensor,
    sizes: Sequence[int] = (4, 2, 1),
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Hierarchical context loss: the mean squared difference of the maps and of their averages over larger and larger
    areas, :math:`\big(\sum_k w_k\,\mathrm{MSE}_k\big) / \sum_k w_k`. The maps themselves have :math:`w = 1`. The maps
    averaged to size l x l follow, each size with half the weight of the one before. Sizes that are not smaller than the
    map's height are left out.

    Args:
        student: maps ``(B, C, H, W)``, after the fusion; vectors ``(B, C)`` are maps of one element.
        teacher: features of the same shape.
        sizes: the sizes l, in descending order.

    Returns:
        ``(B,)``, for one pair of stages. The values of several stages are summed.

    Raises:
        ValueError: the shapes differ.

    >>> import torch
    >>> hierarchical_context(torch.tensor([[[[0.0, 2.0], [2.0, 0.0]]]]), torch.zeros(1, 1, 2, 2))
    tensor([1.6667])
    """
    student, teacher = samples(student, teacher, mask, "hierarchical_context")
    if student.dim() not in (2, 4):
        raise ValueError(
            f"hierarchical_context: needs maps (B, C, H, W) or vectors (B, C), got student {tuple(student.shape)} and "
            f"teacher {tuple(teacher.shape)}"
        )
    height = student.shape[2] if student.dim() == 4 else 1
    weight, weights = 1.0, 1.0
    values = (student - teacher).square().flatten(1).mean(1)
    for size in sizes:
        if size < height:
            weight /= 2
            weights += weight
            difference = F.adaptive_avg_pool2d(student, size) - F.adaptive_avg_pool2d(teacher, size)
            values = values + weight * difference.square().flatten(1).mean(1)
    return reduced(values / weights, mask, reduction)
