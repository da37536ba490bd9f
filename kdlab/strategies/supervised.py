"""Supervised: the student alone, from labels. The baseline of every table, and how teachers are trained."""

from kdlab.batch import Batch

from .base import Step, Strategy


class Supervised(Strategy):
    r"""The student alone, from labels: :math:`L = \sum_k w_k\,\ell_k(z, y)`. It cannot be combined with a teacher, or
    with losses that need one."""

    def distill(self, batch: Batch) -> Step:
        """The loss of the student without a teacher."""
        student = self.observe(batch)
        return Step(self.compare(student, None, batch), {"student": student})

    def validate_combination(self) -> list[str]:
        """A problem for each term that needs a teacher, and one if a teacher is given."""
        if self.task.compared_with == "teacher":
            return [
                f"strategy=supervised learns from labels, and task={self.task.name} reads none; "
                "choose strategy=offline and a teacher"
            ]
        problems = [
            f"loss.{name} needs a teacher, and strategy=supervised has none; leave it out, or choose strategy=offline"
            for name, term in self.objective.terms.items()
            if term.needs_teacher
        ]
        if self.teacher is not None:
            problems.append("strategy=supervised uses no teacher; leave out teacher=, or choose strategy=offline")
        return problems
