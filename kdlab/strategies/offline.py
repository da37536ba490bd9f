"""Offline distillation: one frozen teacher (or an ensemble), one student. Hinton, Vinyals, Dean (2015), https://arxiv.org/abs/1503.02531."""

from kdlab.batch import Batch

from .base import Step, Strategy


class Offline(Strategy):
    """The teacher does not change. Losses that need no teacher may stand alone (a student's baseline in a sweep over ``loss=``)."""

    def distill(self, batch: Batch) -> Step:
        student, teacher = self.observe(batch), self.teach(batch)
        outputs = {"student": student} if teacher is None else {"student": student, "teacher": teacher}
        return Step(self.compare(student, teacher, batch), outputs)

    def validate_combination(self) -> list[str]:
        if self.teacher is None and self.objective.needs_teacher:
            return ["strategy=offline needs a teacher; for example teacher=trained, or teacher=run teacher.run=runs/…"]
        return []
