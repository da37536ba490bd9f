"""Born-again networks: generations of equal students."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kdlab.batch import Batch
from kdlab.functional.sources import Paper, method
from kdlab.outputs import Outputs
from kdlab.teachers import Ensemble, Teacher

from .offline import Offline


@method("strategy", Paper("Furlanello et al.", 2018, "Born-Again Neural Networks", "https://arxiv.org/abs/1805.04770"))
class BornAgain(Offline):
    r"""Generation :math:`k` learns from generation :math:`k - 1`, a finished network of the same architecture
    (Furlanello et al. 2018, https://arxiv.org/abs/1805.04770, section 3):

    .. math:: \theta_k = \arg\min_\theta L\big(f(x, \theta_{k-1}), f(x, \theta)\big), \qquad \theta_0 = \arg\min_\theta
    L\big(y, f(x, \theta)\big)

    Each generation is a run. One command trains a chain of them; see ``conf/strategy/born_again.yaml``. With ``ce``
    among the losses, the labels are used too, as in the paper's BAN+L. From the second generation of a chain on, the
    report also has the ensemble of generations 1 to k, the mean of their probabilities (the paper's BANE).

    Args:
        generation: the number of this run's generation, from 1; generation 0 is a run of ``strategy=supervised``.
        earlier: generations 1 to k - 2, set by kdlab; generation k - 1 is the teacher. None: the teacher was chosen in
            another way, and there is no ensemble.
    """

    def __init__(self, *, generation: int, earlier: Sequence[Teacher] | None = None, **options: Any):
        if generation < 1:
            raise ValueError(
                f"generation must be 1 or greater, got {generation}; generation 0 is the student alone: "
                "strategy=supervised"
            )
        super().__init__(generation=generation, **options)
        #: the generations before this one; without them there is no ensemble
        self.earlier: list[Teacher] = []
        if generation > 1 and earlier is not None and self.teacher is not None:
            self.earlier = [*earlier, self.teacher]

    def answers(self) -> dict[str, Callable[[Batch], Outputs]]:
        """The student; with earlier generations also ``ensemble``, the mean of all generations' probabilities. For a
        task without classes it is the mean of their answers."""
        return super().answers() | (
            {"ensemble": Ensemble([*self.earlier, _Student(self)], self.task.average).teach} if self.earlier else {}
        )

    def validate_combination(self) -> list[str]:
        """A problem if there is no teacher; otherwise those of :class:`Offline`."""
        if self.teacher is None:
            return ["strategy=born_again learns from the generation before it; leave out teacher="]
        return super().validate_combination()


class _Student(Teacher):
    """The student as a member of an ensemble."""

    def __init__(self, strategy: BornAgain):
        self.strategy = strategy

    def teach(self, batch: Batch) -> Outputs:
        return self.strategy.task.network_outputs(self.strategy.student, batch)
