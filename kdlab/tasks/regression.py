"""Regression: one or more real numbers a sample."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import Metric, MetricCollection

from kdlab.measure.fidelity import SquaredDifference
from kdlab.metrics import RegressionErrors

from .chance import PairedErrors
from .metric import REGRESSION
from .samples import SampleColumns


class Regression(SampleColumns):
    """Real numbers to predict: rows are samples, each of weight 1.

    Args:
        classes: how many numbers a sample has (the columns of a network's answers).
    """

    report = REGRESSION

    def metrics(self) -> MetricCollection:
        r"""``mse`` and ``mae``, means over samples and columns, in units of the target (``mse``: squared), and ``r2``,
        the mean over columns of :math:`1 - \sum_n (y_n - \hat y_n)^2 / \sum_n (y_n - \bar y)^2`. R2 is NaN for one
        sample."""
        found: dict[str, Metric | MetricCollection] = {
            kind: RegressionErrors(kind, self.classes) for kind in ("mse", "mae", "r2")
        }
        return MetricCollection(found, compute_groups=False)

    def fidelity(self) -> MetricCollection:
        """``mse_to_teacher``: the mean squared difference of the two answers, in target units squared."""
        return MetricCollection({"mse_to_teacher": SquaredDifference()})

    def chance(self) -> PairedErrors:
        """A paired t test of the squared errors against those of the mean target."""
        return PairedErrors(_squared_errors, lambda target: _squared_errors(target.mean(0, keepdim=True), target))


def _squared_errors(values: Tensor, target: Tensor) -> Tensor:
    return (values.double() - target).square().mean(-1)
