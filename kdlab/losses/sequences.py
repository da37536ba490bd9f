"""Losses on rows of tokens: module form of :mod:`kdlab.functional.universal`.

What compares whole texts (:func:`kdlab.functional.minillm`, :func:`kdlab.functional.distillm2`,
:func:`kdlab.functional.uld_sequences`) needs more than rows of logits (sampled tokens, pairs of texts, two tokenizers)
and has no module.
"""

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, positive


class UniversalLogits(Loss):
    """:func:`kdlab.functional.uld`: the teacher's classes may differ from the student's in number and order, row by
    row.

    A classifier's teacher must have the classes of the data, whatever the losses are; rows of texts have no such rule.

    Args:
        student_temperature, teacher_temperature: each side's logits are divided by its own.
    """

    function = staticmethod(functional.uld)

    def __init__(self, student_temperature: float = 1.0, teacher_temperature: float = 1.0):
        super().__init__()
        self.student_temperature = positive("student_temperature", student_temperature)
        self.teacher_temperature = positive("teacher_temperature", teacher_temperature)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a row, ``(N,)``, in [0, 2]: the L1 distance of the sorted probabilities."""
        return functional.uld(student.logits, teacher.logits, self.student_temperature, self.teacher_temperature)
