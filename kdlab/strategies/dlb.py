"""Self-distillation from the last batch: the student learns from its own logits of one step before."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.functional.sources import Paper, method
from kdlab.objective import LossParts, zero_loss
from kdlab.outputs import Outputs

from .base import Step
from .self_taught import SelfTaught


@method(
    "strategy",
    Paper(
        "Shen et al.",
        2022,
        "Self-Distillation from the Last Mini-Batch for Consistency Regularization",
        "https://arxiv.org/abs/2203.16172",
    ),
    {"Meta-knowledge-Lab/DLB": "dlb"},
)
class LastBatch(SelfTaught):
    r"""Self-distillation from the last mini-batch (DLB): each step uses the current batch x and, under another
    augmentation, the last batch x' again. All rows of both learn from the labels. The rows of the last batch also learn
    from the outputs that were recorded for them one step before, which are constants:

    .. math:: L = L_{labels}(f_\theta([x', x])) + L_{taught}(f_\theta(x'_2), f_{\theta_{t-1}}(x'_1)),

    with the cross-entropy as a mean over all rows. Shen et al. (2022), "Self-Distillation from the Last Mini-Batch for
    Consistency Regularization", https://arxiv.org/abs/2203.16172. The two batches pass through the student one after
    the other, as in the authors' code, so BatchNorm uses separate statistics.

    With gradient accumulation, the last batch is the last single *batch*. It keeps the weight that it had in the step
    in which it was first seen, so in a last step of fewer batches it counts a little less. Each process has its own
    part of it. The last batch is dropped at the start of an epoch, so only a checkpoint inside an epoch holds it: the
    first step of an epoch learns from the labels of its own batch alone. (In the authors' code it is kept across
    epochs.)

    Any loss works, also on features, except losses that compare two views of a batch. The strategy cannot be combined
    with another teacher. With ``data.batch_size`` B, every step of an epoch after the first sees 2 B samples.
    """

    views = 2

    unlabelled = False  # two batches become one, with one normaliser

    def __init__(self, **base: Any):
        super().__init__(**base)
        self.watch(self.objective.teacher_taps)
        self._last: tuple[Batch, Outputs] | None = None

    def on_train_epoch_start(self) -> None:
        """Drops the last batch of the epoch before."""
        super().on_train_epoch_start()
        self._last = None

    def inside_epoch(self) -> dict:
        """The last batch under its other view, and what was said of it."""
        if self._last is None:
            return {}
        batch, said = self._last
        return {
            "batch": {field.name: getattr(batch, field.name) for field in fields(batch)},
            "logits": said.logits,
            "features": dict(said.features),
            "mask": said.mask,
        }

    def resume_inside_epoch(self, state: dict, random: dict[str, Tensor] | None) -> None:
        """Restores the last batch."""
        super().resume_inside_epoch(state, random)
        if state:
            features = {name: value.to(self.device) for name, value in state["features"].items()}
            mask = None if state["mask"] is None else state["mask"].to(self.device)
            said = Outputs(state["logits"].to(self.device), features, mask=mask)
            self._last = Batch(**state["batch"]).to(self.device), said

    def taught_by(self, batch: Batch) -> Outputs:
        """The student's own Outputs, detached. They have the shapes of the recorded ones."""
        return self.observe(batch).detach()

    def distill(self, batch: Batch) -> Step:
        """The loss of the current and the last batch to their labels, plus the loss of the last batch to its recorded
        Outputs. In the first step of an epoch: the loss of the current batch to its labels."""
        if self._last is None:
            student = self.observe(batch)
            return Step(self.compare(student, None, batch) + LossParts(zero_loss(self.objective)), {"student": student})
        last, recorded = self._last
        again, student = self.observe(last), self.observe(batch)
        rows, last_rows = self.task.align_batch(batch), self.task.align_batch(last)
        mine, again = self.aligned(student, batch), self.aligned(again, last)
        labels = self.loss_of(_joined(again, mine), None, _joined_rows(last_rows, rows))
        return Step(
            labels + self.objective.taught(again, self.aligned(recorded, last), last_rows), {"student": student}
        )

    def after_step(self, step: Step, batch: Batch) -> None:
        """Records the student's Outputs on this batch, and keeps the batch's other view for the next step."""
        self._last = (batch.view(1), step.outputs["student"].detach())

    def validate_combination(self) -> list[str]:
        """The problems of :class:`SelfTaught`, and one for each term that compares two views."""
        return [*super().validate_combination(), *self.one_view("the last batch has one view in each step")]


def _joined(first: Outputs, second: Outputs) -> Outputs:
    """The rows of two batches, concatenated."""
    features = {name: torch.cat([value, second.features[name]]) for name, value in first.features.items()}
    return Outputs(torch.cat([first.logits, second.logits]), features)


def _joined_rows(first: Batch, second: Batch) -> Batch:
    """The fields that the losses read, concatenated; the inputs are left out. The normaliser is the sum of both."""
    pairs = {
        name: (getattr(first, name), getattr(second, name))
        for name in ("target", "index", "weights", "partner_target", "share")
    }
    joined = {name: None if pair[0] is None else torch.cat(pair) for name, pair in pairs.items()}
    normaliser = None if first.normaliser is None or second.normaliser is None else first.normaliser + second.normaliser
    return second.replace(inputs=None, further_views=(), normaliser=normaliser, rows=None, **joined)
