"""Losses on logits: module form of :mod:`kdlab.functional.logits`."""

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, fraction, positive


class CrossEntropy(Loss):
    """Cross-entropy to the labels: :func:`kdlab.functional.cross_entropy`."""

    function = staticmethod(functional.cross_entropy)
    needs_teacher = False
    needs_target = True

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        self.label_smoothing = fraction("label_smoothing", label_smoothing)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return functional.cross_entropy(student.logits, batch.target, self.label_smoothing)


class HintonKD(Loss):
    """Soft targets at a temperature: :func:`kdlab.functional.hinton_kd`."""

    function = staticmethod(functional.hinton_kd)

    def __init__(self, temperature: float = 4.0, temperature_squared: bool = True):
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.temperature_squared = temperature_squared

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return functional.hinton_kd(student.logits, teacher.logits, self.temperature, self.temperature_squared)


class LogitMSE(Loss):
    """Squared difference of logits: :func:`kdlab.functional.logit_mse`."""

    function = staticmethod(functional.logit_mse)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return functional.logit_mse(student.logits, teacher.logits)
