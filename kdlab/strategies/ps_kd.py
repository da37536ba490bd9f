"""Progressive self-distillation: for each sample the student learns from its own prediction when it last saw the
sample."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from kdlab.batch import Batch
from kdlab.functional.rows import one_of, wide
from kdlab.functional.sources import Paper, method
from kdlab.losses.base import Probe
from kdlab.outputs import Outputs

from .base import Step, distributed
from .self_taught import SelfTaught

#: the logit of the label for a sample that was not seen yet: the label's probability is exactly 1 at any temperature,
#: and the logit is finite also in half precision
CONFIDENT = 1e4


@method(
    "strategy",
    Paper(
        "Kim et al.",
        2021,
        "Self-Knowledge Distillation with Progressive Refinement of Targets",
        "https://arxiv.org/abs/2006.12000",
    ),
    {"lgcnsai/PS-KD-Pytorch": "pskd"},
)
class Progressive(SelfTaught):
    r"""Progressive self-knowledge distillation (PS-KD): a table holds the student's prediction for each training sample
    when it last saw the sample. The losses use the table as a teacher. With ``loss=[ce,soft_cross_entropy]`` and the
    weights :math:`1 - \alpha_t` and :math:`\alpha_t`,

    .. math:: L = -\sum_c \big[(1 - \alpha_t)\,\mathrm{onehot}(y) + \alpha_t\,p^{(t-1)}\big]_c \log p_c, \qquad \alpha_t
    = \alpha_T\,(t + 1) / T.

    Kim et al. (2021), "Self-Knowledge Distillation with Progressive Refinement of Targets",
    https://arxiv.org/abs/2006.12000. For a sample that was not seen yet, the target is its label. In the first epoch
    this holds for all samples, as in the authors' code.

    The table is a buffer ``(samples, classes)`` of log-probabilities, indexed by sample, so it is saved in the
    checkpoint. Each training batch of all processes updates it. The strategy cannot be combined with another teacher,
    with losses on features or on two views, or with mixed images.

    Args:
        store: the data type of the table: ``float32``, or ``float16``, which halves its size (to 2.6 GB for ImageNet).
        base: as for :class:`Strategy`.

    Raises:
        ValueError: the type is neither of these.
    """

    answers_may_be = ("classes",)

    mixing = False
    unlabelled = False
    needs_index = True
    table: Tensor | None

    def __init__(self, *, store: Literal["float32", "float16"] = "float32", **base: Any):
        super().__init__(**base)
        self._type = getattr(torch, one_of("store", store, ("float32", "float16")))
        self.register_buffer("table", None)

    def attach(self, probe: Probe) -> None:
        """Creates the table ``(train_size, classes)``; each sample's row starts as its label."""
        if probe.train_target is None:
            raise ValueError("the table starts with the labels of the training samples, and the probe holds none")
        device = probe.student.logits.device
        table = torch.zeros(probe.train_size, probe.classes, dtype=self._type, device=device)
        self.table = table.scatter_(1, probe.train_target.to(device)[:, None], CONFIDENT)
        # it is already the same in all processes, but DDP would broadcast it in every step (torch has no public option
        # for this)
        self._ddp_params_and_buffers_to_ignore = ["table"]

    def without_labels(self) -> list[str]:
        """No problem: the table starts with the labels."""
        return []  # the table starts with them

    def taught_by(self, batch: Batch) -> Outputs:
        """The table's rows for the batch as logits ``(B, classes)``, in at least float32. Before :meth:`attach`, the
        student's own Outputs, detached."""
        if self.table is None:  # before attach: Outputs of the same shape
            return self.observe(batch).detach()
        return Outputs(wide(self.table[batch.index]))

    def distill(self, batch: Batch) -> Step:
        """The loss of the student, with its earlier predictions as teacher."""
        student = self.observe(batch)
        return Step(self.compare(student, self.teach(batch), batch), {"student": student})

    def after_step(self, step: Step, batch: Batch) -> None:
        """Writes the student's log-probabilities into the table, at the indices of the samples of all processes."""
        if self.table is None:
            raise RuntimeError("attach() makes the table, and comes before the first step")
        said, index = wide(step.outputs["student"].logits.detach()).log_softmax(-1), batch.index
        if distributed():  # the processes may have different numbers of rows
            said, index = (torch.cat(gather_all_tensors(part)) for part in (said, index))
        self.table[index] = said.to(self.table.dtype)

    def validate_combination(self) -> list[str]:
        """The problems of :class:`SelfTaught`, and one for each term that reads a teacher's features or plain logits,
        or compares two views."""
        features = [
            f"loss.{name}: it compares features, and the table holds only log-probabilities; choose a loss on logits"
            for name, term in self.objective.losses.items()
            if term.needs_teacher and (term.student_taps or term.teacher_taps)
        ]
        features += [
            (
                f"loss.{name}: it reads the logits themselves, and the table holds log-probabilities; choose a loss "
                "that reads their softmax"
            )
            for name, term in self.objective.losses.items()
            if term.needs_teacher and term.reads_logits
        ]
        return [*super().validate_combination(), *features, *self.one_view("the table holds the outputs of one view")]
