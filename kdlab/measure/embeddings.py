r"""How close the vectors of a student are to those of its teacher, as torchmetrics that take a split batch by batch.

All take vectors ``(N, D)`` of the same samples in the same order, the student's first. A vector of length 0 has the
cosine 0 with every vector.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from kdlab.functional.kernels import unit
from kdlab.functional.rows import same_shape
from kdlab.metrics import ExactSums

from .fidelity import _Mean

#: how many samples :class:`RetrievalAgreement` keeps
MOST_SAMPLES = 10_000
_ROWS = 500  # rows of a matrix of similarities at a time
_ADVICE = "both must answer for the same samples with vectors of the same width"


class CosineToTeacher(_Mean):
    r"""The mean cosine of the student's vector with the teacher's, :math:`\frac1N \sum_n \cos(s_n, t_n)`.

    >>> metric = CosineToTeacher()
    >>> metric.update(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, -1.0]]))
    >>> metric.compute()
    tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = True

    def values(self, student: Tensor, teacher: Tensor) -> Tensor:
        """One cosine a row, in float64."""
        return (unit(student.cpu().double()) * unit(teacher.cpu().double())).sum(-1)


class SimilarityCorrelation(ExactSums):
    r"""Pearson's correlation of the student's and the teacher's cosine similarities, over all pairs of two different
    samples of the split. It is 1 if both agree on which samples are more similar than others, also where the student's
    vectors are rotated or scaled. Comparing networks by the similarities of their answers is representational
    similarity analysis: Kriegeskorte et al. (2008), https://doi.org/10.3389/neuro.06.004.2008

    No vector is kept. With unit vectors :math:`u_n` (student) and :math:`v_n` (teacher), all sums over pairs follow
    from :math:`\sum_n u_n` and :math:`\sum_n u_n v_n^\top`, for example :math:`\sum_{nm} (u_n \cdot u_m)(v_n \cdot v_m)
    = \lVert \sum_n u_n v_n^\top \rVert_F^2`. The memory is that of three matrices D x D in float64.

    Args:
        width: D.

    >>> student = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> metric = SimilarityCorrelation(2)
    >>> metric.update(student[:3], 3 * student[:3].flip(1))       # mirrored and scaled
    >>> metric.update(student[3:], 3 * student[3:].flip(1))
    >>> metric.compute().round(decimals=6)
    tensor(1., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    count: Tensor
    student_sum: Tensor
    teacher_sum: Tensor
    student_products: Tensor
    teacher_products: Tensor
    cross_products: Tensor
    own: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("student_sum", "teacher_sum"):
            self.add_state(name, torch.zeros(width, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("student_products", "teacher_products", "cross_products"):
            self.add_state(name, torch.zeros(width, width, dtype=torch.float64), dist_reduce_fx="sum")
        # sums over n of u_n·u_n, v_n·v_n, their squares and their product: pairs of a sample with itself
        self.add_state("own", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Add rows of vectors ``(N, D)`` of the same samples. Raises ValueError if the shapes differ."""
        same_shape(student, teacher, "similarity_correlation", _ADVICE)
        u, v = unit(student.to(self.count)), unit(teacher.to(self.count))
        self.count += len(u)
        self.student_sum += u.sum(0)
        self.teacher_sum += v.sum(0)
        self.student_products += u.T @ u
        self.teacher_products += v.T @ v
        self.cross_products += u.T @ v
        mine, theirs = u.square().sum(1), v.square().sum(1)
        self.own += torch.stack(
            [mine.sum(), theirs.sum(), mine.square().sum(), theirs.square().sum(), (mine * theirs).sum()]
        )

    def compute(self) -> Tensor:
        """The correlation; NaN with fewer than three samples, or if all pairs of one side are equally similar."""
        pairs = self.count * (self.count - 1)
        x, y, xx, yy, xy = (
            torch.stack(
                [
                    self.student_sum.square().sum(),
                    self.teacher_sum.square().sum(),
                    self.student_products.square().sum(),
                    self.teacher_products.square().sum(),
                    self.cross_products.square().sum(),
                ]
            )
            - self.own
        ) / pairs
        spreads = torch.stack([xx - x.square(), yy - y.square()])
        # all pairs equally similar: what is left is rounding
        spreads = spreads.where((spreads > 1e-12) & (self.count > 2), torch.nan)
        return ((xy - x * y) / spreads.prod().sqrt()).clamp(-1, 1)


class RetrievalAgreement(Metric):
    r"""The share of the teacher's k nearest neighbours that are also among the student's k nearest, by cosine, the mean
    over the samples. The neighbours of a sample are the other samples of the split. By chance it is about
    :math:`k / (N - 1)`.

    Args:
        neighbours: k.
        most: only so many samples of the split, the first ones, are kept and compared.

    >>> teacher = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> metric = RetrievalAgreement(neighbours=1)
    >>> metric.update(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [0.1, 0.9]]), teacher)
    >>> metric.compute(), RetrievalAgreement(1).update(teacher, teacher)
    (tensor(0.), None)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    student: list[Tensor]
    teacher: list[Tensor]

    def __init__(self, neighbours: int = 10, most: int = MOST_SAMPLES):
        super().__init__()
        self.neighbours, self.most = neighbours, most
        self.add_state("student", [], dist_reduce_fx="cat")
        self.add_state("teacher", [], dist_reduce_fx="cat")

    def update(self, student: Tensor, teacher: Tensor) -> None:
        """Add rows of vectors ``(N, D)``; the widths may differ."""
        room = self.most - sum(map(len, self.student))
        if room > 0:
            self.student.append(unit(student[:room].float()))
            self.teacher.append(unit(teacher[:room].float()))

    def compute(self) -> Tensor:
        """The mean share; NaN if there are not more than k other samples, which are then the neighbours of both."""
        # after a synchronisation of several processes a state is one tensor
        student, teacher = (
            one if isinstance(one, Tensor) else torch.cat([*one]) if one else torch.zeros(0, 1)
            for one in (self.student, self.teacher)
        )
        if len(student) - 1 <= self.neighbours:
            return torch.tensor(torch.nan)
        if not bool(student.isfinite().all() and teacher.isfinite().all()):
            return torch.tensor(torch.nan)
        shared = 0
        for rows in torch.arange(len(student), device=student.device).split(_ROWS):
            mine, theirs = (nearest(vectors, vectors, self.neighbours, rows) for vectors in (student, teacher))
            shared += int((mine[:, :, None] == theirs[:, None, :]).sum())
        return torch.tensor(shared / (self.neighbours * len(student)))


def nearest(queries: Tensor, vectors: Tensor, neighbours: int, rows: Tensor | None = None) -> Tensor:
    """The numbers of the nearest vectors by cosine, ``(rows, neighbours)``, the nearest first.

    Args:
        queries, vectors: of length 1, ``(M, D)`` and ``(N, D)``.
        rows: the numbers of the queries; the queries are then the vectors, and none is its own neighbour. None: all
            queries, which are no vectors of the other set.

    >>> points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> nearest(points, points, 1, torch.arange(3)).flatten().tolist()
    [2, 2, 1]
    """
    similar = (queries if rows is None else queries[rows]) @ vectors.T
    if rows is not None:
        similar[torch.arange(len(rows), device=similar.device), rows] = -torch.inf
    return similar.topk(min(neighbours, similar.shape[1]), dim=1).indices
