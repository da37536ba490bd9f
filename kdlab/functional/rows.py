"""Common parts of all families: precision, shapes, masks, and reductions."""

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor

#: a name among several, which the type checker may know as a Literal
Choice = TypeVar("Choice", bound=str)

#: how one value per row becomes one number; see :func:`reduced`
REDUCTIONS = ("none", "mean", "sum", "batchmean", "elementmean")


def wide(x: Tensor) -> Tensor:
    """``x`` in at least float32. float64 stays float64.

    >>> wide(torch.ones(1, dtype=torch.float16)).dtype, wide(torch.ones(1, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def same_shape(student: Tensor, teacher: Tensor, what: str, advice: str) -> None:
    """Raises ValueError, with both shapes, if they differ."""
    if student.shape != teacher.shape:
        raise ValueError(f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} differ; {advice}")


def one_of(name: str, value: Choice, choices: tuple[Choice, ...]) -> Choice:
    """Returns ``value``. Raises ValueError, with the argument's name and its choices, if it is not one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def added(values: Iterable[Tensor], what: str) -> Tensor:
    """The sum of several tensors, in their order. Raises ValueError, with ``what``, if there is none: a sum of nothing
    has no device and no gradient.

    >>> added([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])], "a loss")
    tensor([4., 6.])
    """
    total = None
    for value in values:
        total = value if total is None else total + value
    if total is None:
        raise ValueError(f"{what}: there is no term; give at least one")
    return total


def without_masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` ``(..., C)`` in at least float32, with zeros where ``mask`` ``(...)`` is 0: values in padding (inf, NaN)
    must not reach a gradient as 0 times NaN."""
    x = wide(x)
    if mask is None:
        return x
    if mask.shape != x.shape[:-1]:
        raise ValueError(
            f"a mask has one entry per row: logits or features {tuple(x.shape)} need a mask {tuple(x.shape[:-1])}, "
            f"got {tuple(mask.shape)}"
        )
    return x.masked_fill((mask == 0)[..., None], 0.0)


def is_empty(mask: Tensor) -> bool:
    """Whether a mask with entries is known to be False everywhere. On a CPU a look is cheaper than what it saves. On
    other devices it would wait for them, so the answer is False there, and where torch traces (``torch.compile``,
    ``vmap``).

    >>> is_empty(torch.tensor([False, False])), is_empty(torch.tensor([False, True])), is_empty(torch.zeros(0))
    (True, False, False)
    """
    if mask.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    try:
        return mask.numel() > 0 and not mask.any()
    except RuntimeError:  # under vmap
        return False


def reduced(values: Tensor, mask: Tensor | None = None, reduction: str = "none", classes: int | None = None) -> Tensor:
    r"""Reduces one value per row. Rows whose mask is 0 never count, and their gradient is exactly 0.

    Args:
        values: one value per row, ``(...)``.
        mask: ``(...)``, 0 where a row does not count; None counts all.
        reduction: ``none`` keeps the rows (0 where masked); ``mean`` divides the sum by the number of rows that count;
            ``sum``; ``batchmean`` divides the sum by the first dimension, as torch does; ``elementmean`` divides the
            sum by the number of rows that count times ``classes``, as ``KLDivLoss(reduction="mean")`` does: C times
            smaller than ``mean``.
        classes: C, for ``elementmean``.

    Raises:
        ValueError: the reduction is unknown, or the mask has another shape (the message shows both).

    >>> v = torch.tensor([[1.0, 2.0, 9.0], [3.0, 0.0, 9.0]])
    >>> mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    >>> [reduced(v, mask, how, classes=10).item() for how in ("mean", "sum", "batchmean")]
    [2.0, 6.0, 3.0]
    >>> reduced(v, mask)
    tensor([[1., 2., 0.],
            [3., 0., 0.]])
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    if mask is not None:
        if mask.shape != values.shape:
            raise ValueError(
                f"one mask entry per row: values {tuple(values.shape)} and mask {tuple(mask.shape)} differ"
            )
        values = values.masked_fill(mask == 0, 0.0)
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "batchmean":
        return values.sum() / len(values)
    rows = values.numel() if mask is None else (mask != 0).sum().clamp(min=1)  # no row counts at all: 0, not 0 / 0
    if reduction == "mean":
        return values.sum() / rows
    if classes is None:
        raise ValueError("reduction elementmean divides by the number of classes; give classes")
    return values.sum() / (rows * classes)


def reduce(values: Tensor, weights: Tensor | None = None, normaliser: float | None = None) -> Tensor:
    r"""One number from one value per row: :math:`\sum_i w_i v_i / n`.

    Args:
        values: ``(N,)``; a value without dimensions (a loss over relations in the batch) is returned unchanged.
        weights: ``(N,)``, the weight of each row; None means 1 for each. The gradient of a row of weight 0 is exactly
            0.
        normaliser: n, see :class:`kdlab.Batch`; None means the sum of the weights.

    >>> reduce(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 1.0, 0.0]))
    tensor(1.5000)
    """
    if values.dim() == 0:
        return values
    if values.dim() != 1:
        raise ValueError(f"a loss returns one value per row, shape (N,), or a scalar; got {tuple(values.shape)}")
    if weights is not None:
        if weights.shape != values.shape:
            raise ValueError(
                f"one weight per row: values {tuple(values.shape)} and weights {tuple(weights.shape)} differ"
            )
        values = torch.where(weights == 0, torch.zeros_like(values), values * weights)
    if normaliser is not None:
        return values.sum() / normaliser
    if weights is None:
        return values.sum() / values.numel()
    return values.sum() / total_weight(weights)


def total_weight(weights: Tensor) -> Tensor:
    """The sum of the weights; 1 where no row counts at all, so that a mean over none is 0, and not 0 / 0.

    >>> total_weight(torch.tensor([1.0, 0.5])), total_weight(torch.zeros(2))
    (tensor(1.5000), tensor(1.))
    """
    total = weights.sum()
    return torch.where(total == 0, torch.ones_like(total), total)
