"""SimKD: module form of :mod:`kdlab.functional.simkd`, with its projector."""

from __future__ import annotations

from torch import Size, Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.maps import averaged
from kdlab.models.connectors import bottleneck
from kdlab.outputs import Outputs

from .reusing import Reusing


class SimKD(Reusing):
    """The reused teacher classifier: a projector brings the student's last feature to the teacher's, and
    :func:`kdlab.functional.reused_classifier` compares the two; where the maps differ in size, the larger is averaged.

    **The student's own head is not trained by this loss**, and the accuracy that a run reports is that of this head
    (chance, unless another term trains it). The network to deploy is the student's body, the projector and the
    teacher's classifier: ``kdlab.models.reused.ReusedClassifier(student, tap, loss.head)``; :meth:`logits` are its
    answers. It is larger than the student. The authors train with this term alone.

    Args:
        student_tap, teacher_tap: the last features, by default what goes into the pooling of kdlab's networks.
        teacher_head: path of the teacher's classifier, which reads the mean of its last feature.
        factor: the projector has ``channels / factor`` of the teacher's channels inside.
    """

    function = staticmethod(functional.reused_classifier)

    def __init__(
        self,
        student_tap: str = "embedding.input",
        teacher_tap: str = "embedding.input",
        teacher_head: str = "classifier",
        factor: int = 2,
    ):
        super().__init__(student_tap, teacher_tap, teacher_head)
        if factor < 1:
            raise ValueError(f"factor must be at least 1, got {factor}")
        self.factor = factor

    def projector(self, mine: Size, theirs: Size) -> nn.Module:
        """A bottleneck from the student's shape to the teacher's.

        Raises:
            ValueError: ``factor`` leaves no channel inside it.
        """
        if theirs[0] < self.factor:
            raise ValueError(f"factor {self.factor} leaves no channel of the teacher's {theirs[0]}")
        return bottleneck(mine, theirs, hidden=theirs[0] // self.factor)

    def size(self, mine: Size, theirs: Size) -> tuple[int, int] | None:
        """The smaller height and the smaller width of the two maps; None for vectors."""
        return None if len(mine) == 1 else (min(mine[1], theirs[1]), min(mine[2], theirs[2]))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a sample, ``(B,)``: the mean squared difference of the projected feature and the teacher's."""
        theirs = teacher.features[self.teacher_taps[0]]
        if self.head.size is not None:
            theirs = averaged(theirs, self.head.size)
        return functional.reused_classifier(self.head.project(student.features[self.student_taps[0]]), theirs)

    def logits(self, student: Outputs) -> Tensor:
        """What the deployed network answers, ``(B, classes)``."""
        return self.head(student.features[self.student_taps[0]])
