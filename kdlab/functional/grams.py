"""Losses on relations between the channels of feature maps, one value per sample.

All take maps ``(B, C, H, W)``, computed in at least float32, a ``mask`` ``(B,)`` (0 for samples that do not count) and
a ``reduction`` (:func:`kdlab.functional.reduced`), and raise ValueError, with the shapes, if maps do not fit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .kernels import maps, pooled, product, unit
from .rows import reduced
from .sources import Paper, method


@method(
    "relations",
    Paper(
        "Huang and Wang",
        2017,
        "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
        "https://arxiv.org/abs/1707.01219",
    ),
    {"HobbitLong/RepDistiller": "nst"},
)
def nst(
    student: Tensor, teacher: Tensor, degree: int = 2, *, mask: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    r"""Neuron selectivity transfer: the squared maximum mean discrepancy between the channels of both sides, with each
    channel a unit vector over the positions,

    .. math:: \overline{k(t_c, t_{c'})} + \overline{k(s_c, s_{c'})} - 2\,\overline{k(s_c, t_{c'})}, \qquad k(a, b) = (a
    \cdot b)^d,

    with the bars for means over all pairs of channels. The numbers of channels may differ. If the maps differ in size,
    the larger one is pooled.

    Args:
        degree: d; 2 is the polynomial kernel of the paper, 1 the linear one.

    >>> nst(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0]], [[0.0, 2.0]]]]))
    tensor([1.2500])
    """
    _same_batch("nst", student, teacher)
    s, t = (unit(x.flatten(2)) for x in pooled(maps(student, mask, "nst"), maps(teacher, mask, "nst")))

    def mean_kernel(a: Tensor, b: Tensor) -> Tensor:
        return product(a, b.transpose(1, 2)).pow(degree).mean((1, 2))

    return reduced(mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t), mask, reduction)


@method(
    "relations",
    Paper(
        "Yim et al.",
        2017,
        "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning",
        "https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html",
    ),
    {"HobbitLong/RepDistiller": "fsp"},
)
def fsp(
    student_first: Tensor,
    student_second: Tensor,
    teacher_first: Tensor,
    teacher_second: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Flow of the solution procedure: the relation of two stages of a network, channel by channel,
    :math:`G_{ij} = \frac{1}{HW} \sum_{hw} F^1_{i,hw} F^2_{j,hw}`. The larger map is pooled to the size of the smaller
    one. The value is the mean of :math:`(G^s - G^t)^2` over the entries.

    Student and teacher must have the same number of channels in each stage. Their maps may differ in size.

    >>> ones = torch.ones(1, 1, 2, 2)
    >>> fsp(ones, 2 * ones, ones, torch.ones(1, 1, 1, 1))
    tensor([1.])
    """
    _same_batch("fsp", student_first, student_second, teacher_first, teacher_second)
    _same_channels("fsp", student_first, teacher_first)
    _same_channels("fsp", student_second, teacher_second)
    s, t = (
        _flow(maps(first, mask, "fsp"), maps(second, mask, "fsp"))
        for first, second in ((student_first, student_second), (teacher_first, teacher_second))
    )
    return reduced((s - t).square().mean((1, 2)), mask, reduction)


def _flow(first: Tensor, second: Tensor) -> Tensor:
    first, second = (x.flatten(2) for x in pooled(first, second))
    return product(first, second.transpose(1, 2)) / first.shape[2]


@method(
    "relations",
    Paper(
        "Lee et al.",
        2018,
        "Self-supervised Knowledge Distillation Using Singular Value Decomposition",
        "https://arxiv.org/abs/1807.06819",
    ),
    {"HobbitLong/RepDistiller": "kdsvd"},
)
def kdsvd(
    student_first: Tensor,
    student_second: Tensor,
    teacher_first: Tensor,
    teacher_second: Tensor,
    vectors: int = 1,
    *,
    teacher_vectors: tuple[Tensor, Tensor] | None = None,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""The relation of the singular vectors of two consecutive maps.

    Each map is a matrix HW x C with right singular vectors: the teacher's first k and the student's first k + 3 are
    used. For each of the teacher's vectors, the student's closest one is taken, with the sign that makes their cosine
    positive. Both are scaled by the teacher's singular values, which are normalised to length 1 over the k. With
    :math:`r_{cc'j} = \exp(-(v^1_{cj} - v^2_{c'j})^2 / 8)` between the two maps, the value is
    :math:`\sum_{cc'j} (r^s_{cc'j} - r^t_{cc'j})^2`.

    The signs of the teacher's vectors are arbitrary, but the value depends on whether the vectors of the two maps have
    the same sign. Here the entry of largest magnitude in each vector is positive, so that the value does not change
    between machines. The gradient of the student's vectors is that of first-order perturbation. Between equal singular
    values it has no limit and is set to 0.

    Args:
        student_first, student_second, teacher_first, teacher_second: maps of two stages, with the same number of
            channels in student and teacher.
        vectors: k.
        teacher_vectors: for each of the two maps, vectors ``(B, C, k)`` of another decomposition. The teacher's vectors
            get their signs, instead of those of the rule above.

    >>> import torch
    >>> s = torch.tensor([1.0, 2.0, 0.5, -1.0]).reshape(1, 2, 1, 2)
    >>> kdsvd(s, s, s.flip(1), s, vectors=1).item() > kdsvd(s, s, s, s, vectors=1).item() == 0.0
    True
    """
    _same_batch("kdsvd", student_first, student_second, teacher_first, teacher_second)
    _same_channels("kdsvd", student_first, teacher_first)
    _same_channels("kdsvd", student_second, teacher_second)
    for x in (student_first, student_second):
        if x.dim() == 4 and vectors > min(x.shape[1], x.shape[2] * x.shape[3]):
            raise ValueError(
                f"kdsvd: {vectors} vectors of a map {tuple(x.shape)}, which has no more than its channels and its "
                "positions"
            )
    sides = []
    for number, (student, teacher) in enumerate(((student_first, teacher_first), (student_second, teacher_second))):
        t, sizes = _singular_vectors(maps(teacher, mask, "kdsvd"), vectors)
        t = t * _sign(t, None if teacher_vectors is None else teacher_vectors[number])
        s, _ = _singular_vectors(maps(student, mask, "kdsvd"), vectors + 3)
        sizes = unit(sizes)[:, None, :]
        sides.append((_closest(s, t) * sizes, t * sizes))
    (s_first, t_first), (s_second, t_second) = sides
    difference = _radial(s_first, s_second) - _radial(t_first, t_second)
    return reduced(difference.square().sum((1, 2, 3)), mask, reduction)


def _radial(first: Tensor, second: Tensor) -> Tensor:
    return (-(first[:, :, None] - second[:, None]).square() / 8).exp()


def _sign(vectors: Tensor, like: Tensor | None) -> Tensor:
    """One factor 1 or -1 per vector, ``(B, 1, k)``. It gives the vector the direction of ``like``, or makes its largest
    entry positive."""
    if like is not None:
        along = (vectors * like).sum(1, keepdim=True)
    else:
        along = vectors.take_along_dim(vectors.abs().argmax(1, keepdim=True), 1)
    return torch.where(along < 0, -1.0, 1.0).to(vectors)


def _closest(student: Tensor, teacher: Tensor) -> Tensor:
    """For each of the teacher's vectors the student's vector of largest absolute cosine, with the sign that makes the
    cosine positive: ``(B, C, k)``."""
    cosines = product(student.detach().transpose(1, 2), teacher.detach())
    chosen = cosines.abs().argmax(1, keepdim=True)
    return student.take_along_dim(chosen, 2) * cosines.take_along_dim(chosen, 1).sign()


def _singular_vectors(x: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The first right singular vectors ``(B, C, n)`` of maps as matrices HW x C, and their singular values ``(B, n)``.

    The decomposition itself is a constant. A first-order term is added to it, whose value is 0 and whose derivative is
    that of the vectors (the derivative of the singular values is never used). So equal singular values, such as the
    zeros of dead channels, do not make the gradient infinite.
    """
    matrix = x.flatten(2).transpose(1, 2)
    _, values, rows = torch.linalg.svd(matrix.detach(), full_matrices=False)
    basis, squares = rows.transpose(1, 2), values.square()
    first, own = basis[..., :number], squares[:, None, :number]
    change = product(matrix.transpose(1, 2), product(matrix, first))
    change = change - change.detach()
    smallest = torch.finfo(values.dtype).eps * matrix.shape[2] * squares[:, :1, None]
    inside = product(rows, change)
    turned = product(basis, inside * _reciprocal(own - squares[..., None], smallest))
    if basis.shape[1] > basis.shape[2]:  # the decomposition leaves out the directions of singular value 0
        turned = turned + (change - product(basis, inside)) * _reciprocal(own, smallest)
    return first + turned, values[:, :number]


def _reciprocal(x: Tensor, smallest: Tensor) -> Tensor:
    large = x.abs() > smallest
    return torch.where(large, 1 / torch.where(large, x, torch.ones_like(x)), torch.zeros_like(x))


def _same_batch(what: str, *features: Tensor) -> None:
    if len({x.shape[0] for x in features}) > 1:
        raise ValueError(
            f"{what}: {', '.join(str(tuple(x.shape)) for x in features)} must hold maps of the same samples"
        )


def _same_channels(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the same channels; "
            "choose stages of equal width, or a student as wide as its teacher"
        )
