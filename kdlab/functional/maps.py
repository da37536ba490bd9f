"""Common parts of the losses on features: samples that do not count, and maps of different size."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .rows import same_shape, without_masked


def samples(
    student: Tensor, teacher: Tensor, mask: Tensor | None, what: str, advice: str = "put a connector between them"
) -> tuple[Tensor, Tensor]:
    """Both features ``(B, ...)``, checked to have the same shape, in at least float32, with zeros where ``mask``
    ``(B,)`` is 0."""
    same_shape(student, teacher, what, advice)
    return counted(student, mask), counted(teacher, mask)


def counted(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` ``(B, ...)`` in at least float32, with zeros in the samples whose ``mask`` ``(B,)`` is 0."""
    return without_masked(x.flatten(1), mask).view(x.shape)


def same_size(student: Tensor, teacher: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Both maps ``(B, C, H, W)`` with the height and width of the smaller one. The larger one is averaged over areas of
    about equal size.

    Raises:
        ValueError: they are not maps of the same number of samples, or each is larger in one direction. The message
            shows both shapes.

    >>> import torch
    >>> [tuple(x.shape) for x in same_size(torch.ones(1, 3, 8, 8), torch.ones(1, 5, 4, 4), "a loss")]
    [(1, 3, 4, 4), (1, 5, 4, 4)]
    """
    if student.dim() != 4 or teacher.dim() != 4 or len(student) != len(teacher):
        raise ValueError(
            f"{what}: needs maps (B, C, H, W) of the same samples, got student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}; choose taps of convolutional stages"
        )
    mine, theirs = student.shape[2:], teacher.shape[2:]
    if mine == theirs:
        return student, teacher
    if mine[0] >= theirs[0] and mine[1] >= theirs[1]:
        return averaged(student, theirs), teacher
    if mine[0] <= theirs[0] and mine[1] <= theirs[1]:
        return student, averaged(teacher, mine)
    raise ValueError(
        f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)}: each is larger in one direction; "
        "choose taps whose maps have the same proportions"
    )


def averaged(x: Tensor, size: Sequence[int]) -> Tensor:
    """A map ``(B, C, H, W)``, averaged to a height and width; unchanged if it already has them."""
    height, width = size
    return x if x.shape[2:] == (height, width) else F.adaptive_avg_pool2d(x, (height, width))
