"""SemCKD: module form of :mod:`kdlab.functional.semckd`, with its projections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.kernels import gram
from kdlab.functional.maps import same_size
from kdlab.models.connectors import bottleneck, same_kind
from kdlab.outputs import Outputs

from .base import Loss, Probe, positive
from .features import STAGES
from .pairs import features, shapes, taps


class SemCKD(Loss):
    """Semantic calibration: every student layer learns from every teacher layer by
    :func:`kdlab.functional.semantic_calibration`.

    Two-layer perceptrons compute queries and keys from a sample's row of the batch's B x B Gram matrix. Their number of
    inputs is ``batch_size``, which must be the batch size of the training. A smaller batch (the last of an epoch) is
    padded with zeros, as if the absent samples had features of 0. A larger one is an error. With several processes,
    each process has a part of ``data.batch_size`` and pads the rest.

    Args:
        student_taps, teacher_taps: layers, any number on either side; all of them maps, or all vectors.
        batch_size: number of samples per batch.
        temperature: temperature of the attention.
        factor: queries and keys have ``batch_size / factor`` dimensions.
    """

    per = "sample"

    function = staticmethod(functional.semantic_calibration)

    def __init__(
        self,
        student_taps: str | Sequence[str] = STAGES,
        teacher_taps: str | Sequence[str] = STAGES,
        batch_size: int = 64,
        temperature: float = 1.0,
        factor: int = 4,
    ):
        super().__init__()
        self.student_taps, self.teacher_taps = taps("student_taps", student_taps), taps("teacher_taps", teacher_taps)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if factor < 1 or batch_size < factor:
            raise ValueError(f"factor must be at least 1 and at most batch_size, {batch_size}, got {factor}")
        self.batch_size, self.temperature, self.factor = batch_size, positive("temperature", temperature), factor
        self.queries = nn.ModuleList(self._embedding() for _ in self.student_taps)
        self.keys = nn.ModuleList(self._embedding() for _ in self.teacher_taps)
        self.projections = nn.ModuleList()

    def _embedding(self) -> nn.Sequential:
        size = self.batch_size // self.factor
        return nn.Sequential(nn.Linear(self.batch_size, 2 * size), nn.ReLU(), nn.Linear(2 * size, size))

    def prepare(self, probe: Probe) -> None:
        """Builds a projection for each pair of a student layer and a teacher layer.

        Raises:
            ValueError: the batches are larger than ``batch_size``, or some layers are maps and others vectors.
        """
        if probe.batch_size is not None and probe.batch_size > self.batch_size:
            raise ValueError(f"batch_size: batches of {probe.batch_size} samples do not fit; set it to data.batch_size")
        for mine in shapes(probe.student, self.student_taps):
            for theirs in shapes(probe.teacher_outputs, self.teacher_taps):
                same_kind(mine, theirs)
                self.projections.append(bottleneck(mine, theirs, hidden=2 * theirs[0], activate=False))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the errors of all pairs of layers, weighted by the attention.

        Raises:
            ValueError: the batch is larger than ``batch_size``.
        """
        query, key, errors = self.calibrate(student, teacher)
        return functional.semantic_calibration(query, key, errors, self.temperature)

    def calibrate(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(B, S, D)``, keys ``(B, T, D)`` and errors ``(B, S, T)``."""
        mine, theirs = features(student, self.student_taps), features(teacher, self.teacher_taps)
        query = torch.stack([self._embed(embed, x) for embed, x in zip(self.queries, mine)], 1)
        key = torch.stack([self._embed(embed, x) for embed, x in zip(self.keys, theirs)], 1)
        errors = [
            self._error(project, x, y)
            for project, (x, y) in zip(self.projections, [(x, y) for x in mine for y in theirs])
        ]
        return query, key, torch.stack(errors, 1).view(len(query), len(mine), len(theirs))

    def _embed(self, embed: nn.Module, x: Tensor) -> Tensor:
        # inner products of entire maps exceed the range of float16, so autocast is off, also for the perceptron that
        # reads them
        with torch.autocast(x.device.type, enabled=False):
            embedded: Tensor = embed(self._relations(x))
        return embedded

    def _relations(self, x: Tensor) -> Tensor:
        """Every sample's row of the Gram matrix, ``(B, batch_size)``."""
        if len(x) > self.batch_size:
            raise ValueError(
                f"a batch of {len(x)} samples is larger than batch_size={self.batch_size}; set it to data.batch_size"
            )
        x = functional.wide(x.flatten(1))
        return F.pad(gram(x), (0, self.batch_size - len(x)))

    @staticmethod
    def _error(project: nn.Module, mine: Tensor, theirs: Tensor) -> Tensor:
        if mine.dim() == 4:
            mine, theirs = same_size(mine, theirs, "semckd")
        return functional.hint(project(mine), theirs)
