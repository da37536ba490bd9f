"""What every family shares: precision, shapes, and the one reduction."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` in at least float32. Promoted, never demoted: float64 stays float64.

    >>> wide(torch.ones(1, dtype=torch.float16)).dtype, wide(torch.ones(1, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same_shape(student: Tensor, teacher: Tensor, what: str, advice: str) -> None:
    """Raises ValueError with both shapes unless they agree."""
    if student.shape != teacher.shape:
        raise ValueError(f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ; {advice}")


def reduce(values: Tensor, weights: Tensor | None = None, normaliser: float | None = None) -> Tensor:
    r"""One number from one value a row: :math:`\sum_i w_i v_i / n`.

    Args:
        values: ``(N,)``; a value without dimensions (a loss over relations in the batch) is returned as it is.
        weights: ``(N,)``, how much each row counts; None is one each. A row of weight 0 has exactly no gradient.
        normaliser: n, see :class:`kdlab.Batch`; None is the sum of the weights.

    >>> reduce(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(1.5000)
    """
    if values.dim() == 0:
        return values
    if values.dim() != 1:
        raise ValueError(f"a loss returns one value a row, shape (N,), or a scalar; got {tuple(values.shape)}")
    if weights is not None:
        if weights.shape != values.shape:
            raise ValueError(f"one weight a row: values {tuple(values.shape)} and weights {tuple(weights.shape)} differ")
        values = torch.where(weights == 0, torch.zeros_like(values), values * weights)
    if normaliser is None:
        normaliser = len(values) if weights is None else weights.sum()
        if weights is not None:         # no row counts at all: 0, not 0 / 0
            normaliser = torch.where(normaliser == 0, torch.ones_like(normaliser), normaliser)
    return values.sum() / normaliser
