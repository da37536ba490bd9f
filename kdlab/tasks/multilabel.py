"""Multi-label classification: several labels a sample, each present or absent."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MultilabelAccuracy, MultilabelExactMatch, MultilabelF1Score

from kdlab.errors import InputError
from kdlab.functional import binary_cross_entropy
from kdlab.measure.fidelity import LabelAgreement, LabelKLToTeacher

from .chance import PairedErrors
from .metric import MULTILABEL
from .probabilities import look_like_sigmoids
from .samples import SampleColumns


class BinaryCrossEntropy(MeanMetric):
    """Mean binary cross-entropy of the labels, in nats a label; NaN if the network answers NaN."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")

    def update(self, logits: Tensor, target: Tensor) -> None:  # type: ignore[override]  # a mean of rows, not of values
        """Add rows of logits ``(N, C)`` with their labels ``(N, C)``."""
        super().update(binary_cross_entropy(logits, target))


def _decided(logits: Tensor) -> Tensor:
    """The predicted labels. torchmetrics would take logits that all lie in [0, 1] for probabilities."""
    return (logits > 0).long()


class LabelAccuracy(MultilabelAccuracy):
    """The share of correct labels."""

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows of logits ``(N, C)`` with their labels ``(N, C)``."""
        super().update(_decided(logits), target.long())


class ExactMatch(MultilabelExactMatch):
    """The share of samples whose labels are all correct."""

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows of logits ``(N, C)`` with their labels ``(N, C)``."""
        super().update(_decided(logits), target.long())


class F1(MultilabelF1Score):
    """The F1 score of each label, averaged over the labels."""

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows of logits ``(N, C)`` with their labels ``(N, C)``."""
        super().update(_decided(logits), target.long())


class MultiLabel(SampleColumns):
    """Several labels a sample, each 0 or 1: rows are samples, each of weight 1. A label is predicted if its logit is
    above 0, that is, if its sigmoid is above 0.5.

    Args:
        classes: number of labels.
    """

    report = MULTILABEL

    def check_labels(self, target: Tensor) -> None:
        """Raises InputError where a target is neither 0 nor 1."""
        if not bool(((target == 0) | (target == 1)).all()):
            raise InputError("task=multilabel needs targets that are 0 or 1, one for each label")

    def metrics(self) -> MetricCollection:
        """``accuracy``, the share of correct labels; ``exact_match``, the share of samples whose labels are all
        correct; ``f1``, the mean over labels of the F1 score; ``bce``, the binary cross-entropy in nats a label."""
        return MetricCollection(
            {
                "accuracy": LabelAccuracy(self.classes, average="micro", validate_args=False),
                "exact_match": ExactMatch(self.classes, validate_args=False),
                "f1": F1(self.classes, average="macro", validate_args=False),
                "bce": BinaryCrossEntropy(),
            },
            compute_groups=False,
        )

    def fidelity(self) -> MetricCollection:
        """``agreement``, the share of labels that both predict alike, and ``kl_to_teacher``, in nats a label."""
        return MetricCollection(
            {"agreement": LabelAgreement(), "kl_to_teacher": LabelKLToTeacher()}, compute_groups=False
        )

    def chance(self) -> PairedErrors:
        """A paired t test of each sample's share of wrong labels against always predicting each label's more frequent
        value."""
        return PairedErrors(_wrong_labels, _wrong_if_constant)

    def not_logits(self, logits: Tensor, trained: bool) -> str | None:
        """``sigmoid`` if the numbers of a trained network all lie between 0 and 1."""
        return "sigmoid" if look_like_sigmoids(logits, trained) else None


def _wrong_labels(logits: Tensor, target: Tensor) -> Tensor:
    return ((logits > 0) != (target > 0.5)).double().mean(-1)


def _wrong_if_constant(target: Tensor) -> Tensor:
    present = target > 0.5
    return (present != (present.double().mean(0, keepdim=True) > 0.5)).double().mean(-1)
