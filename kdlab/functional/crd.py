"""Contrastive representation distillation, one value per sample."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import contraction, product
from .maps import counted
from .rows import reduced, same_shape
from .sources import Paper, method

#: the authors' code adds it to the probability of the noise
EPSILON = 1e-7


@method(
    "features",
    Paper("Tian et al.", 2020, "Contrastive Representation Distillation", "https://arxiv.org/abs/1910.10699"),
    {"HobbitLong/RepDistiller": "crd"},
)
def contrastive_representation(
    student: Tensor,
    teacher: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    contrast: Tensor,
    student_normaliser: Tensor | float,
    teacher_normaliser: Tensor | float,
    temperature: float = 0.07,
    samples: int | None = None,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Noise-contrastive estimation of the sample to which an embedding belongs, from both sides. With the student's
    embedding v, and from the *teacher's* memory the sample's own row m_0 and the rows m_1, …, m_K of other samples,
    :math:`P_k = \exp(v \cdot m_k / \tau) / Z` and :math:`c = K / n`,

    .. math:: -\log \frac{P_0}{P_0 + c + \epsilon} - \sum_{k=1}^{K} \log \frac{c}{P_k + c + \epsilon} ,

    plus the same with the teacher's embedding and the student's memory. The second part trains only the embedding of
    the teacher's feature.

    Args:
        student, teacher: embeddings ``(B, D)`` of length 1.
        student_memory, teacher_memory: an embedding of every training sample, ``(n, D)``, constants.
        contrast: rows of the memories, ``(B, K + 1)``; the first column is the sample's own.
        student_normaliser, teacher_normaliser: Z of the student's and the teacher's side, see
            :func:`contrastive_normaliser`; constants.
        temperature: tau.
        samples: n; None is the number of rows in the memories.

    Returns:
        ``(B,)``; it has no fixed value for equal embeddings.

    Raises:
        ValueError: the shapes do not fit.

    >>> import torch
    >>> v, memory = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> contrastive_representation(v, v, memory, memory, torch.tensor([[0, 1]]), 4.0, 4.0, temperature=1.0)
    tensor([1.9138])
    """
    same_shape(student, teacher, "contrastive_representation", "both embeddings must have the same dimensions")
    if (
        student_memory.shape != teacher_memory.shape
        or student_memory.shape[1:] != student.shape[1:]
        or len(contrast) != len(student)
    ):
        raise ValueError(
            f"contrastive_representation: embeddings {tuple(student.shape)} need two memories (n, {student.shape[-1]}) "
            f"and {len(student)} rows of contrast, got {tuple(student_memory.shape)}, {tuple(teacher_memory.shape)} "
            f"and {tuple(contrast.shape)}"
        )
    samples = len(student_memory) if samples is None else samples
    mine, theirs = (
        _estimation(_scores(counted(embedding, mask), memory, contrast, temperature), normaliser, samples)
        for embedding, memory, normaliser in (
            (student, teacher_memory, student_normaliser),
            (teacher, student_memory, teacher_normaliser),
        )
    )
    return reduced(mine + theirs, mask, reduction)


def contrastive_normaliser(
    embedding: Tensor, memory: Tensor, contrast: Tensor, temperature: float = 0.07, samples: int | None = None
) -> Tensor:
    r"""Z of one side: :math:`n` times the mean of :math:`\exp(v \cdot m_k / \tau)` over a batch and its contrast. The
    authors compute it from the first batch and keep it.

    Args:
        embedding: embeddings of one side, ``(B, D)``.
        memory: memory of the other side, ``(n, D)``.
        contrast: ``(B, K + 1)``.

    Returns:
        a constant, without gradient.

    >>> import torch
    >>> contrastive_normaliser(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ...     torch.tensor([[0, 1]]), temperature=1.0)
    tensor(3.7183)
    """
    scores = _scores(counted(embedding.detach(), None), memory, contrast, temperature)
    return (
        scores.flatten().logsumexp(0) + math.log((len(memory) if samples is None else samples) / scores.numel())
    ).exp()


def moved(memory: Tensor, index: Tensor, embedding: Tensor, momentum: float) -> Tensor:
    r"""The rows ``index`` of a memory after the batch: :math:`\alpha\,m + (1 - \alpha)\,v`, at length 1. ``(B, D)``,
    without gradient.

    >>> import torch
    >>> moved(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0]), torch.tensor([[0.0, 1.0]]), momentum=0.5)
    tensor([[0.7071, 0.7071]])
    """
    rows = memory[index]
    return F.normalize(momentum * rows + (1 - momentum) * embedding.detach().to(rows.dtype), dim=1)


def negatives(index: Tensor, label: Tensor, order: Tensor, first: Tensor, count: Tensor, number: int) -> Tensor:
    """Draws ``number`` rows of other labels for each sample, uniformly and with replacement, on the device and without
    a loop.

    Args:
        index: the samples, ``(B,)``.
        label: labels of all rows, ``(n,)``.
        order: the rows that may be drawn, sorted by their labels.
        first, count: for each label, the position of its first row in ``order`` and its number of rows.

    Returns:
        ``(B, number)``

    >>> import torch
    >>> label = torch.tensor([0, 1, 0])
    >>> negatives(torch.tensor([0, 1]), label, torch.tensor([0, 2, 1]), torch.tensor([0, 2]), torch.tensor([2, 1]),
    ...     3)[0]
    tensor([1, 1, 1])
    """
    own = label[index]
    others = (len(order) - count[own])[:, None]
    # the random integers have 62 bits, far more than n, so the remainder is practically uniform
    place = torch.randint(2**62, (len(index), number), device=index.device) % others
    return order[torch.where(place < first[own][:, None], place, place + count[own][:, None])]


def rows_are_gathered(memory: Tensor, contrast: Tensor) -> bool:
    """Whether the loss gathers copies of the contrast's rows instead of using the entire memory. True if they are fewer
    rows than the memory has."""
    return contrast.numel() < len(memory)


def _scores(embedding: Tensor, memory: Tensor, contrast: Tensor, temperature: float) -> Tensor:
    """``v . m_k / tau``, ``(B, K + 1)``: computed against the entire memory, because gathering K rows of width D for
    every sample takes more space, or against the gathered rows if they are fewer than the memory has."""
    if rows_are_gathered(memory, contrast):
        return contraction("bd,bkd->bk", embedding, memory[contrast].to(embedding.dtype)) / temperature
    return product(embedding, memory.to(embedding.dtype).T).gather(1, contrast) / temperature


def _estimation(scores: Tensor, normaliser: Tensor | float, samples: int) -> Tensor:
    number = scores.shape[1] - 1
    noise = number / samples
    log_z = torch.as_tensor(normaliser, dtype=scores.dtype, device=scores.device).log()
    odds = scores - log_z - math.log(noise + EPSILON)  # log of P / (c + epsilon)
    # each term is small by itself: the difference of two sums over thousands of samples would lose its digits to
    # rounding
    return number * math.log1p(EPSILON / noise) - F.logsigmoid(odds[:, 0]) - F.logsigmoid(-odds[:, 1:]).sum(1)
