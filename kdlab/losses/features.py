"""Losses on features: module form of :mod:`kdlab.functional.features`, with their connectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.features import FORMS
from kdlab.functional.maps import same_size
from kdlab.functional.rows import added, one_of
from kdlab.models.connectors import connector, regressor, same_kind
from kdlab.outputs import Outputs

from .base import Loss, Probe, positive, whole
from .pairs import Pairs

STAGES = ("stage1", "stage2", "stage3")


class Hint(Loss):
    """FitNets' hint: a connector maps a student feature to the teacher's shape, then :func:`kdlab.functional.hint`
    compares them.

    Args:
        student_tap, teacher_tap: the features that are compared (a tap of the model's config, or a dotted module path).
        normalise: BatchNorm and ReLU after the convolution of the connector, as in RepDistiller and mdistiller.
    """

    per = "sample"

    function = staticmethod(functional.hint)
    #: built by :meth:`prepare`
    connector: nn.Module

    def __init__(self, student_tap: str = "stage2", teacher_tap: str = "stage2", normalise: bool = True):
        super().__init__()
        self.student_taps = (student_tap,)
        self.teacher_taps = (teacher_tap,)
        self.normalise = normalise

    def prepare(self, probe: Probe) -> None:
        """Builds the connector from the student's shape to the teacher's.

        Raises:
            ValueError: no connector exists between the two shapes.
        """
        student = probe.student.features[self.student_taps[0]]
        teacher = probe.teacher_outputs.features[self.teacher_taps[0]]
        self.connector = connector(student.shape[1:], teacher.shape[1:], normalise=self.normalise)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the mean squared difference after the connector."""
        adapted = self.connector(student.features[self.student_taps[0]])
        return functional.hint(adapted, teacher.features[self.teacher_taps[0]])


class AttentionTransfer(Pairs):
    """:func:`kdlab.functional.attention_transfer`, summed over pairs of stages. It needs maps and has no parameters.

    Args:
        student_taps, teacher_taps: pairs of maps.
        power: the power to which features are raised.
        form: ``code`` (mean of squares) or ``paper`` (norm).
    """

    function = staticmethod(functional.attention_transfer)

    def __init__(
        self,
        student_taps: str | Sequence[str] = STAGES,
        teacher_taps: str | Sequence[str] = STAGES,
        power: float = 2.0,
        form: str = "code",
    ):
        super().__init__(student_taps, teacher_taps)
        self.power, self.form = whole("power", power), one_of("form", form, FORMS)

    def prepare(self, probe: Probe) -> None:
        """Builds nothing; checks the shapes.

        Raises:
            ValueError: a feature is not a map.
        """
        for mine, theirs in self.shapes(probe):
            same_kind(mine, theirs, maps_only="attention is a map over positions, and a vector has no positions")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the sum over the pairs."""
        values = (
            functional.attention_transfer(mine, theirs, self.power, self.form)
            for mine, theirs in self.pairs(student, teacher)
        )
        return added(values, "attention_transfer")


class VariationalInformation(Pairs):
    """:func:`kdlab.functional.variational_information`, summed over pairs of stages. A regressor of three 1 x 1
    convolutions predicts the mean, and the variance of each channel is a parameter. If the maps differ in size, the
    larger one is averaged first.

    Args:
        student_taps, teacher_taps: pairs of maps, or of vectors.
        variance: the variance of every channel at the start.
        epsilon: the smallest variance.
        hidden: channels between the convolutions; None: as many as the teacher has.
    """

    function = staticmethod(functional.variational_information)
    fixed = ("variance",)

    def __init__(
        self,
        student_taps: str | Sequence[str] = STAGES,
        teacher_taps: str | Sequence[str] = STAGES,
        variance: float = 5.0,
        epsilon: float = 1e-5,
        hidden: int | None = None,
    ):
        super().__init__(student_taps, teacher_taps)
        self.variance, self.epsilon, self.hidden = positive("variance", variance), positive("epsilon", epsilon), hidden
        if variance <= epsilon:
            raise ValueError(f"variance must be greater than epsilon, {epsilon}, got {variance}")
        if hidden is not None and hidden < 1:
            raise ValueError(f"hidden must be at least 1, or null for the teacher's channels, got {hidden}")
        self.regressors, self.scales = nn.ModuleList(), nn.ParameterList()

    def prepare(self, probe: Probe) -> None:
        """Builds a regressor and one variance per teacher channel for each pair.

        Raises:
            ValueError: a pair is neither two maps nor two vectors.
        """
        excess = self.variance - self.epsilon
        start = excess + math.log(-math.expm1(-excess))  # softplus maps it to the variance
        for mine, theirs in self.shapes(probe):
            same_kind(mine, theirs)
            self.regressors.append(regressor(mine, theirs, self.hidden))
            self.scales.append(nn.Parameter(torch.full((theirs[0],), start)))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the Gaussian's negative log-density without its constant, summed over the
        pairs."""
        values = []
        for (mine, theirs), regress, scale in zip(self.pairs(student, teacher), self.regressors, self.scales):
            if mine.dim() == 4:
                mine, theirs = same_size(mine, theirs, "vid")
            variance = F.softplus(scale) + self.epsilon
            values.append(functional.variational_information(regress(mine), theirs, variance))
        return added(values, "vid")
