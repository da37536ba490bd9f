"""Metrics of what networks have learnt, as torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCalibrationError
from torchmetrics.functional.classification import multiclass_calibration_error

from kdlab.functional.kernels import flat, gram


class CKA(Metric):
    r"""Linear centred kernel alignment of two sets of features of the same samples, batch by batch. It is 1 if one is
    the other, rotated and scaled, and about 0 if they have nothing in common. Kornblith et al. (2019),
    https://arxiv.org/abs/1905.00414.

    The estimate is the minibatch estimate of Nguyen et al. (2021), "Do Wide and Deep Networks Learn the Same Things?",
    https://arxiv.org/abs/2010.15327: with the unbiased estimate :math:`\mathrm{HSIC}_1` of each batch,

    .. math:: \frac{\sum_b \mathrm{HSIC}_1(K_b, L_b)}{\sqrt{\sum_b \mathrm{HSIC}_1(K_b, K_b)} \sqrt{\sum_b
    \mathrm{HSIC}_1(L_b, L_b)}}, \qquad
              \mathrm{HSIC}_1(K, L) = \frac{1}{n(n-3)} \Big[ \mathrm{tr}(\tilde K \tilde L)
              + \frac{\mathbf 1^\top \tilde K \mathbf 1\, \mathbf 1^\top \tilde L \mathbf 1}{(n-1)(n-2)}
              - \frac{2}{n-2} \mathbf 1^\top \tilde K \tilde L \mathbf 1 \Big],

    with Gram matrices without their diagonals. No sample must be kept. The result depends on the batch size only
    through noise, and can be slightly outside [0, 1]. All batches have the same weight. HSIC needs four samples: a
    smaller batch (the last one of a split) is left out.

    >>> x = torch.arange(12.0).reshape(6, 2).sin()
    >>> metric = CKA()
    >>> metric.update(x, 2 * x.flip(1))
    >>> metric.compute()
    tensor(1.)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    products: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, **options: Any):
        super().__init__(**options)
        for name in ("products", "first", "second"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, first: Tensor, second: Tensor) -> None:
        """``(B, ...)`` each, of the same samples; the widths may differ."""
        k, m = (gram(x.double()) for x in flat(first, second, "CKA"))
        if len(k) < 4:
            return
        self.products += _unbiased_hsic(k, m)
        self.first += _unbiased_hsic(k, k)
        self.second += _unbiased_hsic(m, m)

    def compute(self) -> Tensor:
        """The alignment; NaN if no batch had four samples, or if the features of a side do not vary."""
        return (self.products / (self.first * self.second).sqrt()).float()


def expected_calibration_error(probabilities: Tensor, target: Tensor, bins: int = 15) -> float:
    """The expected calibration error of Guo et al. (2017), https://arxiv.org/abs/1706.04599, eq. 3, by torchmetrics.

    In float32, the confidence of a sure network is rounded to exactly 1. torchmetrics puts this value into a bin of its
    own; here it belongs to the last of the ``bins``, as in the paper.

    Args:
        probabilities: (N, C).
        target: (N,).

    >>> sure = torch.tensor([[1.0, 0.0], [0.95, 0.05]]).repeat_interleave(500, 0)
    >>> target = (torch.arange(1000) < 50).long()               # of those that are sure, a tenth is wrong
    >>> round(expected_calibration_error(sure, target), 4)      # |0.95 - 0.975|; with a bin of its own 0.075
    0.025
    """
    return multiclass_calibration_error(_below_one(probabilities), target, probabilities.shape[-1], n_bins=bins).item()


class ExpectedCalibrationError(MulticlassCalibrationError):
    """:func:`expected_calibration_error`, batch by batch. It keeps one confidence a row.

    Args:
        classes: number of classes.
        bins: number of bins.
    """

    def __init__(self, classes: int, bins: int = 15):
        super().__init__(classes, n_bins=bins, validate_args=False)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows of logits ``(N, C)`` with their labels ``(N,)``."""
        super().update(_below_one(logits.float().softmax(-1)), target)


class ExactSums(Metric):
    """Base of metrics whose states are sums in float64, or float32 on devices that have no float64."""

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Module:
        try:
            return super()._apply(fn, exclude_state)
        except TypeError:  # a device without float64
            for states in (vars(self), self._defaults):
                states |= {name: cast(Tensor, states[name]).float() for name in self._defaults}
            return super()._apply(fn, exclude_state)


class RegressionErrors(ExactSums):
    r"""A mean over samples and columns of predicted values, from sums in float64 (float32 on devices that have no
    float64): ``mse``, ``mae``, or ``r2``, the mean over columns of :math:`1 - \sum_n (y_n - \hat y_n)^2 / \sum_n (y_n -
    \bar y)^2`. NaN if a column of the targets does not vary, or there is one sample.

    Args:
        kind: which.
        columns: how many values a sample has.

    >>> metric = RegressionErrors("r2", 1)
    >>> metric.update(torch.tensor([[1e5], [1e5 + 2]]), torch.tensor([[1e5], [1e5 + 1]]))
    >>> metric.compute()
    tensor(-1., dtype=torch.float64)
    """

    is_differentiable = False
    full_state_update = False
    count: Tensor
    absolute: Tensor
    squared: Tensor
    target: Tensor
    target_squared: Tensor

    def __init__(self, kind: str, columns: int):
        super().__init__()
        self.kind = kind
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("absolute", "squared", "target", "target_squared"):
            self.add_state(name, torch.zeros(columns, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor, target: Tensor) -> None:
        """Add predicted values ``(N, C)`` and targets ``(N, C)``."""
        values, target = values.to(self.count), target.to(self.count)
        self.count += len(target)
        self.absolute += (values - target).abs().sum(0)
        self.squared += (values - target).square().sum(0)
        self.target += target.sum(0)
        self.target_squared += target.square().sum(0)

    def compute(self) -> Tensor:
        """The value over all samples."""
        if self.kind == "r2":
            spread = self.target_squared - self.target.square() / self.count
            return (1 - self.squared / spread.where(spread > 0, torch.nan)).mean()
        return (self.squared if self.kind == "mse" else self.absolute).mean() / self.count


def _below_one(probabilities: Tensor) -> Tensor:
    """Probabilities ``(N, C)`` of which none is exactly 1."""
    return probabilities.minimum(
        torch.nextafter(torch.ones_like(probabilities[:1, 0]), torch.zeros(()).to(probabilities))
    )


def _unbiased_hsic(k: Tensor, m: Tensor) -> Tensor:
    size = len(k)
    k, m = (x - torch.diag(x.diagonal()) for x in (k, m))
    rows, columns = k.sum(0), m.sum(0)
    value = (
        (k * m).sum() + rows.sum() * columns.sum() / ((size - 1) * (size - 2)) - 2 / (size - 2) * (rows * columns).sum()
    )
    return value / (size * (size - 3))
