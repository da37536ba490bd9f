"""Co-training: a teacher that learns at the same time as its student."""

from __future__ import annotations

from typing import Any

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.losses.base import not_negative
from kdlab.objective import Objective

from .base import Step
from .cohort import Cohort

TEACHER = "teacher"


class CoTrained(Cohort):
    r"""A teacher, usually the larger network, that is trained together with its student: :math:`L = L_{labels}(z_s) +
    L_{taught}(z_s, z_t) + L_{labels}(z_t) + \lambda L_{taught}(z_t, z_s)`. No gradient flows into the second argument
    of :math:`L_{taught}`.

    With :math:`\lambda = 0` the teacher learns from the labels alone, as without a student, and the student learns from
    a teacher that improves during training. With 1 the two learn from each other as in deep mutual learning, Zhang et
    al. (2018), "Deep Mutual Learning", https://arxiv.org/abs/1706.00384. Losses on features work, with the taps of
    either network's config.

    It cannot be combined with a further teacher, or with peers other than the network ``teacher``.

    Args:
        feedback: :math:`\lambda`, the weight of the terms by which the teacher learns from the student.
        cohort: as for :class:`Cohort`.

    Raises:
        InputError: the peers are not exactly the network ``teacher``, or no term of the loss applies to the teacher.
        ValueError: the feedback is negative.
    """

    def __init__(self, *, feedback: float = 0.0, **cohort: Any):
        self._feedback = not_negative("feedback", feedback)  # before the base class reads which features are needed
        if list(cohort["peers"]) != [TEACHER]:
            raise InputError(
                "strategy.peers must be one network, 'teacher', for example "
                f"student@strategy.peers.teacher=mlp_wide; got {', '.join(cohort['peers'])}"
            )
        super().__init__(**cohort)

    def features_of(self, name: str) -> set[str]:
        """With feedback: all taps of the objective. Without feedback: for the student the student's taps; for the
        teacher the teacher's taps and those of the terms that need no teacher."""
        if self._feedback:
            return super().features_of(name)
        if name == "student":
            return self.objective.student_taps
        labels = [term for term in self.objective.losses.values() if not term.needs_teacher]
        return self.objective.teacher_taps.union(*(term.student_taps for term in labels))

    def own_objective(self, name: str) -> Objective:
        """The objective of the teacher. Without feedback it has only the terms that need no teacher, so that no
        connector stays untrained."""
        if self._feedback:
            return super().own_objective(name)
        whole = super().own_objective(name)
        terms = {term: loss for term, loss in whole.losses.items() if not loss.needs_teacher}
        return Objective(
            terms,
            whole.weights,
            {key: value for key, value in whole.schedules.items() if key.partition(".")[0] in terms},
        )

    def distill(self, batch: Batch) -> Step:
        """The sum of both networks' losses. The teacher's terms that learn from the student have the weight
        ``feedback``."""
        said = {name: self.aligned(outputs, batch) for name, outputs in self.observe_all(batch).items()}
        rows, student, teacher = self.task.align_batch(batch), said["student"], said[TEACHER]
        learned = self.loss_of(teacher, student if self._feedback else None, rows, self.objective_of(TEACHER)).scaled(
            taught=self._feedback
        )
        return Step(self.loss_of(student, teacher, rows).named("student") + learned.named(TEACHER), said)
