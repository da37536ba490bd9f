"""Unit vectors, Gram matrices and other products, in full precision and with finite gradients, for every family."""

from __future__ import annotations

import torch
from torch import Tensor

from .maps import averaged, counted
from .rows import wide


def unit(x: Tensor, dim: int = -1, norm: float = 2.0) -> Tensor:
    """``x`` divided by its norm along ``dim``. The vector of length 0 stays, and has gradient 0: a dead feature must
    not have a gradient of the size 1 / epsilon.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(x, norm, dim, keepdim=True)
    positive = length > 0
    return torch.where(positive, x / torch.where(positive, length, torch.ones_like(length)), torch.zeros_like(x))


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` at the precision of its arguments: autocast would take them to half precision again."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def contraction(equation: str, *operands: Tensor) -> Tensor:
    """``torch.einsum`` at the precision of its arguments, as :func:`product` is."""
    with torch.autocast(operands[0].device.type, enabled=False):
        return torch.einsum(equation, *operands)


def gram(x: Tensor) -> Tensor:
    """Inner products of the rows of ``x`` ``(..., N, D)``: ``(..., N, N)``."""
    return product(x, x.transpose(-2, -1))


def flat(student: Tensor, teacher: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Both as one vector a sample ``(B, D)``, in at least float32. The widths may differ, the batches not: ValueError
    with both shapes."""
    if student.dim() < 2 or teacher.dim() < 2 or len(student) != len(teacher):
        raise ValueError(
            f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must hold features (B, ...) of "
            "the same samples"
        )
    return wide(student).flatten(1), wide(teacher).flatten(1)


def maps(x: Tensor, mask: Tensor | None, what: str) -> Tensor:
    """Feature maps ``(B, C, H, W)`` in at least float32, zeros in the samples whose ``mask`` ``(B,)`` is 0; ValueError
    for other shapes."""
    if x.dim() != 4:
        raise ValueError(
            f"{what} compares feature maps (B, C, H, W), got {tuple(x.shape)}; choose taps before the pooling"
        )
    return counted(x, mask)


def pooled(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps at the smaller of their heights and widths, by mean pooling."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    return averaged(first, size), averaged(second, size)
