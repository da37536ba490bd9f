"""AB: module form of :mod:`kdlab.functional.ab`, with its connectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.rows import added
from kdlab.models.connectors import connector
from kdlab.outputs import Outputs

from .base import Probe, positive
from .pairs import PREACTIVATIONS, Pairs


class ActivationBoundary(Pairs):
    """:func:`kdlab.functional.activation_boundary` over pairs of pre-activations. The last pair has weight 1, and each
    earlier pair has half the weight of the next.

    If a pair's shapes differ, a connector maps the student's feature to the teacher's shape: a convolution and
    BatchNorm without ReLU, or for vectors a linear layer. The authors train with this loss alone first, then with the
    cross-entropy alone. In kdlab, schedules of the two weights do the same.

    Args:
        student_taps, teacher_taps: pairs of pre-activations.
        margin: how far from 0 the student's pre-activations must be.
    """

    function = staticmethod(functional.activation_boundary)

    def __init__(
        self,
        student_taps: str | Sequence[str] = PREACTIVATIONS,
        teacher_taps: str | Sequence[str] = PREACTIVATIONS,
        margin: float = 1.0,
    ):
        super().__init__(student_taps, teacher_taps)
        self.margin = positive("margin", margin)
        self.connectors = nn.ModuleList()

    def prepare(self, probe: Probe) -> None:
        """Builds a connector for each pair whose shapes differ.

        Raises:
            ValueError: no connector exists between the two shapes of a pair.
        """
        for mine, theirs in self.shapes(probe):
            self.connectors.append(nn.Identity() if mine == theirs else connector(mine, theirs, activate=False))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the weighted sum over the pairs."""
        values = (
            weight * functional.activation_boundary(adapt(mine), theirs, self.margin)
            for (mine, theirs), adapt, weight in zip(self.pairs(student, teacher), self.connectors, self.halving())
        )
        return added(values, "ab")
