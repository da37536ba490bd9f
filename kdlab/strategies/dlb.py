"""Self-distillation from the last batch: what was said of it one step before teaches what is said of it now."""

from __future__ import annotations

import torch

from kdlab.batch import Batch
from kdlab.functional.sources import Paper, method
from kdlab.objective import LossParts, at_rest
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
    r"""Self-distillation from the last mini-batch (DLB): each step sees this batch x and, under another augmentation,
    the last one x' again. The labels are learned from all rows of both, and of the last batch what was said of it one
    step before, recorded and a constant:

    .. math:: L = L_{labels}(f_\theta([x', x])) + L_{taught}(f_\theta(x'_2), f_{\theta_{t-1}}(x'_1)),

    with cross-entropy as the mean over all rows. Shen et al. (2022), "Self-Distillation from the Last Mini-Batch for
    Consistency Regularization", https://arxiv.org/abs/2203.16172. The two batches go through the student one after the
    other, as in the authors' code, and so BatchNorm has statistics of each.

    The last batch is the last *batch*, also where the gradients of several are accumulated (it counts there as in the
    step that it was first seen in, so in a last step of fewer batches a little less); each process has its own share of
    it. It is dropped at the start of an epoch, and so needs no saving: the first step of an epoch learns from the
    labels of its own batch alone. (In the authors' code it survives the epoch.)

    Any loss fits, also on features, but for those that compare two views of a batch; and there is no other teacher. In
    the steps of an epoch but its first, 2 B samples are seen where ``data.batch_size`` says B.
    """

    views = 2

    def __init__(self, **base):
        super().__init__(**base)
        self.watch(self.objective.teacher_taps)
        self._last: tuple[Batch, Outputs] | None = None

    def on_train_epoch_start(self) -> None:
        """Drops the last batch of the epoch before."""
        super().on_train_epoch_start()
        self._last = None

    def taught_by(self, batch: Batch) -> Outputs:
        """The student's own Outputs, detached: they have the shapes of those that are recorded."""
        return self.observe(batch).detach()

    def distill(self, batch: Batch) -> Step:
        """The loss of this batch and the last one to their labels, and of the last one to its recorded Outputs. In the
        first step of an epoch: the loss of this batch to its labels."""
        if self._last is None:
            student = self.observe(batch)
            return Step(self.compare(student, None, batch) + LossParts(at_rest(self.objective)), {"student": student})
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
        return [*super().validate_combination(), *self.one_view("the last batch is seen under one at a time")]


def _joined(first: Outputs, second: Outputs) -> Outputs:
    """The rows of two batches under one another, as if they were one."""
    features = {name: torch.cat([value, second.features[name]]) for name, value in first.features.items()}
    return Outputs(torch.cat([first.logits, second.logits]), features)


def _joined_rows(first: Batch, second: Batch) -> Batch:
    """What the losses read of them; the inputs are none of it. The sum of both is divided by the rows of both."""
    pairs = {
        name: (getattr(first, name), getattr(second, name))
        for name in ("target", "index", "weights", "partner_target", "share")
    }
    joined = {name: None if pair[0] is None else torch.cat(pair) for name, pair in pairs.items()}
    normaliser = None if second.normaliser is None else first.normaliser + second.normaliser
    return second.replace(inputs=None, further_views=(), normaliser=normaliser, **joined)
