"""Class-wise self-distillation: what is said of another sample of the same class teaches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.counter import counter_order, counter_uniform
from kdlab.functional.sources import Paper, method
from kdlab.outputs import Outputs

from .base import Step
from .self_taught import SelfTaught

_ORDER, _PARTNER = 1, 32  # streams of random numbers: the first is the one that shuffles without this strategy, too


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
    r"""Class-wise self-knowledge distillation (CS-KD): every sample x comes with another one x' of its class, and
    learns from the label and from what is said of x', without gradient,

    .. math:: L = L_{labels}(f_\theta(x)) + L_{taught}(f_\theta(x), f_\theta(x')).

    Yun et al. (2020), "Regularizing Class-wise Predictions via Self-knowledge Distillation",
    https://arxiv.org/abs/2003.13964. The partners have a forward pass of their own, in train mode as in the authors'
    code; they add nothing to the labels' part.

    The partner of a sample is a function of (seed, epoch, index); itself only where it is alone in its class.
    ``data.batch_size`` counts the samples that learn, and as many partners come with them. Any loss fits, also on
    features. It cannot be combined with another teacher, nor with mixed images, which have no one class.
    """

    answers_may_be = ("classes",)

    mixing = False

    def __init__(self, **base):
        super().__init__(**base)
        self.watch(self.objective.teacher_taps)

    def sampler(self, target: Tensor, rows: Tensor) -> Callable[[int], Tensor]:
        """``order(epoch)``: sample indices ``(N, 2)``, each sample, shuffled, with another one of its class."""

        def order(epoch: int) -> Tensor:
            shuffled = counter_order(rows, self.seed, epoch, _ORDER)
            return torch.stack([shuffled, partners(target, rows, self.seed, epoch)[shuffled]], dim=1)

        return order

    def taught_by(self, batch: Batch) -> Outputs:
        """What is said of the partners, which are the second half of the batch."""
        with torch.no_grad():
            return self.observe(batch.part(len(batch) // 2, len(batch)))

    def distill(self, batch: Batch) -> Step:
        """The loss of the first half of the batch; the second half, their partners, teaches."""
        learning = batch.part(0, len(batch) // 2)
        student = self.observe(learning)
        return Step(self.compare(student, self.teach(batch), learning), {"student": student})


def partners(target: Tensor, rows: Tensor, *key: int) -> Tensor:
    """Another sample of the same class for each of the ``rows``, all of them equally likely, under a key of integers;
    itself where it is alone.

    Returns:
        As long as ``target``, and -1 for what is none of the rows.

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
