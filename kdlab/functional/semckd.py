"""Cross-layer distillation with semantic calibration, one value per sample."""

from torch import Tensor

from .kernels import product, unit
from .maps import counted
from .rows import reduced
from .sources import Paper, method


@method(
    "features",
    Paper(
        "Chen et al.", 2021, "Cross-Layer Distillation with Semantic Calibration", "https://arxiv.org/abs/2012.03236"
    ),
    {"DefangChen/SimKD": "semckd"},
)
def semantic_calibration(
    query: Tensor,
    key: Tensor,
    errors: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""SemCKD: every student layer learns from every teacher layer, weighted by a learned attention,
    :math:`\frac1S \sum_{i,j} w_{ij} e_{ij}`. :math:`e_{ij}` is the mean squared difference between student layer i,
    mapped to the shape of teacher layer j, and that teacher layer. :math:`w` is :func:`semantic_attention`, which has a
    gradient.

    Args:
        query: queries of the S student layers, ``(B, S, D)``.
        key: keys of the T teacher layers, ``(B, T, D)``.
        errors: e, ``(B, S, T)``.
        temperature: temperature of the attention.

    Returns:
        ``(B,)``; 0 if all errors are 0.

    Raises:
        ValueError: the shapes do not fit.

    >>> import torch
    >>> semantic_calibration(torch.ones(1, 1, 2), torch.ones(1, 2, 2), torch.tensor([[[1.0, 3.0]]]))
    tensor([2.])
    """
    if (
        query.shape[2:] != key.shape[2:]
        or errors.shape != (*query.shape[:2], *key.shape[1:2])
        or len(key) != len(query)
    ):
        raise ValueError(
            "semantic_calibration: query (B, S, D), key (B, T, D) and errors (B, S, T) do not fit: "
            f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(errors.shape)}"
        )
    attention = semantic_attention(counted(query, mask), counted(key, mask), temperature)
    return reduced((attention * counted(errors, mask)).sum(-1).mean(-1), mask, reduction)


def semantic_attention(query: Tensor, key: Tensor, temperature: float = 1.0) -> Tensor:
    r""":math:`w_{ij} = \mathrm{softmax}_j\big(\cos(q_i, k_j) / T\big)`, ``(B, S, T)``.

    >>> import torch
    >>> semantic_attention(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]))
    tensor([[[0.7311, 0.2689]]])
    """
    return (product(unit(query), unit(key).transpose(-1, -2)) / temperature).softmax(-1)
