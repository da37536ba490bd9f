"""Regression: one or more real numbers a sample."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.regression import PearsonCorrCoef, SpearmanCorrCoef

from kdlab.measure.fidelity import SquaredDifference
from kdlab.metrics import RegressionErrors

from .chance import PairedErrors
from .metric import REGRESSION
from .samples import SampleColumns


class Pearson(PearsonCorrCoef):
    """Pearson's correlation of predicted values and targets, the mean over columns."""

    def update(self, values: Tensor, target: Tensor) -> None:
        """Adds predicted values ``(N, C)`` and targets ``(N, C)``."""
        super().update(values.squeeze(-1), target.squeeze(-1))

    def compute(self) -> Tensor:
        """The mean over columns; NaN if a column does not vary."""
        return super().compute().mean()


class Spearman(SpearmanCorrCoef):
    """Spearman's rank correlation of predicted values and targets, the mean over columns. It keeps all values."""

    def __init__(self, columns: int) -> None:
        with warnings.catch_warnings():  # torchmetrics warns that it keeps all values, which are few numbers
            warnings.filterwarnings("ignore", message=".*will save all targets and predictions")
            super().__init__(columns)

    def update(self, values: Tensor, target: Tensor) -> None:
        """Adds predicted values ``(N, C)`` and targets ``(N, C)``."""
        super().update(values.squeeze(-1), target.squeeze(-1).to(values))

    def compute(self) -> Tensor:
        """The mean over columns."""
        return super().compute().mean()


class Regression(SampleColumns):
    """Real numbers to predict: rows are samples, each of weight 1.

    Args:
        classes: how many numbers a sample has (the columns of a network's answers).
        measured: metrics that come first, the headline at their head: ``mse``, ``mae``, ``r2``, ``pearson``,
            ``spearman``.

    Raises:
        InputError: there is no such metric.
    """

    report = REGRESSION

    def __init__(self, classes: int, measured: Sequence[str] = ()):
        super().__init__(classes)
        self.report = self.report.measuring(measured)

    def metrics(self) -> MetricCollection:
        r"""``mse`` and ``mae``, means over samples and columns, in units of the target (``mse``: squared), and ``r2``,
        the mean over columns of :math:`1 - \sum_n (y_n - \hat y_n)^2 / \sum_n (y_n - \bar y)^2`. R2 is NaN for one
        sample. Correlations where they are ``measured``."""
        found: dict[str, Metric | MetricCollection] = {
            kind: RegressionErrors(kind, self.classes) for kind in ("mse", "mae", "r2")
        }
        names = {metric.name for metric in self.report.metrics}
        if "pearson" in names:
            found["pearson"] = Pearson(self.classes)
        if "spearman" in names:
            found["spearman"] = Spearman(self.classes)
        return MetricCollection(found, compute_groups=False)

    def fidelity(self) -> MetricCollection:
        """``mse_to_teacher``: the mean squared difference of the two answers, in target units squared."""
        return MetricCollection({"mse_to_teacher": SquaredDifference()})

    def chance(self) -> PairedErrors:
        """A paired t test of the squared errors against those of the mean target."""
        return PairedErrors(_squared_errors, lambda target: _squared_errors(target.mean(0, keepdim=True), target))


def _squared_errors(values: Tensor, target: Tensor) -> Tensor:
    return (values.double() - target).square().mean(-1)
