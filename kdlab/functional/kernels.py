"""Unit vectors, Gram matrices and other products, in full precision and with finite gradients, for every family."""

from __future__ import annotations

import torch
from torch import Tensor

from .maps import averaged, counted
from .rows import wide


def unit(x: Tensor, dim: int = -1, norm: float = 2.0) -> Tensor:
    """``x`` divided by its norm along ``dim``. A vector of length 0 stays 0 and has gradient 0: a dead feature must not
    have a gradient of size 1 / epsilon.

    >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    length = torch.linalg.vector_norm(x, norm, dim, keepdim=True)
    positive = length > 0
    return torch.where(positive, x / torch.where(positive, length, torch.ones_like(length)), torch.zeros_like(x))


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` in the precision of its arguments; autocast would compute it in half precision."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def contraction(equation: str, *operands: Tensor) -> Tensor:
    """``torch.einsum`` in the precision of its arguments, like :func:`product`."""
    with torch.autocast(operands[0].device.type, enabled=False):
        return torch.einsum(equation, *operands)


def gram(x: Tensor) -> Tensor:
    """Inner products of the rows of ``x`` ``(..., N, D)``: ``(..., N, N)``."""
    return product(x, x.transpose(-2, -1))


def flat(student: Tensor, teacher: Tensor, what: str) -> tuple[Tensor, Tensor]:
    """Both as one vector per sample ``(B, D)``, in at least float32. The widths may differ. Raises ValueError, with
    both shapes, if the batch sizes differ."""
    if student.dim() < 2 or teacher.dim() < 2 or len(student) != len(teacher):
        raise ValueError(
            f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must hold features (B, ...) of "
            "the same samples"
        )
    return wide(student).flatten(1), wide(teacher).flatten(1)


def maps(x: Tensor, mask: Tensor | None, what: str) -> Tensor:
    """Feature maps ``(B, C, H, W)`` in at least float32, with zeros in the samples whose ``mask`` ``(B,)`` is 0. Raises
    ValueError for other shapes."""
    if x.dim() != 4:
        raise ValueError(
            f"{what} compares feature maps (B, C, H, W), got {tuple(x.shape)}; choose taps before the pooling"
        )
    return counted(x, mask)


def pooled(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps, mean-pooled to the smaller of their heights and widths."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    return averaged(first, size), averaged(second, size)
