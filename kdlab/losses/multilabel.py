"""Losses on several labels a sample: module form of :mod:`kdlab.functional.multilabel`."""

from __future__ import annotations

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, positive


class BinaryCrossEntropy(Loss):
    """Binary cross-entropy to the labels: :func:`kdlab.functional.binary_cross_entropy`.

    Args:
        mean_over_labels: see the function.
    """

    function = staticmethod(functional.binary_cross_entropy)
    needs_teacher = False
    needs_target = True

    def __init__(self, mean_over_labels: bool = True):
        super().__init__()
        self.mean_over_labels = mean_over_labels

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """One value a row, ``(N,)``."""
        return functional.binary_cross_entropy(student.logits, batch.labels, mean_over_labels=self.mean_over_labels)


class SigmoidKD(Loss):
    """Soft targets of each label: :func:`kdlab.functional.sigmoid_kd`.

    Args:
        temperature, temperature_squared, mean_over_labels: see the function.
    """

    function = staticmethod(functional.sigmoid_kd)

    def __init__(self, temperature: float = 1.0, temperature_squared: bool = True, mean_over_labels: bool = True):
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.temperature_squared, self.mean_over_labels = temperature_squared, mean_over_labels

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a row, ``(N,)``."""
        return functional.sigmoid_kd(
            student.logits,
            teacher.logits,
            self.temperature,
            self.temperature_squared,
            mean_over_labels=self.mean_over_labels,
        )
