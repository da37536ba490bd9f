"""Losses on relations between the samples of a batch. Each returns one number. The student's features may have another
width than the teacher's.

All take ``student, teacher``: features ``(B, ...)`` of the same samples, flattened and computed in at least float32,
and raise ValueError, with both shapes, if the batches differ.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import flat, gram, unit
from .rows import added, same_shape
from .sources import Paper, method

_ALL = ("classifier", "encoder")
_CC = Paper(
    "Peng et al.", 2019, "Correlation Congruence for Knowledge Distillation", "https://arxiv.org/abs/1904.01802"
)


@method(
    "relations",
    Paper("Tung and Mori", 2019, "Similarity-Preserving Knowledge Distillation", "https://arxiv.org/abs/1907.09682"),
    {"HobbitLong/RepDistiller": "sp", "yoshitomo-matsubara/torchdistill": "sp_torchdistill"},
    _ALL,
)
def sp(student: Tensor, teacher: Tensor, norm: float = 2.0) -> Tensor:
    r"""Similarity preserving: :math:`\frac{1}{B^2} \lVert \tilde G_s - \tilde G_t \rVert_F^2` of the Gram matrices
    :math:`G = X X^\top` (X is B x D), each row divided by its norm.

    Args:
        norm: p of the norm by which rows are divided: 2 in the paper, 1 in torchdistill.

    >>> sp(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]]))
    tensor(0.2929)
    """
    s, t = flat(student, teacher, "sp")
    return (unit(gram(s), norm=norm) - unit(gram(t), norm=norm)).square().mean()


@method("relations", _CC, {"HobbitLong/RepDistiller": "cc"}, _ALL)
def cc(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Correlation congruence as in RepDistiller: products of the feature differences of *neighbouring* samples in the
    batch, :math:`\frac{1}{B-1} \sum_{i=1}^{B-1} \sum_d \delta_{i,d}\,\delta_{i+1,d}` with :math:`\delta = |f_s - f_t|`.

    It depends on the order of the batch. For the kernel matrices of the paper see :func:`kdlab.functional.cc_kernel`. A
    batch of one sample has the value 0.

    Args:
        student, teacher: embeddings of the same shape ``(B, D)``.

    >>> cc(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.0], [0.0], [1.0]]))
    tensor(3.)
    """
    same_shape(student, teacher, "cc", "embed both in the same number of dimensions")
    s, t = flat(student, teacher, "cc")
    difference = (s - t).abs()
    return (difference[:-1] * difference[1:]).sum() / max(len(difference) - 1, 1)


@method("relations", _CC, {"yoshitomo-matsubara/torchdistill": "cc_kernel"}, _ALL)
def cc_kernel(
    student: Tensor,
    teacher: Tensor,
    kernel: str = "gaussian",
    gamma: float = 0.4,
    order: int = 2,
    *,
    normalise: bool = True,
    squared: bool = True,
) -> Tensor:
    r"""Correlation congruence of the paper: :math:`\frac{1}{B^2} \lVert K_s - K_t \rVert_F^2` of kernel matrices over
    the batch.

    Args:
        kernel: ``gaussian``: :math:`e^{-\gamma \lVert x - y \rVert^2}` for unit vectors, as its Taylor polynomial
            :math:`e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} (x \cdot y)^p`; or ``bilinear``,
            :math:`x \cdot y`.
        gamma, order: :math:`\gamma` and P of the Gaussian kernel.
        normalise: normalise the features to unit length first, as the polynomial assumes. torchdistill does not.
        squared: False uses the norm instead of its square (also divided by B^2), as in torchdistill.

    Raises:
        ValueError: the kernel is unknown.

    >>> s, t = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]])
    >>> cc_kernel(s, t), cc_kernel(s, t, "bilinear", normalise=False)
    (tensor(0.1266), tensor(2.7500))
    """
    s, t = flat(student, teacher, "cc_kernel")
    if normalise:
        s, t = unit(s), unit(t)
    difference = _kernel(gram(s), kernel, gamma, order) - _kernel(gram(t), kernel, gamma, order)
    return difference.square().mean() if squared else torch.linalg.vector_norm(difference) / difference.numel()


def _kernel(products: Tensor, kernel: str, gamma: float, order: int) -> Tensor:
    if kernel == "bilinear":
        return products
    if kernel == "gaussian":
        powers = [(2 * gamma) ** p / math.factorial(p) * products**p for p in range(order + 1)]
        return math.exp(-2 * gamma) * added(powers, "cc_kernel")
    raise ValueError(f"kernel must be gaussian or bilinear, got {kernel!r}")


@method(
    "relations",
    Paper("Park et al.", 2019, "Relational Knowledge Distillation", "https://arxiv.org/abs/1904.05068"),
    {"HobbitLong/RepDistiller": "rkd"},
    _ALL,
)
def rkd(student: Tensor, teacher: Tensor, distance_weight: float = 25.0, angle_weight: float = 50.0) -> Tensor:
    r"""Relational distillation: distances of pairs and angles of triples,

    .. math:: w_d\,\frac{1}{B^2} \sum_{ij} h(\psi^s_{ij} - \psi^t_{ij}) + w_a\,\frac{1}{B^3} \sum_{ijk} h(\cos^s_{ijk} -
    \cos^t_{ijk}),

    with the Huber loss h of threshold 1. :math:`\psi_{ij} = \lVert x_i - x_j \rVert / \mu`, where :math:`\mu` is the
    mean distance of two samples (the gradient also flows through the student's :math:`\mu`). The cosine is that of the
    angle at i between j and k. The sums include pairs and triples with a repeated sample, which add 0.

    Two samples at the same point have distance :math:`10^{-6}` and gradient 0. An angle there counts as a right angle
    with gradient 0. The angles need memory for :math:`B^3 + B^2 D` numbers.

    Args:
        distance_weight, angle_weight: :math:`w_d` and :math:`w_a`; a part of weight 0 is not computed.

    >>> s, t = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    >>> rkd(s, t, 1.0, 0.0), rkd(s, t, 0.0, 1.0)
    (tensor(0.0717), tensor(0.1296))
    """
    s, t = (x[None] - x[:, None] for x in flat(student, teacher, "rkd"))
    value = s.new_zeros(())
    if distance_weight:
        value = value + distance_weight * F.smooth_l1_loss(_relative_distances(s), _relative_distances(t))
    if angle_weight:
        value = value + angle_weight * F.smooth_l1_loss(gram(unit(s)), gram(unit(t)))
    return value


def _relative_distances(differences: Tensor) -> Tensor:
    """Lengths of ``differences`` ``(B, B, D)``, divided by their mean over pairs of two samples."""
    size = len(differences)
    itself = torch.eye(size, dtype=torch.bool, device=differences.device)
    distances = differences.square().sum(-1).clamp(min=1e-12).sqrt().masked_fill(itself, 0.0)
    return distances / (distances.sum() / (size * (size - 1))) if size > 1 else distances


@method(
    "relations",
    Paper(
        "Passalis and Tefas",
        2018,
        "Learning Deep Representations with Probabilistic Knowledge Transfer",
        "https://arxiv.org/abs/1803.10837",
    ),
    {"HobbitLong/RepDistiller": "pkt"},
    _ALL,
)
def pkt(student: Tensor, teacher: Tensor, epsilon: float = 1e-7) -> Tensor:
    r"""Probabilistic knowledge transfer: the cosines of a sample with all samples of the batch are converted to
    probabilities,

    .. math:: \frac{1}{B^2} \sum_{ij} p^t_{ij} \log \frac{p^t_{ij} + \epsilon}{p^s_{ij} + \epsilon}, \qquad
              p_{ij} = \frac{1 + \cos(x_i, x_j)}{\sum_k (1 + \cos(x_i, x_k))}.

    The sum includes the cosine of a sample with itself, as in the authors' code.

    Args:
        epsilon: inside the logarithms, and added to the lengths of the features.

    >>> pkt(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0], [1.0]]))
    tensor(0.0294)
    """
    s, t = (_cosine_probabilities(x, epsilon) for x in flat(student, teacher, "pkt"))
    return (t * ((t + epsilon) / (s + epsilon)).log()).mean()


def _cosine_probabilities(x: Tensor, epsilon: float) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    x = torch.where(length > 0, x / (length + epsilon), torch.zeros_like(x))
    similarities = (gram(x) + 1) / 2
    return similarities / similarities.sum(1, keepdim=True)


@method(
    "relations",
    Paper(
        "Koohpayegani et al.",
        2020,
        "CompRess: Self-Supervised Learning by Compressing Representations",
        "https://arxiv.org/abs/2010.14713",
    ),
    serves=_ALL,
)
def similarity_kl(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    r"""KL divergence of the similarities within the batch: the cosines of a sample with all others become probabilities
    at a temperature,

    .. math:: \frac1B \sum_i \sum_{j \ne i} p^t_{ij} \log \frac{p^t_{ij}}{p^s_{ij}}, \qquad
              p_{ij} = \frac{e^{\cos(x_i, x_j) / T}}{\sum_{k \ne i} e^{\cos(x_i, x_k) / T}}.

    The paper compares each sample with a memory bank of anchors; here the other samples of the batch are the anchors.
    In contrast to :func:`pkt`, a low temperature gives the nearest samples most of the weight. A batch of fewer than
    three samples has the value 0.

    Args:
        temperature: T, positive, of both sides.

    >>> s, t = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([[1.0], [1.0], [1.0]])
    >>> similarity_kl(s, t, 1.0)
    tensor(0.0408)
    """
    s, t = (gram(unit(x)) / temperature for x in flat(student, teacher, "similarity_kl"))
    if len(s) < 3:
        return (s * 0).sum()
    others = ~torch.eye(len(s), dtype=torch.bool, device=s.device)
    # a sample has no similarity with itself; zeros in place of -inf keep the product of both sides finite
    ours, theirs = (x.masked_fill(~others, -torch.inf).log_softmax(1).masked_fill(~others, 0.0) for x in (s, t))
    return (theirs.exp() * others * (theirs - ours)).sum() / len(s)


@method(
    "relations",
    Paper(
        "Kornblith et al.",
        2019,
        "Similarity of Neural Network Representations Revisited",
        "https://arxiv.org/abs/1905.00414",
    ),
    serves=_ALL,
)
def cka(student: Tensor, teacher: Tensor) -> Tensor:
    r"""One minus the linear centred kernel alignment of the batch,
    :math:`1 - \dfrac{\lVert Y^\top X \rVert_F^2}{\lVert X^\top X \rVert_F\, \lVert Y^\top Y \rVert_F}`
    of the features X and Y, centred over the batch. It is in [0, 1], and does not change if either side is rotated or
    scaled.

    The estimate is biased: with fewer samples than dimensions, the alignment is high for any features. To *measure*
    similarity, use :class:`kdlab.metrics.CKA`. If all samples of a side are the same point, the value is 1.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> cka(x, 3 * x.flip(1)).abs().round(decimals=4), cka(x, x[:, :1])
    (tensor(0.), tensor(0.2094))
    """
    s, t = (gram(x - x.mean(0)) for x in flat(student, teacher, "cka"))
    sizes = torch.linalg.vector_norm(s) * torch.linalg.vector_norm(t)
    return 1 - (s * t).sum() / torch.where(sizes > 0, sizes, torch.ones_like(sizes))
