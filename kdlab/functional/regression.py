"""Losses on predicted values: one value a row.

Every function takes values ``(..., C)``, computed in at least float32, and ``mask`` and ``reduction`` as in
:mod:`kdlab.functional.logits`. It raises ValueError, with both shapes, if they do not fit.
"""

from __future__ import annotations

from torch import Tensor

from .rows import reduced, same_shape, without_masked
from .sources import Paper, method


@method(
    "logits",
    Paper("Hastie et al.", 2009, "The Elements of Statistical Learning", "https://hastie.su.domains/ElemStatLearn/"),
    serves=("regression",),
)
def squared_error(student: Tensor, target: Tensor, *, mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""Squared error of the predicted values, :math:`\frac{1}{C}\sum_c (\hat y_c - y_c)^2`, in target units squared.
    Section 2.4 of the book, equation 2.10.

    Args:
        target: ``(..., C)``.

    >>> import torch
    >>> squared_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
    tensor([2.])
    """
    same_shape(student, target, "squared_error", "a target has one column for each predicted value")
    values = (without_masked(student, mask) - without_masked(target, mask)).square()
    return reduced(values.mean(-1), mask, reduction, values.shape[-1])
