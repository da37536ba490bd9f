"""Classification: one label a sample."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

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


class Classification(Samples):
    """One label a sample: rows are samples, each of weight 1.

    Args:
        classes: number of classes.
    """

    report = CLASSIFICATION

    def metrics(self) -> MetricCollection:
        """``accuracy``, the share of correct predictions, and ``nll`` in nats."""
        return MetricCollection(self._accuracy_and_nll(), compute_groups=False)

    def test_metrics(self) -> MetricCollection:
        """Those of validation, and ``ece``, the expected calibration error (15 bins)."""
        return MetricCollection(
            {**self._accuracy_and_nll(), "ece": ExpectedCalibrationError(self.classes)}, compute_groups=False
        )

    def _accuracy_and_nll(self) -> dict[str, Metric | MetricCollection]:
        accuracy = MulticlassAccuracy(self.classes, average="micro", validate_args=False)
        return {"accuracy": accuracy, "nll": NegativeLogLikelihood()}

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
