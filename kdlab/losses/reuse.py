"""Losses that reuse the teacher's classifier: module form of :mod:`kdlab.functional.reuse`, with their projectors."""

from __future__ import annotations

import torch
from torch import Size, Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.maps import averaged
from kdlab.functional.rows import one_of
from kdlab.models.connectors import bottleneck, pointwise, same_kind
from kdlab.models.reused import ReusedHead
from kdlab.outputs import Outputs

from .base import Loss, Probe


class _Reusing(Loss):
    """Reads the last feature of either network, and owns a :class:`kdlab.models.reused.ReusedHead`."""

    def __init__(self, student_tap: str, teacher_tap: str, teacher_head: str):
        super().__init__()
        self.student_taps, self.teacher_taps, self.teacher_head = (student_tap,), (teacher_tap,), teacher_head
        self.head = None

    def prepare(self, probe: Probe) -> None:
        mine, theirs = (
            probe.student.features[self.student_taps[0]].shape[1:],
            probe.teacher.features[self.teacher_taps[0]].shape[1:],
        )
        same_kind(mine, theirs)
        if probe.teacher_network is None:
            raise ValueError("the classifier of one teacher network is reused, and this teacher is none")
        classifier = dict(probe.teacher_network.named_modules()).get(self.teacher_head) if self.teacher_head else None
        if classifier is None:
            raise ValueError(
                f"teacher_head: the teacher has no module '{self.teacher_head}'; give the path of its classifier, for "
                "example fc"
            )
        if isinstance(classifier, nn.Linear) and classifier.in_features != theirs[0]:
            raise ValueError(
                f"teacher_head: '{self.teacher_head}' reads {classifier.in_features} values, and the teacher's tap "
                f"'{self.teacher_taps[0]}' has {theirs[0]} channels; choose the tap whose mean goes into it"
            )
        self.head = ReusedHead(self.projector(mine, theirs), classifier, self.size(mine, theirs))
        self._try(probe)

    @torch.no_grad()
    def _try(self, probe: Probe) -> None:
        """Whether the module that was named is a classifier of the teacher's feature."""
        try:
            answer = self.head.classify(probe.teacher.features[self.teacher_taps[0]])
        except RuntimeError as error:
            raise ValueError(
                f"teacher_head: '{self.teacher_head}' cannot read the mean of the teacher's '{self.teacher_taps[0]}'; "
                "give the path of its classifier, for example fc"
            ) from error
        if answer.shape[1:] != (probe.classes,):
            raise ValueError(
                f"teacher_head: '{self.teacher_head}' answers with {tuple(answer.shape[1:])} and not with "
                f"{probe.classes} classes; give the path of its classifier, for example fc"
            )

    def projector(self, mine: Size, theirs: Size) -> nn.Module:
        raise NotImplementedError(f"{type(self).__name__} must define projector(mine, theirs)")

    def size(self, mine: Size, theirs: Size) -> tuple[int, int] | None:
        """What the student's map is averaged to first."""
        return None


class SimKD(_Reusing):
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
        if theirs[0] < self.factor:
            raise ValueError(f"factor {self.factor} leaves no channel of the teacher's {theirs[0]}")
        return bottleneck(mine, theirs, hidden=theirs[0] // self.factor)

    def size(self, mine: Size, theirs: Size) -> tuple[int, int] | None:
        return None if len(mine) == 1 else (min(mine[1], theirs[1]), min(mine[2], theirs[2]))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        theirs = teacher.features[self.teacher_taps[0]]
        if self.head.size is not None:
            theirs = averaged(theirs, self.head.size)
        return functional.reused_classifier(self.head.project(student.features[self.student_taps[0]]), theirs)

    def logits(self, student: Outputs) -> Tensor:
        """What the deployed network answers, ``(B, classes)``."""
        return self.head(student.features[self.student_taps[0]])


class SRRL(_Reusing):
    """Softmax regression representation learning: :func:`kdlab.functional.softmax_regression` on the last features, the
    student's after a 1 x 1 convolution, BatchNorm and ReLU. The teacher's classifier only measures: the student keeps
    its own head, which the cross-entropy trains.

    Args:
        student_tap, teacher_tap: the last features, by default what goes into the pooling of kdlab's networks; maps may
            differ in size.
        teacher_head: path of the teacher's classifier, which reads the mean of its last feature.
        divergence: of the logits, ``mse`` (the authors' code) or ``kl``.
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

    def projector(self, mine: Size, theirs: Size) -> nn.Module:
        return pointwise(mine, theirs, activate=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        adapted = self.head.project(student.features[self.student_taps[0]])
        return functional.softmax_regression(
            adapted,
            teacher.features[self.teacher_taps[0]],
            self.head.classify(adapted),
            teacher.logits,
            self.divergence,
        )
