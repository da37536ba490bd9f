"""Classification: one label a sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
)

from kdlab.errors import InputError
from kdlab.functional import cross_entropy
from kdlab.measure.fidelity import Agreement, KLToTeacher
from kdlab.metrics import ExpectedCalibrationError

from .chance import MostFrequentClass
from .metric import CLASSIFICATION
from .probabilities import are_probabilities, look_like_sigmoids
from .samples import Samples


class NegativeLogLikelihood(MeanMetric):
    """Mean cross-entropy of the labels, in nats; NaN where the network answers NaN."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")

    def update(self, logits: Tensor, target: Tensor) -> None:  # type: ignore[override]  # a mean of rows, not of values
        """Adds rows of logits ``(N, C)`` with their labels ``(N,)``."""
        super().update(cross_entropy(logits, target))


def macro_f1(classes: int) -> MulticlassF1Score:
    """The mean over classes of the F1 score, of the classes that occur in labels or predictions."""
    return MulticlassF1Score(classes, average="macro", validate_args=False)


class F1OfClassOne(BinaryF1Score):
    """The F1 score of class 1 of two, as GLUE reports it."""

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Adds rows of logits ``(N, 2)`` with their labels ``(N,)``."""
        super().update(logits.argmax(-1), target)


class Matthews(MulticlassMatthewsCorrCoef):
    """Matthews correlation of predictions and labels. It is 0 if all predictions, or all labels, are of one class, as
    in scikit-learn. torchmetrics gives other values there with two classes."""

    def compute(self) -> Tensor:
        """The correlation over all samples."""
        varied = [(self.confmat.sum(side) > 0).sum() > 1 for side in (0, 1)]
        found: Tensor = super().compute()
        return torch.where(varied[0] & varied[1], found, torch.zeros_like(found))


class Classification(Samples):
    """One label a sample: rows are samples, each of weight 1.

    Args:
        classes: number of classes.
        measured: metrics that come first, the headline at their head: ``accuracy``, ``nll``, ``ece`` (on test only),
            ``f1`` (of class 1 if there are two classes, otherwise the mean over the classes), ``mcc`` (Matthews
            correlation, 0 if all predictions or all labels are of one class).

    Raises:
        InputError: there is no such metric, or the headline is measured on test only.
    """

    report = CLASSIFICATION

    def __init__(self, classes: int, measured: Sequence[str] = ()):
        super().__init__(classes)
        self.report = self.report.measuring(measured)
        if self.headline.name == "ece":
            raise InputError("task.measured: ece is measured on test only; the first metric chooses the best epoch")

    def metrics(self) -> MetricCollection:
        """``accuracy``, the share of correct predictions, ``nll`` in nats, and the others that are ``measured``."""
        return MetricCollection(self._of_validation(), compute_groups=False)

    def test_metrics(self) -> MetricCollection:
        """Those of validation, and ``ece``, the expected calibration error (15 bins)."""
        return MetricCollection(
            {**self._of_validation(), "ece": ExpectedCalibrationError(self.classes)}, compute_groups=False
        )

    def _of_validation(self) -> dict[str, Metric | MetricCollection]:
        found: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(self.classes, average="micro", validate_args=False),
            "nll": NegativeLogLikelihood(),
        }
        names = {metric.name for metric in self.report.metrics}
        if "f1" in names:
            found["f1"] = F1OfClassOne(validate_args=False) if self.classes == 2 else macro_f1(self.classes)
        if "mcc" in names:
            found["mcc"] = Matthews(self.classes, validate_args=False)
        return found

    def fidelity(self) -> MetricCollection:
        """``agreement``, the share of samples with the same most probable class, and ``kl_to_teacher`` in nats."""
        return MetricCollection({"agreement": Agreement(), "kl_to_teacher": KLToTeacher()}, compute_groups=False)

    def chance(self) -> MostFrequentClass:
        """A binomial test of the accuracy against always predicting the most frequent class."""
        return MostFrequentClass()

    def not_logits(self, logits: Tensor, trained: bool) -> str | None:
        """``softmax`` if all rows are probabilities, ``sigmoid`` if all numbers lie between 0 and 1."""
        if are_probabilities(logits):
            return "softmax"
        return "sigmoid" if look_like_sigmoids(logits, trained) else None
