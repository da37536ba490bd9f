r"""Fidelity: how far a student says what its teacher says, whether that is right or not. Stanton et al. (2021), "Does
Knowledge Distillation Really Work?", https://arxiv.org/abs/2106.05945

Every function takes logits ``(N, C)`` of the same samples in the same order, and raises ValueError, with both shapes,
where they differ.
"""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from kdlab.functional import forward_kl
from kdlab.functional.rows import same_shape

_ROWS = 10_000  # in float64 at a time, so that a large split with many classes is not there twice
_ADVICE = "both must answer for the same samples and know the same classes"


def agreement(student: Tensor, teacher: Tensor) -> float:
    r"""Share of the samples of which both name the same class first, :math:`\frac1N \sum_n [\arg\max_c z^s_{nc} =
    \arg\max_c z^t_{nc}]`.

    >>> import torch
    >>> teacher = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    >>> agreement(torch.tensor([[1.0, 0.0], [5.0, 2.0], [0.0, 9.0], [1.0, 0.0]]), teacher)
    0.75
    """
    same_shape(student, teacher, "agreement", _ADVICE)
    return multiclass_accuracy(student, teacher.argmax(-1), student.shape[-1], average="micro").item()


def kl_to_teacher(student: Tensor, teacher: Tensor) -> float:
    r"""Mean Kullback-Leibler divergence of the student from the teacher, :math:`\frac1N \sum_n \mathrm{KL}(p^t_n \,\|\,
    p^s_n)` at temperature 1, in nats a sample; computed in float64. Infinite where the student excludes (-inf) what the
    teacher does not.

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


def fidelity(student: Tensor, teacher: Tensor | None) -> dict[str, float]:
    """``agreement`` and ``kl_to_teacher``; nothing where there is no teacher, or one that knows other classes.

    >>> logits = Tensor([[1.0, 0.0]])
    >>> fidelity(logits, logits), fidelity(logits, None), fidelity(logits, Tensor([[1.0]]))
    ({'agreement': 1.0, 'kl_to_teacher': 0.0}, {}, {})
    """
    if teacher is None or teacher.shape != student.shape:
        return {}
    return {"agreement": agreement(student, teacher), "kl_to_teacher": kl_to_teacher(student, teacher)}
