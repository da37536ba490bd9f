"""Classification: one label a sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional import cross_entropy
from kdlab.measure.fidelity import Agreement, KLToTeacher
from kdlab.metrics import ExpectedCalibrationError
from kdlab.models.calling import answer_of
from kdlab.outputs import Outputs

from .base import Task
from .chance import MostFrequentClass
from .metric import CLASSIFICATION
from .probabilities import are_probabilities, look_like_sigmoids


class NegativeLogLikelihood(MeanMetric):
    """Mean cross-entropy of the labels, in nats; NaN where the network answers NaN."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")

    def update(self, logits: Tensor, target: Tensor) -> None:  # type: ignore[override]  # a mean of rows, not of values
        """Adds rows of logits ``(N, C)`` with their labels ``(N,)``."""
        super().update(cross_entropy(logits, target))


class Classification(Task):
    """One label a sample: rows are samples, each of weight 1.

    Args:
        classes: number of classes.
    """

    report = CLASSIFICATION

    def __init__(self, classes: int):
        self.classes = classes

    @property
    def width(self) -> int:
        """The number of classes."""
        return self.classes

    def network_outputs(self, network: nn.Module, batch: Batch, view: int = 0) -> Outputs:
        """Logits ``(B, C)``, from a network that returns a tensor or an object with ``logits``.

        Raises:
            InputError: the network returns neither, or its logits are not of two dimensions.
        """
        logits = answer_of(network, batch.view(view).inputs)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise InputError(
                f"{type(network).__name__} must answer with logits of shape (samples, classes), got "
                f"{tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__}"
            )
        return Outputs(logits)

    def align(self, outputs: Outputs, batch: Batch) -> Outputs:
        """The Outputs as they are: each sample is a row."""
        return outputs

    def align_batch(self, batch: Batch) -> Batch:
        """The batch with weights ``(B,)`` of 1."""
        return batch.replace(weights=torch.ones(len(batch), device=batch.index.device))

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
