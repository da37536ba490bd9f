"""Losses on predicted values: module form of :mod:`kdlab.functional.regression`."""

from __future__ import annotations

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss


class SquaredError(Loss):
    """Squared error to the targets: :func:`kdlab.functional.squared_error`."""

    function = staticmethod(functional.squared_error)
    needs_teacher = False
    needs_target = True
    reads_logits = True

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """One value a row, ``(N,)``, in target units squared."""
        return functional.squared_error(student.logits, batch.labels)
