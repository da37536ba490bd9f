"""Losses on attention: scores ``(B, H, T, T)`` before the softmax (queries, then keys), and relations of queries, keys
and values.

``mask`` ``(B, T)`` is 0 at positions that do not count, neither as queries nor as keys. Values there have a gradient of
exactly 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .hidden import TEXTBREWER, hidden_mse, pairs, sample_mean
from .kernels import product
from .rows import added, reduced, same_shape, wide, without_masked
from .sources import Paper, method

_TEXT = ("encoder", "language model")
_TINYBERT = Paper(
    "Jiao et al.",
    2020,
    "TinyBERT: Distilling BERT for Natural Language Understanding",
    "https://arxiv.org/abs/1909.10351",
)
_MINILM = Paper(
    "Wang et al.",
    2020,
    "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
    "https://arxiv.org/abs/2002.10957",
)
_MINILM_V2 = Paper(
    "Wang et al.",
    2021,
    "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained Transformers",
    "https://arxiv.org/abs/2012.15828",
)

#: how the heads are combined before scores are compared
HEADS = ("each", "sum", "mean")


def attention_scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    r"""Scaled products :math:`Q_h K_h^\top / \sqrt{d}` of every head, before mask and softmax.

    Args:
        query, key: ``(B, T, D)``, in at least float32: the outputs of the linear layers of a self-attention (or values,
            for relations).
        heads: H; D is split into H parts of width d.

    Returns:
        ``(B, H, T, T)``

    >>> ones = torch.ones(1, 1, 4)
    >>> attention_scores(ones, ones, heads=1), attention_scores(ones, ones, heads=4)
    (tensor([[[[2.]]]]), tensor([[[[1.]],
    <BLANKLINE>
             [[1.]],
    <BLANKLINE>
             [[1.]],
    <BLANKLINE>
             [[1.]]]]))
    """
    if query.shape != key.shape or query.dim() != 3 or query.shape[-1] % heads:
        raise ValueError(
            f"attention_scores: queries {tuple(query.shape)} and keys {tuple(key.shape)} must both be (B, T, D), with "
            f"D a multiple of the {heads} heads"
        )
    query, key = (wide(x).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key))
    scores: Tensor = product(query, key.transpose(-2, -1)) / query.shape[-1] ** 0.5
    return scores


@method(
    "transformer",
    _TINYBERT,
    {
        "huawei-noah/Pretrained-Language-Model": "tinybert_intermediate",
        "airaria/TextBrewer": "textbrewer_att_mse_loss textbrewer_att_mse_sum_loss",
    },
    _TEXT,
)
def attention_mse(
    student: Tensor,
    teacher: Tensor,
    over_heads: str = "each",
    *,
    ignore_below: float | None = None,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Squared difference of attention scores, :math:`(A^s_{hij} - A^t_{hij})^2`.

    Args:
        student, teacher: scores ``(B, H, T, T)``; H may differ if heads are combined.
        over_heads: ``each`` compares head by head; ``sum`` or ``mean`` compares the sums or means over heads.
        ignore_below: scores at or below this value (after heads are combined) count as 0, on each side separately.
            TinyBERT uses -100, for masked keys. TextBrewer without a mask uses -0.001, which removes *every* negative
            score.

    Returns:
        ``(B, H, T, T)``, or ``(B, T, T)`` if heads are combined. ``mean`` is over the pairs of positions that both
        count.

    >>> s, t = torch.tensor([[[[1.0]], [[2.0]]]]), torch.tensor([[[[0.0]], [[0.0]]]])
    >>> attention_mse(s, t).flatten(), attention_mse(s, t, "sum").flatten()
    (tensor([1., 4.]), tensor([9.]))
    """
    pair = _pair_mask("attention_mse", student, teacher, over_heads, mask)
    s, t = (_combined(_filled(x, pair, 0.0), over_heads) for x in (student, teacher))
    if ignore_below is not None:
        s, t = (torch.where(x <= ignore_below, torch.zeros_like(x), x) for x in (s, t))
    if pair is not None:
        pair = pair.expand_as(s) if over_heads == "each" else pair[:, 0]
    return reduced((s - t).square(), pair, reduction)


@method("transformer", TEXTBREWER, {"airaria/TextBrewer": "textbrewer_att_ce_loss textbrewer_att_ce_mean_loss"}, _TEXT)
def attention_ce(
    student: Tensor,
    teacher: Tensor,
    over_heads: str = "each",
    *,
    entropy: bool = False,
    renormalise: bool = True,
    ignore_below: float | None = None,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Cross-entropy of attention, :math:`-\sum_j p_{hij} \log q_{hij}`. p and q are the softmaxes over the keys of the
    teacher's and of the student's scores.

    Args:
        student, teacher: scores ``(B, H, T, T)``; H may differ if heads are combined.
        over_heads: ``each`` compares head by head; ``sum`` or ``mean`` compares the softmax of the sums or means of
            scores.
        entropy: True subtracts the teacher's entropy, which gives the Kullback-Leibler divergence (the same gradient,
            and 0 for equal attention).
        renormalise: True: the softmaxes are over the keys that count. False: they are over all keys, and the terms of
            keys that do not count are left out, as in TextBrewer (where these scores are already very negative).
        ignore_below: keys whose teacher score is at or below this value get teacher probability 0; -0.001 in TextBrewer
            without a mask.

    Returns:
        one value per query, ``(B, H, T)``, or ``(B, T)`` if heads are combined. ``mean`` is over the queries that
        count.

    >>> s, t = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 1.0], [2.0, 2.0]]]])
    >>> attention_ce(s, t).flatten(), attention_ce(s, t, entropy=True).flatten()
    (tensor([0.6931, 0.6931]), tensor([0.1109, 0.0000]))
    """
    pair = _pair_mask("attention_ce", student, teacher, over_heads, mask)
    key = None if mask is None else (mask != 0)[:, None, None, :]
    query = None if mask is None else (mask != 0)[:, None, :, None]
    # a query that does not count is set to zeros: its values must not reach a gradient as 0 times NaN
    s, t = (_combined(_filled(x, pair if renormalise else query, 0.0), over_heads) for x in (student, teacher))
    if key is not None and query is not None and over_heads != "each":
        key, query = key[:, 0], query[:, 0]
    if renormalise:
        s, t = (_filled(x, key, torch.finfo(x.dtype).min) for x in (s, t))
    values = _cross_entropy(s, t, entropy, key, ignore_below)
    return reduced(values, None if query is None else query.squeeze(-1).expand_as(values), reduction)


def _cross_entropy(
    student: Tensor, teacher: Tensor, entropy: bool, key: Tensor | None = None, ignore_below: float | None = None
) -> Tensor:
    """Cross-entropy of the softmaxes along the last dimension. Keys with ``key`` False are left out, and so are terms
    with teacher probability 0."""
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    p = log_p.exp()
    if ignore_below is not None:
        p = torch.where(teacher <= ignore_below, torch.zeros_like(p), p)
    left_out = p == 0 if key is None else (p == 0) | ~key
    terms = p * (log_p - log_q).masked_fill(left_out, 0.0) if entropy else -p * log_q.masked_fill(left_out, 0.0)
    return terms.sum(-1)


@method("transformer", _TINYBERT, {"huawei-noah/Pretrained-Language-Model": "tinybert_intermediate"}, ("encoder",))
def tinybert(
    student_scores: Sequence[Tensor],
    teacher_scores: Sequence[Tensor],
    student_hidden: Sequence[Tensor],
    teacher_hidden: Sequence[Tensor],
    attention_weight: float = 1.0,
    hidden_weight: float = 1.0,
    *,
    ignore_below: float | None = -100.0,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""TinyBERT's distillation of the layers: :math:`\sum_m \mathrm{MSE}(A^s_m, A^t_{g(m)}) + \sum_m \mathrm{MSE}(H^s_m
    W, H^t_{g(m)})` over the pairs of layers given by the map :math:`g`.

    Args:
        student_scores, teacher_scores: attention scores ``(B, H, T, T)`` before the softmax, the same number on both
            sides.
        student_hidden, teacher_hidden: hidden states ``(B, T, D)``, the same number on both sides, the student's after
            the shared projection W. The output of the embeddings is one of them.
        attention_weight, hidden_weight: weights of the two sums.
        ignore_below: :func:`kdlab.functional.attention_mse`.
        mask: a sample's means are over the positions that count. Without a mask, padding counts too, as in the authors'
            code.

    Returns:
        ``(B,)``; with a reduction, samples without any position that counts do not count.

    >>> zero, one = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    >>> tinybert([zero], [one], [zero[0]], [2 * one[0]])
    tensor([5.])
    """
    if len(student_scores) != len(teacher_scores) or len(student_hidden) != len(teacher_hidden):
        raise ValueError(
            f"tinybert: {len(student_scores)} and {len(teacher_scores)} score tensors, {len(student_hidden)} and "
            f"{len(teacher_hidden)} hidden states; student and teacher must have the same numbers"
        )
    terms = []
    for s, t in zip(student_scores, teacher_scores):
        entries = attention_mse(s, t, ignore_below=ignore_below, mask=mask)
        counts = None if mask is None else pairs(mask)[:, None].expand_as(entries)
        terms.append(attention_weight * sample_mean(entries, counts))
    for s, t in zip(student_hidden, teacher_hidden):
        terms.append(hidden_weight * sample_mean(hidden_mse(s, t, mask=mask), mask))
    return reduced(added(terms, "tinybert"), _some(mask), reduction)


@method("transformer", _MINILM_V2, {"bloomberg/minilmv2.bb": "minilmv2"}, ("encoder",))
def minilmv2(
    student_query: Tensor,
    student_key: Tensor,
    student_value: Tensor,
    teacher_query: Tensor,
    teacher_key: Tensor,
    teacher_value: Tensor,
    heads: int = 48,
    relations: Mapping[str, float] | None = None,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Relations of queries, keys and values within one layer,
    :math:`\sum_r \alpha_r \frac{1}{A n} \sum_{a, i} \mathrm{KL}(R^t_{r,a,i} \,\|\, R^s_{r,a,i})` over A relation heads
    and the n positions of a sample, :math:`R_{qq} = \mathrm{softmax}(Q_a Q_a^\top / \sqrt{d})`.

    All heads of a side are concatenated and split into A heads again. So the networks may differ in width and in number
    of heads.

    Args:
        student_query, student_key, student_value: ``(B, T, D)``, outputs of the linear layers.
        teacher_query, teacher_key, teacher_value: ``(B, T, D')``.
        heads: A; it must divide D and D'.
        relations: :math:`\alpha` per relation, named by two of the letters q, k, v; default
            ``{"qq": 1, "kk": 1, "vv": 1}``.

    Returns:
        ``(B,)``; with a reduction, samples without any position that counts do not count.

    >>> x, y = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[1.0], [1.0]]])
    >>> minilmv2(x, x, x, y, y, y, heads=1), minilmv2(x, x, x, y, y, y, heads=1, relations={"qk": 1.0})
    (tensor([0.1802]), tensor([0.0601]))
    """
    student, teacher = (
        {"q": query, "k": key, "v": value}
        for query, key, value in (
            (student_query, student_key, student_value),
            (teacher_query, teacher_key, teacher_value),
        )
    )
    if len({x.shape[:2] for x in (*student.values(), *teacher.values())}) > 1:
        raise ValueError(
            f"minilmv2: student {tuple(student_query.shape)} and teacher {tuple(teacher_query.shape)} must be states "
            "(B, T, D) of the same positions, query, key and value alike"
        )
    relations = {"qq": 1.0, "kk": 1.0, "vv": 1.0} if relations is None else relations
    student, teacher = ({letter: without_masked(x, mask) for letter, x in side.items()} for side in (student, teacher))
    terms = []
    for name, weight in relations.items():
        if len(name) != 2 or set(name) - set("qkv"):
            raise ValueError(f"relations are named by two of the letters q, k and v, for example 'qk', got {name!r}")
        s, t = (attention_scores(side[name[0]], side[name[1]], heads) for side in (student, teacher))
        rows = attention_ce(s, t, entropy=True, mask=mask)
        terms.append(weight * sample_mean(rows, None if mask is None else mask[:, None].expand_as(rows)))
    return reduced(added(terms, "minilmv2"), _some(mask), reduction)


@method("transformer", _MINILM, serves=("encoder",))
def minilm(
    student_query: Tensor,
    student_key: Tensor,
    student_value: Tensor,
    teacher_query: Tensor,
    teacher_key: Tensor,
    teacher_value: Tensor,
    heads: int = 12,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Deep self-attention distillation of the last layer. It compares the attention
    :math:`\mathrm{softmax}(Q K^\top / \sqrt{d})` and the value relation :math:`\mathrm{softmax}(V V^\top / \sqrt{d})`
    by the Kullback-Leibler divergence of the student from the teacher. Each is a mean over heads and over the positions
    of a sample. The widths may differ; both networks have the same number of heads.

    Arguments and result are those of :func:`kdlab.functional.minilmv2`, with the relations qk and vv and the networks'
    own heads.

    >>> x, y = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[1.0], [1.0]]])
    >>> minilm(x, x, x, y, y, y, heads=1)
    tensor([0.1201])
    """
    return minilmv2(
        student_query,
        student_key,
        student_value,
        teacher_query,
        teacher_key,
        teacher_value,
        heads,
        {"qk": 1.0, "vv": 1.0},
        mask=mask,
        reduction=reduction,
    )


def _some(mask: Tensor | None) -> Tensor | None:
    """The samples that have a position that counts."""
    return None if mask is None else (mask != 0).any(1)


def _filled(x: Tensor, keep: Tensor | None, value: float) -> Tensor:
    return wide(x) if keep is None else wide(x).masked_fill(~keep, value)


def _combined(scores: Tensor, over_heads: str) -> Tensor:
    return scores if over_heads == "each" else scores.sum(1) if over_heads == "sum" else scores.mean(1)


def _pair_mask(what: str, student: Tensor, teacher: Tensor, over_heads: str, mask: Tensor | None) -> Tensor | None:
    """``(B, 1, T, T)``: the pairs whose query and key both count. Raises ValueError if scores and mask do not fit."""
    if over_heads not in HEADS:
        raise ValueError(f"over_heads must be one of {', '.join(HEADS)}, got {over_heads!r}")
    if over_heads == "each":
        same_shape(student, teacher, what, "if the numbers of heads differ, combine the heads (over_heads)")
    if (
        student.dim() != 4
        or teacher.dim() != 4
        or student[:, 0].shape != teacher[:, 0].shape
        or student.shape[2] != student.shape[3]
    ):
        raise ValueError(
            f"{what}: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be scores (B, H, T, T) of "
            "the same positions"
        )
    if mask is not None and mask.shape != (len(student), student.shape[2]):
        raise ValueError(f"{what}: scores {tuple(student.shape)} need a mask (B, T), got {tuple(mask.shape)}")
    return None if mask is None else pairs(mask)[:, None]
