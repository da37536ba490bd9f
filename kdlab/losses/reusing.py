"""Base of the losses that pass the student's feature through the teacher's classifier (SimKD, SRRL)."""

from __future__ import annotations

import torch
from torch import Size, nn

from kdlab.models.connectors import same_kind
from kdlab.models.reused import ReusedHead

from .base import Loss, Probe


class Reusing(Loss):
    """Reads the last feature of both networks, and owns a :class:`kdlab.models.reused.ReusedHead`."""

    per = "sample"
    #: built by :meth:`prepare`
    head: ReusedHead

    def __init__(self, student_tap: str, teacher_tap: str, teacher_head: str):
        super().__init__()
        self.student_taps, self.teacher_taps, self.teacher_head = (student_tap,), (teacher_tap,), teacher_head

    def prepare(self, probe: Probe) -> None:
        """Builds the head: the projector and a frozen copy of the teacher's classifier.

        Raises:
            ValueError: the features are neither two maps nor two vectors, the teacher is not one network, or
                ``teacher_head`` does not classify the teacher's feature.
        """
        mine, theirs = (
            probe.student.features[self.student_taps[0]].shape[1:],
            probe.teacher_outputs.features[self.teacher_taps[0]].shape[1:],
        )
        same_kind(mine, theirs)
        if probe.teacher_network is None:
            raise ValueError("the loss reuses the classifier of a single teacher network; this teacher is not one")
        classifier = dict(probe.teacher_network.named_modules()).get(self.teacher_head) if self.teacher_head else None
        if classifier is None:
            raise ValueError(
                f"teacher_head: the teacher has no module '{self.teacher_head}'; give the path of its classifier, for "
                "example fc"
            )
        if isinstance(classifier, nn.Linear) and classifier.in_features != theirs[0]:
            raise ValueError(
                f"teacher_head: '{self.teacher_head}' reads {classifier.in_features} values, and the teacher's tap "
                f"'{self.teacher_taps[0]}' has {theirs[0]} channels; choose the tap whose mean is its input"
            )
        self.head = ReusedHead(self.projector(mine, theirs), classifier, self.size(mine, theirs))
        self._try(probe)

    @torch.no_grad()
    def _try(self, probe: Probe) -> None:
        """Checks that the named module classifies the teacher's feature."""
        try:
            answer = self.head.classify(probe.teacher_outputs.features[self.teacher_taps[0]])
        except RuntimeError as error:
            raise ValueError(
                f"teacher_head: '{self.teacher_head}' cannot read the mean of the teacher's '{self.teacher_taps[0]}'; "
                "give the path of its classifier, for example fc"
            ) from error
        if answer.shape[1:] != (probe.classes,):
            raise ValueError(
                f"teacher_head: the output of '{self.teacher_head}' has shape {tuple(answer.shape[1:])}, expected "
                f"{probe.classes} classes; give the path of its classifier, for example fc"
            )

    def projector(self, mine: Size, theirs: Size) -> nn.Module:
        """The module from the student's feature to the teacher's; a subclass must define it.

        Args:
            mine, theirs: shapes of one sample, without the batch dimension.
        """
        raise NotImplementedError(f"{type(self).__name__} must define projector(mine, theirs)")

    def size(self, mine: Size, theirs: Size) -> tuple[int, int] | None:
        """The size to which the student's map is averaged first; None leaves it as it is."""
        return None
