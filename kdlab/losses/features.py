"""Losses on features: module form of :mod:`kdlab.functional.features`, with their connectors."""

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.models.connectors import connector
from kdlab.outputs import Outputs

from .base import Loss, Probe


class Hint(Loss):
    """FitNets' hint: a connector brings a student feature to the teacher's shape, then :func:`kdlab.functional.hint`.

    Args:
        student_tap, teacher_tap: which features are compared (a tap of the model's config, or a dotted module path).
        normalise: BatchNorm and ReLU behind the convolution of the connector, as RepDistiller and mdistiller have it.
    """

    function = staticmethod(functional.hint)

    def __init__(self, student_tap: str = "stage2", teacher_tap: str = "stage2", normalise: bool = True):
        super().__init__()
        self.student_taps = (student_tap,)
        self.teacher_taps = (teacher_tap,)
        self.normalise = normalise
        self.connector = None

    def prepare(self, probe: Probe) -> None:
        student = probe.student.features[self.student_taps[0]]
        teacher = probe.teacher.features[self.teacher_taps[0]]
        self.connector = connector(student.shape[1:], teacher.shape[1:], normalise=self.normalise)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        adapted = self.connector(student.features[self.student_taps[0]])
        return functional.hint(adapted, teacher.features[self.teacher_taps[0]])
