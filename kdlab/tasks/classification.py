"""Classification: one label a sample."""

from __future__ import annotations

import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.functional.classification import multiclass_accuracy

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional import cross_entropy
from kdlab.metrics import expected_calibration_error
from kdlab.outputs import Outputs

from .base import Task
from .calling import call


class NegativeLogLikelihood(MeanMetric):
    """Mean cross-entropy of the labels, in nats; NaN where the network answers NaN."""

    def __init__(self):
        super().__init__(nan_strategy="disable")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Adds rows of logits ``(N, C)`` with their labels ``(N,)``."""
        super().update(cross_entropy(logits, target))


class Classification(Task):
    """One label a sample: rows are samples, each of weight 1.

    Args:
        classes: number of classes.
    """

    monitor = "accuracy"
    higher_is_better = True

    def __init__(self, classes: int):
        self.classes = classes

    def network_outputs(self, network: nn.Module, batch: Batch, view: int = 0) -> Outputs:
        """Logits ``(B, C)``, from a network that returns a tensor or an object with ``logits``.

        Raises:
            InputError: the network returns neither, or its logits are not of two dimensions.
        """
        answer = call(network, batch.view(view).inputs)
        logits = answer if isinstance(answer, Tensor) else getattr(answer, "logits", None)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise InputError(
                f"{type(network).__name__} must answer with logits of shape (samples, classes), got "
                f"{tuple(logits.shape) if isinstance(logits, Tensor) else type(answer).__name__}"
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
        accuracy = MulticlassAccuracy(self.classes, average="micro", validate_args=False)
        return MetricCollection({"accuracy": accuracy, "nll": NegativeLogLikelihood()}, compute_groups=False)

    def score(self, logits: Tensor, target: Tensor) -> dict[str, float]:
        """Accuracy, negative log-likelihood (nats), expected calibration error (15 bins)."""
        logits = logits.float()
        return {
            "accuracy": multiclass_accuracy(logits, target, self.classes, average="micro").item(),
            "nll": cross_entropy(logits, target).mean().item(),
            "ece": expected_calibration_error(logits.softmax(-1), target),
        }

    def chance(self, logits: Tensor, target: Tensor) -> float:
        """A one-sided binomial test of the accuracy against always naming the most frequent class."""
        frequent = (target.bincount().max() / len(target)).item()
        right = int((logits.argmax(-1) == target).sum())
        return float(binomtest(right, len(target), min(frequent, 1.0), alternative="greater").pvalue)
