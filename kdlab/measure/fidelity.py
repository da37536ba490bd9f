r"""Fidelity: how closely a student matches its teacher, whether the teacher is right or not. Stanton et al. (2021),
"Does Knowledge Distillation Really Work?", https://arxiv.org/abs/2106.05945

Every function takes logits ``(N, C)`` of the same samples in the same order, and raises ValueError, with both shapes,
if they differ.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_accuracy

from kdlab.functional import forward_kl, sigmoid_kd
from kdlab.functional.rows import same_shape

_ROWS = 10_000  # rows in float64 at a time, so that a large split with many classes is not copied as a whole
_ADVICE = "both must answer for the same samples and know the same classes"


def agreement(student: Tensor, teacher: Tensor) -> float:
    r"""Share of the samples for which both predict the same class,
    :math:`\frac1N \sum_n [\arg\max_c z^s_{nc} = \arg\max_c z^t_{nc}]`.

    >>> import torch
    >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    >>> agreement(torch.tensor([[1.0, 0.0], [5.0, 2.0], [0.0, 9.0], [1.0, 0.0]]), teacher)
    0.75
    """
    same_shape(student, teacher, "agreement", _ADVICE)
    return multiclass_accuracy(student, teacher.argmax(-1), student.shape[-1], average="micro").item()


def kl_to_teacher(student: Tensor, teacher: Tensor) -> float:
    r"""Mean Kullback-Leibler divergence of the student from the teacher, :math:`\frac1N \sum_n \mathrm{KL}(p^t_n \,\|\,
    p^s_n)` at temperature 1, in nats per sample, computed in float64. It is infinite if the student excludes (-inf) a
    class that the teacher does not.

    >>> import torch
    >>> # the mean of 0.1109 and 0
    >>> round(kl_to_teacher(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])), 4)
    0.0555
    """
    same_shape(student, teacher, "kl_to_teacher", _ADVICE)
    total = sum(
        forward_kl(ours.double(), theirs.double()).sum().item()
        for ours, theirs in zip(student.split(_ROWS), teacher.split(_ROWS))
    )
    return total / len(student)


class _Mean(Metric):
    """Base: the mean of one value a row, summed in float64 on the CPU (some devices have no float64)."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Add rows of logits ``(N, C)`` of the same samples. Raises ValueError if the shapes differ."""
        same_shape(student, teacher, "fidelity", _ADVICE)
        values = self.values(student, teacher).cpu().double()
        self.total += values.sum()
        self.count += values.numel()

    def values(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One value a row, ``(N,)``."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """The mean over all rows; NaN without any."""
        return self.total / self.count


class Agreement(_Mean):
    """:func:`agreement`, batch by batch.

    >>> metric = Agreement()
    >>> metric.update(torch.eye(2), torch.ones(2, 1) * torch.tensor([3.0, 0.0]))
    >>> metric.compute()
    tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def values(self, student: Tensor, teacher: Tensor) -> Tensor:
        """1 where both name the same class first."""
        return student.argmax(-1) == teacher.argmax(-1)


class KLToTeacher(_Mean):
    """:func:`kl_to_teacher`, batch by batch.

    >>> metric = KLToTeacher()
    >>> metric.update(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    >>> metric.compute().round(decimals=4)
    tensor(0.1109, dtype=torch.float64)
    """

    higher_is_better = False

    def values(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The divergence of each row, in nats."""
        return forward_kl(_exact(student), _exact(teacher))


class LabelAgreement(_Mean):
    """The share of labels for which student and teacher predict the same: both logits above 0, or neither.

    >>> metric = LabelAgreement()
    >>> metric.update(torch.tensor([[1.0, 2.0, -1.0, 3.0]]), torch.tensor([[2.0, -1.0, -1.0, 1.0]]))
    >>> metric.compute()
    tensor(0.7500, dtype=torch.float64)
    """

    higher_is_better = True

    def values(self, student: Tensor, teacher: Tensor) -> Tensor:
        """1 where both predict the same, one value a label."""
        return ((student > 0) == (teacher > 0)).flatten()


class LabelKLToTeacher(_Mean):
    """The mean divergence of the student from the teacher over samples and labels, in nats a label, at temperature 1:
    :func:`kdlab.functional.sigmoid_kd`."""

    higher_is_better = False

    def values(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The mean over the labels, one value a row."""
        return sigmoid_kd(_exact(student), _exact(teacher))


class SquaredDifference(_Mean):
    """The mean squared difference of predicted values from the teacher's, over samples and columns.

    >>> metric = SquaredDifference()
    >>> metric.update(torch.tensor([[1.0], [4.0]]), torch.tensor([[1.0], [2.0]]))
    >>> metric.compute()
    tensor(2., dtype=torch.float64)
    """

    higher_is_better = False

    def values(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The squared difference of each value."""
        return (
            (student.double() - teacher).square().flatten()
            if student.device.type != "mps"
            else (student - teacher).square().flatten()
        )


def _exact(logits: Tensor) -> Tensor:
    return (logits.cpu() if logits.device.type == "mps" else logits).double()
