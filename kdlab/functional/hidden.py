"""Losses on hidden states of transformers. The first two work with any feature vector.

``mask`` ``(B, T)`` is 0 at positions that do not count (padding): their gradient is exactly 0, whatever values they
hold. For ``reduction`` see :func:`kdlab.functional.reduced`. All raise ValueError, with both shapes, if tensors do not
fit.
"""

from __future__ import annotations

from typing import overload

from torch import Tensor

from .kernels import product, unit
from .rows import reduced, same_shape, without_masked
from .sources import TASKS, Paper, method

_TEXT = ("encoder", "language model")
TEXTBREWER = Paper(
    "Yang et al.",
    2020,
    "TextBrewer: An Open-Source Knowledge Distillation Toolkit for Natural Language Processing",
    "https://arxiv.org/abs/2002.12620",
)


@method(
    "transformer",
    Paper(
        "Jiao et al.",
        2020,
        "TinyBERT: Distilling BERT for Natural Language Understanding",
        "https://arxiv.org/abs/1909.10351",
    ),
    {"airaria/TextBrewer": "textbrewer_hid_mse_loss", "huawei-noah/Pretrained-Language-Model": "tinybert_intermediate"},
    TASKS,
)
def hidden_mse(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""Mean squared difference of hidden states, :math:`\frac{1}{D} \sum_d (h_{s,d} - h_{t,d})^2`.

    Args:
        student, teacher: ``(..., D)``: one vector per position ``(B, T, D)`` or per sample ``(B, D)``, the student's
            after its connector.
        mask: ``(...)``.

    Returns:
        ``(...)``

    >>> import torch
    >>> hidden_mse(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 3.0], [2.0, 0.0]]]))
    tensor([[5., 2.]])
    """
    same_shape(student, teacher, "hidden_mse", "put a connector between them")
    difference = without_masked(student, mask) - without_masked(teacher, mask)
    return reduced(difference.square().mean(-1), mask, reduction)


@method(
    "transformer",
    Paper(
        "Sanh et al.",
        2019,
        "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
        "https://arxiv.org/abs/1910.01108",
    ),
    {"huggingface/transformers-research-projects": "distilbert", "airaria/TextBrewer": "textbrewer_cos_loss"},
    TASKS,
)
def hidden_cosine(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""One minus the cosine of hidden states, :math:`1 - \dfrac{h_s \cdot h_t}{\sqrt{(|h_s|^2 + \epsilon)(|h_t|^2 +
    \epsilon)}}`, with :math:`\epsilon = 10^{-12}` as in torch's CosineEmbeddingLoss, so a vector of length 0 has the
    value 1.

    Args:
        student, teacher: ``(..., D)``, the student's after its connector.
        mask: ``(...)``.

    Returns:
        ``(...)``

    >>> import torch
    >>> hidden_cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
    tensor([1.0000, 0.2929])
    """
    same_shape(student, teacher, "hidden_cosine", "put a connector between them")
    s, t = without_masked(student, mask), without_masked(teacher, mask)
    sizes = ((s.square().sum(-1) + 1e-12) * (t.square().sum(-1) + 1e-12)).sqrt()
    return reduced(1 - (s * t).sum(-1) / sizes, mask, reduction)


@method(
    "transformer",
    Paper(
        "Sun et al.",
        2019,
        "Patient Knowledge Distillation for BERT Model Compression",
        "https://arxiv.org/abs/1908.09355",
    ),
    {"intersun/PKD-for-BERT-Model-Compression": "pkd_patience", "airaria/TextBrewer": "textbrewer_pkd_loss"},
    ("encoder",),
)
def pkd(
    student: Tensor,
    teacher: Tensor,
    *,
    normalise: bool = True,
    mean_over_width: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Patient distillation of the first token's hidden states in several layers,
    :math:`\frac{1}{L} \sum_l \left\lVert \frac{h^s_l}{|h^s_l|} - \frac{h^t_l}{|h^t_l|} \right\rVert^2`, also divided by
    the width D.

    Args:
        student, teacher: ``(B, L, D)``: for each sample the state of [CLS] in each of L layers.
        normalise: whether the states are normalised to unit length, as in the paper.
        mean_over_width: False leaves out the division by D, as TextBrewer does; the authors' code divides.
        mask: ``(B,)``.

    Returns:
        ``(B,)``

    >>> import torch
    >>> s, t = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    >>> pkd(s, t), pkd(s, t, mean_over_width=False)
    (tensor([1.]), tensor([2.]))
    """
    same_shape(
        student, teacher, "pkd", "choose equally many layers on both sides, and use a connector for different widths"
    )
    layers = None if mask is None else mask[:, None].expand(student.shape[:-1])
    s, t = without_masked(student, layers), without_masked(teacher, layers)
    if normalise:
        s, t = unit(s), unit(t)
    squares = (s - t).square()
    return reduced((squares.mean(-1) if mean_over_width else squares.sum(-1)).mean(1), mask, reduction)


@method("transformer", TEXTBREWER, {"airaria/TextBrewer": "textbrewer_fsp_loss"}, _TEXT)
def sequence_fsp(
    student_first: Tensor,
    student_second: Tensor,
    teacher_first: Tensor,
    teacher_second: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""The relation of the hidden dimensions of two layers along a sequence: :math:`G = \frac{1}{n} H_1^\top H_2` over
    the n positions that count. The value is the mean of :math:`(G^s - G^t)^2` over the D x D entries. It is
    :func:`kdlab.functional.fsp` for sequences, as in TextBrewer.

    Args:
        student_first, student_second, teacher_first, teacher_second: hidden states of two layers, ``(B, T, D)``, with
            the same D on both sides.

    Returns:
        ``(B,)``; with a reduction, samples without any position that counts do not count.

    >>> import torch
    >>> ones = torch.ones(1, 2, 1)
    >>> sequence_fsp(ones, 3 * ones, ones, ones)
    tensor([4.])
    """
    same_shape(student_first, teacher_first, "sequence_fsp", "student and teacher must be equally wide")
    same_shape(student_second, teacher_second, "sequence_fsp", "student and teacher must be equally wide")
    positions = student_first.shape[1] if mask is None else (mask != 0).sum(1).clamp(min=1)[:, None, None]
    s, t = (
        product(without_masked(first, mask).transpose(1, 2), without_masked(second, mask)) / positions
        for first, second in ((student_first, student_second), (teacher_first, teacher_second))
    )
    return reduced((s - t).square().mean((1, 2)), None if mask is None else (mask != 0).any(1), reduction)


@method("transformer", TEXTBREWER, {"airaria/TextBrewer": "textbrewer_mmd_loss"}, _TEXT)
def sequence_mmd(
    student_first: Tensor,
    student_second: Tensor,
    teacher_first: Tensor,
    teacher_second: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""The relation of the positions of a sequence between two layers: :math:`G = \frac{1}{D} H_1 H_2^\top`. The value
    is :math:`(G^s_{ij} - G^t_{ij})^2` for each pair of positions. With the same layer twice, G is the similarity of its
    positions. It is neuron selectivity transfer for sequences, as in TextBrewer.

    Args:
        student_first, student_second, teacher_first, teacher_second: hidden states of two layers, ``(B, T, D)``; the
            teacher's D may differ.

    Returns:
        ``(B, T, T)``; ``mean`` is over the pairs of positions that both count.

    >>> import torch
    >>> ones = torch.ones(1, 1, 3)
    >>> sequence_mmd(ones, 3 * ones, ones, ones)
    tensor([[[4.]]])
    """
    sides = ((student_first, student_second), (teacher_first, teacher_second))
    if len({x.shape[:2] for x in sides[0] + sides[1]}) > 1 or any(
        first.shape != second.shape for first, second in sides
    ):
        raise ValueError(
            f"sequence_mmd: {', '.join(str(tuple(x.shape)) for x in sides[0] + sides[1])} must be states of the same "
            "positions, equally wide within student and within teacher"
        )
    s, t = (
        product(without_masked(first, mask), without_masked(second, mask).transpose(1, 2)) / first.shape[2]
        for first, second in sides
    )
    return reduced((s - t).square(), pairs(mask), reduction)


@overload
def pairs(mask: Tensor) -> Tensor: ...


@overload
def pairs(mask: None) -> None: ...


def pairs(mask: Tensor | None) -> Tensor | None:
    """``(B, T)`` -> ``(B, T, T)``: the pairs of positions that both count."""
    return None if mask is None else (mask != 0)[:, :, None] & (mask != 0)[:, None, :]


def sample_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """``(B, ...)`` -> ``(B,)``: the mean of each sample's values that count; 0 if none counts.

    >>> import torch
    >>> sample_mean(torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.tensor([[1, 1], [1, 0]]))
    tensor([2., 5.])
    """
    if mask is None:
        return values.flatten(1).mean(1)
    return reduced(values, mask).flatten(1).sum(1) / (mask != 0).flatten(1).sum(1).clamp(min=1)
