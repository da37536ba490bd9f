"""Previous checkpoint: the student learns from its own weights of some epochs before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.functional.sources import Paper, method
from kdlab.losses.base import whole
from kdlab.models.taps import Taps
from kdlab.objective import LossParts, zero_loss
from kdlab.outputs import Outputs
from kdlab.teachers.average import Copy

from .base import Step
from .self_taught import SelfTaught


@method(
    "strategy",
    Paper(
        "Yang et al.",
        2019,
        "Snapshot Distillation: Teacher-Student Optimization in One Generation",
        "https://arxiv.org/abs/1812.00123",
    ),
)
class PreviousCheckpoint(SelfTaught):
    r"""An earlier checkpoint of the same run is the teacher:
    :math:`L = L_{labels}(f_\theta(x)) + L_{taught}(f_\theta(x), f_{\theta_s}(x))`, with :math:`\theta_s` the weights
    after epoch :math:`s = \mathrm{start} + k \cdot \mathrm{every}`, the latest such epoch that is finished. Before the
    first snapshot the student learns from the labels alone, that is from the terms that need no teacher, with unchanged
    weights. Snapshots of one training as teachers of its next part: Yang et al. (2019), "Snapshot Distillation:
    Teacher-Student Optimization in One Generation", https://arxiv.org/abs/1812.00123 (there with one cycle of the
    learning rate per part, which ``scheduler=`` can provide).

    Any loss works, also on features. The strategy cannot be combined with another teacher.

    Args:
        every: epochs from one snapshot to the next.
        start: epochs before the first snapshot.
        base: as for :class:`Strategy`.

    Raises:
        ValueError: either is not a whole number of at least 1.
    """

    snapshots: Tensor

    def __init__(self, *, every: int = 1, start: int = 1, **base: Any):
        super().__init__(**base)
        self.every, self.start = int(whole("every", every)), int(whole("start", start))
        self.snapshot = Copy(self.student)
        self._snapshot_taps = Taps(self.snapshot.network, self.objective.teacher_taps, self.aliases)
        self.register_buffer("snapshots", torch.zeros((), dtype=torch.long))
        self._teaches = False

    def on_train_epoch_start(self) -> None:
        """Reads whether a snapshot exists for this epoch."""
        super().on_train_epoch_start()
        self._teaches = bool(self.snapshots > 0)  # read once per epoch: reading it in every step would make a GPU wait

    def on_train_epoch_end(self) -> None:
        """Takes a snapshot of the student after epoch ``start``, and after each ``every`` epochs from then on."""
        super().on_train_epoch_end()
        since = self.current_epoch + 1 - self.start
        # this runs before the checkpoint of the epoch is written, so the checkpoint holds the snapshot
        if since >= 0 and since % self.every == 0:
            self.snapshot.take(self.student)
            self.snapshots += 1

    def taught_by(self, batch: Batch) -> Outputs:
        """The snapshot's Outputs, without gradient."""
        with torch.no_grad():
            return self.outputs_of(self.snapshot.network, self._snapshot_taps, batch)

    def validate_combination(self) -> list[str]:
        """The problems of :class:`SelfTaught`, and one if the training ends before a snapshot teaches."""
        late = self.epochs is not None and 0 < self.epochs <= self.start
        problem = (
            f"strategy.start={self.start}: a training of {self.epochs} epochs ends before a snapshot teaches; "
            "make it smaller"
        )
        return [*super().validate_combination(), *([problem] if late else [])]

    def distill(self, batch: Batch) -> Step:
        """The loss of the student, with the snapshot as its teacher. Before the first snapshot: the loss of the terms
        that need no teacher."""
        student = self.observe(batch)
        if not self._teaches:
            return Step(self.compare(student, None, batch) + LossParts(zero_loss(self.objective)), {"student": student})
        return Step(self.compare(student, self.teach(batch), batch), {"student": student})
