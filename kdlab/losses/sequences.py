"""Losses on rows of tokens: module form of :mod:`kdlab.functional.universal`.

Functions that compare whole texts (:func:`kdlab.functional.distillm2`, :func:`kdlab.functional.uld_sequences`) have no
module. They need more than rows of logits: pairs of texts, or two tokenizers.
"""

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, positive


class UniversalLogits(Loss):
    """:func:`kdlab.functional.uld`, row by row. The teacher's classes may differ from the student's in number and
    order.

    For a classifier, kdlab requires that the teacher has the classes of the data, with any loss. Rows of texts have no
    such rule.

    Args:
        student_temperature, teacher_temperature: each side's logits are divided by its temperature.
    """

    function = staticmethod(functional.uld)

    def __init__(self, student_temperature: float = 1.0, teacher_temperature: float = 1.0):
        super().__init__()
        self.student_temperature = positive("student_temperature", student_temperature)
        self.teacher_temperature = positive("teacher_temperature", teacher_temperature)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``, in [0, 2]: the L1 distance between the sorted probabilities."""
        return functional.uld(student.logits, teacher.logits, self.student_temperature, self.teacher_temperature)
