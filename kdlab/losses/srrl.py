"""SRRL: module form of :mod:`kdlab.functional.srrl`, with its connector."""

from __future__ import annotations

from torch import Size, Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.rows import one_of
from kdlab.models.connectors import pointwise
from kdlab.outputs import Outputs

from .reusing import Reusing


class SRRL(Reusing):
    """Softmax regression representation learning: :func:`kdlab.functional.softmax_regression` on the last features. The
    student's feature passes a 1 x 1 convolution, BatchNorm and ReLU first. The teacher's classifier is used for this
    loss only: the student keeps its own head, which the cross-entropy trains.

    Args:
        student_tap, teacher_tap: the last features; by default the input of the pooling in kdlab's networks. Maps may
            differ in size.
        teacher_head: path of the teacher's classifier, which reads the mean of its last feature.
        divergence: divergence of the logits: ``mse`` (the authors' code) or ``kl``.
    """

    function = staticmethod(functional.softmax_regression)

    def __init__(
        self,
        student_tap: str = "embedding.input",
        teacher_tap: str = "embedding.input",
        teacher_head: str = "classifier",
        divergence: str = "mse",
    ):
        super().__init__(student_tap, teacher_tap, teacher_head)
        self.divergence = one_of("divergence", divergence, ("mse", "kl"))

    @property
    def answers(self) -> tuple[str, ...]:
        """Classes alone for ``kl``, which compares probabilities of classes."""
        return ("classes",) if self.divergence == "kl" else super().answers

    def projector(self, mine: Size, theirs: Size) -> nn.Module:
        """A 1 x 1 convolution, BatchNorm and ReLU; for vectors a linear layer instead of the convolution."""
        return pointwise(mine, theirs, activate=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the squared difference of the features, plus the divergence of the logits
        that the teacher's classifier computes from them."""
        adapted = self.head.project(student.features[self.student_taps[0]])
        return functional.softmax_regression(
            adapted,
            teacher.features[self.teacher_taps[0]],
            self.head.classify(adapted),
            teacher.logits,
            self.divergence,
        )
