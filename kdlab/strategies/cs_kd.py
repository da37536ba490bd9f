"""Class-wise self-distillation: the teacher is the network's own prediction for another sample of the same class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.counter import counter_order, counter_uniform
from kdlab.functional.sources import Paper, method
from kdlab.outputs import Outputs

from .base import Step
from .self_taught import SelfTaught

_ORDER, _PARTNER = 1, 32  # streams of random numbers; the first also shuffles without this strategy


@method(
    "strategy",
    Paper(
        "Yun et al.",
        2020,
        "Regularizing Class-wise Predictions via Self-knowledge Distillation",
        "https://arxiv.org/abs/2003.13964",
    ),
    {"alinlab/cs-kd": "cskd_kl cskd_total"},
)
class ClassWise(SelfTaught):
    r"""Class-wise self-knowledge distillation (CS-KD): every sample x is paired with another sample x' of its class.
    Its prediction learns from the label and from the prediction for x', without gradient through the latter,

    .. math:: L = L_{labels}(f_\theta(x)) + L_{taught}(f_\theta(x), f_\theta(x')).

    Yun et al. (2020), "Regularizing Class-wise Predictions via Self-knowledge Distillation",
    https://arxiv.org/abs/2003.13964. The partners have a separate forward pass, in train mode as in the authors' code.
    They are not part of the labels' term.

    The partner of a sample is a function of (seed, epoch, index). A sample is its own partner only if it is alone in
    its class. ``data.batch_size`` is the number of learning samples; each batch has as many partners in addition. Any
    loss works, also on features. The strategy cannot be combined with another teacher, or with mixed images, which have
    no single class.
    """

    answers_may_be = ("classes",)

    mixing = False
    unlabelled = False

    def __init__(self, **base: Any):
        super().__init__(**base)
        self.watch(self.objective.teacher_taps)

    def sampler(self, target: Tensor, rows: Tensor) -> Callable[[int], Tensor]:
        """``order(epoch)``: sample indices ``(N, 2)``: each sample, shuffled, with another one of its class."""

        def order(epoch: int) -> Tensor:
            shuffled = counter_order(rows, self.seed, epoch, _ORDER)
            return torch.stack([shuffled, partners(target, rows, self.seed, epoch)[shuffled]], dim=1)

        return order

    def taught_by(self, batch: Batch) -> Outputs:
        """The Outputs for the partners, which are the second half of the batch."""
        with torch.no_grad():
            return self.observe(batch.part(len(batch) // 2, len(batch)))

    def distill(self, batch: Batch) -> Step:
        """The loss of the first half of the batch, with the second half, their partners, as teacher."""
        learning = batch.part(0, len(batch) // 2)
        student = self.observe(learning)
        return Step(self.compare(student, self.teach(batch), learning), {"student": student})


def partners(target: Tensor, rows: Tensor, *key: int) -> Tensor:
    """For each of the ``rows`` another sample of the same class, drawn uniformly under a key of integers; the sample
    itself if it is alone.

    Returns:
        A tensor as long as ``target``, with -1 for samples that are not in ``rows``.

    >>> partners(torch.tensor([0, 1, 0, 0, 2]), torch.tensor([0, 1, 2]), 7).tolist()
    [2, 1, 0, -1, -1]
    """
    members = rows[target[rows].argsort(stable=True)]  # class by class
    labels = target[members]
    counts = labels.bincount()
    first, others = (counts.cumsum(0) - counts)[labels], counts[labels] - 1
    ahead = 1 + (counter_uniform(members, *key, _PARTNER) * others).long()
    place = (torch.arange(len(members)) - first + ahead) % counts[labels]
    found = torch.full_like(target, -1)
    found[members] = members[first + place]
    return found
