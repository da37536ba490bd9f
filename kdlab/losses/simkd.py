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
    """The reused teacher classifier: a projector maps the student's last feature to the teacher's shape, and
    :func:`kdlab.functional.reused_classifier` compares the two. If the maps differ in size, the larger one is averaged.

    **This loss does not train the student's own head.** A run reports the accuracy of this head, which is at chance
    unless another term trains it. The network to deploy consists of the student's body, the projector and the teacher's
    classifier: ``kdlab.models.reused.ReusedClassifier(student, tap, loss.head)``. It is larger than the student, and
    :meth:`logits` are its logits. The authors train with this term alone.

    Args:
        student_tap, teacher_tap: the last features; by default the input of the pooling in kdlab's networks.
        teacher_head: path of the teacher's classifier, which reads the mean of its last feature.
        factor: the projector has ``channels / factor`` hidden channels, if the teacher has ``channels``.
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
        """A bottleneck from the student's shape to the teacher's shape.

        Raises:
            ValueError: ``factor`` is so large that no hidden channel remains.
        """
        if theirs[0] < self.factor:
            raise ValueError(f"factor must be at most the teacher's {theirs[0]} channels, got {self.factor}")
        return bottleneck(mine, theirs, hidden=theirs[0] // self.factor)

    def size(self, mine: Size, theirs: Size) -> tuple[int, int] | None:
        """The smaller height and the smaller width of the two maps; None for vectors."""
        return None if len(mine) == 1 else (min(mine[1], theirs[1]), min(mine[2], theirs[2]))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the mean squared difference between the projected feature and the
        teacher's."""
        theirs = teacher.features[self.teacher_taps[0]]
        if self.head.size is not None:
            theirs = averaged(theirs, self.head.size)
        return functional.reused_classifier(self.head.project(student.features[self.student_taps[0]]), theirs)

    def logits(self, student: Outputs) -> Tensor:
        """The logits of the deployed network, ``(B, classes)``."""
        logits: Tensor = self.head(student.features[self.student_taps[0]])
        return logits
