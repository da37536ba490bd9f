"""Offline distillation: one frozen teacher (or an ensemble), one student."""

from kdlab.batch import Batch
from kdlab.functional import hinton_kd
from kdlab.functional.sources import method, required_method

from .base import Step, Strategy


@method("strategy", required_method(hinton_kd).paper)
class Offline(Strategy):
    r"""A trained teacher that stays fixed: :math:`L = \sum_k w_k\,\ell_k(z, z_{teacher}, y)` over the terms of the
    loss. Hinton et al. (2015), "Distilling the Knowledge in a Neural Network", https://arxiv.org/abs/1503.02531

    The loss may consist of terms that need no teacher (a student's baseline in a sweep over ``loss=``).
    """

    def distill(self, batch: Batch) -> Step:
        """The loss of the student to the labels and the teacher."""
        student, teacher = self.observe(batch), self.teach(batch)
        outputs = {"student": student} if teacher is None else {"student": student, "teacher": teacher}
        return Step(self.compare(student, teacher, batch), outputs)

    def validate_combination(self) -> list[str]:
        """A problem if a term needs a teacher and there is none."""
        if self.teacher is None and self.objective.needs_teacher:
            return ["strategy=offline needs a teacher; for example teacher=trained, or teacher=run teacher.run=runs/…"]
        return []
