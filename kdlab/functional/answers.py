"""Answers in two tokenizations: which positions of the student's text correspond to which of the teacher's.

All of it is integer arithmetic on whole batches (cumulative sums, binary search, scatter), without a loop over texts,
tokens or classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .rows import wide
from .tokens import IGNORED, same_tokens

#: the position at which the distribution of the k-th token of an answer is read
POSITIONS = ("predicting", "clamped", "answer")
#: lower bound of a probability that is multiplied or whose logarithm is taken
SMALLEST = 1e-8


class Answer(NamedTuple):
    """The answers of a batch of texts, shifted to the front. The content of places where ``counts`` is False has no
    meaning.

    Args:
        probabilities: ``(B, T, V)``.
        tokens: ``(B, T)``.
        counts: ``(B, T)``, which of the T places hold a token of the answer: the first ``size``.
        places: ``(B, T)``, the token's place in the text.
        predicted: ``(B,)``, whether a position predicts the answer's first token.
    """

    probabilities: Tensor
    tokens: Tensor
    counts: Tensor
    places: Tensor
    predicted: Tensor


def answer(
    logits: Tensor, labels: Tensor, temperature: float, positions: str, skip_end: bool, ignored: int = IGNORED
) -> Answer:
    """The tokens whose label counts, and their distributions.

    Args:
        logits: ``(B, T, V)``, not shifted.
        labels: ``(B, T)``, not shifted.
        positions: where a token's distribution is read. ``predicting``: at the position before the token. ``clamped``:
            the same, but one later for all tokens of a text whose first token counts. ``answer``: at the token.
        skip_end: leave out the last token (end of text).
    """
    same_tokens(logits, labels, "answer")
    if positions not in POSITIONS:
        raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {positions!r}")
    counted = labels != ignored
    places = (~counted).to(torch.uint8).argsort(dim=-1, stable=True)
    size = counted.sum(-1, keepdim=True) - int(skip_end)
    counts = torch.arange(labels.shape[-1], device=labels.device) < size
    first = counted[:, 0]
    back = {"predicting": torch.ones_like(first), "clamped": ~first, "answer": torch.zeros_like(first)}[positions]
    read = (places - back[:, None].to(places.dtype)).clamp(min=0)
    rows = wide(logits).gather(1, read[..., None].expand(-1, -1, logits.shape[-1]))
    # filled before the softmax: values outside the answer (inf, NaN) must not reach a gradient
    probabilities = (rows.masked_fill(~counts[..., None], 0.0) / temperature).softmax(-1)
    tokens = labels.gather(1, places).masked_fill(~counts, 0)
    return Answer(
        probabilities, tokens, counts, places, ~first if positions == "predicting" else torch.ones_like(first)
    )


def pair_by_order(student: Answer, teacher: Answer) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs the k-th token of one answer with the k-th of the other, up to the shorter length. Returns rows
    ``(B, K, V)`` of both, and which rows count ``(B, K)``."""
    both = min(student.counts.shape[-1], teacher.counts.shape[-1])
    counts = student.counts[:, :both] & teacher.counts[:, :both]
    return (
        student.probabilities[:, :both],
        teacher.probabilities[:, :both],
        _without_unpredicted(counts, student, teacher),
    )


def pair_by_bytes(
    student: Answer, teacher: Answer, student_bytes: Tensor, teacher_bytes: Tensor, merge: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of tokens that cover the same bytes, each merged to one row.

    A group ends where both answers have a token that ends at the same byte. If several tokens end there (zero width),
    the j-th of one is paired with the j-th of the other. The tokens after the last common end also form a group, if
    both answers have some.

    Args:
        student_bytes, teacher_bytes: start and end (exclusive) of each token in bytes, ``(B, T, 2)``, counted within
            the answer.
        merge: ``bayesian``: the distribution at the last token of a group times the probabilities of the earlier
            tokens, as in the chain rule. ``observed``: the distribution at the first token times the probabilities of
            the later ones.

    Returns:
        As :func:`pair_by_order`; the rows of a group of several tokens do not sum to 1.
    """
    if merge not in ("bayesian", "observed"):
        raise ValueError(f"merge must be bayesian or observed, got {merge!r}")
    ends = [_ends(side, given) for side, given in ((student, student_bytes), (teacher, teacher_bytes))]
    closing = [_closing(student, *ends), _closing(teacher, *reversed(ends))]
    both = min(student.counts.shape[-1], teacher.counts.shape[-1])
    # only as many groups as both answers have: tokens left over in one answer belong to no group
    number = torch.minimum(closing[0].sum(-1), closing[1].sum(-1))
    counts = torch.arange(both, device=number.device) < number[:, None]
    return (
        _merged(student, closing[0], both, merge),
        _merged(teacher, closing[1], both, merge),
        _without_unpredicted(counts, student, teacher),
    )


def _without_unpredicted(counts: Tensor, student: Answer, teacher: Answer) -> Tensor:
    """Leaves out the first pair if no position predicts its token, because the text begins with the answer."""
    first = torch.arange(counts.shape[-1], device=counts.device) == 0
    return counts & ~(first & ~(student.predicted & teacher.predicted)[:, None])


def _ends(side: Answer, given: Tensor) -> Tensor:
    """The end (exclusive) of each token of the answer in bytes. After the answer, a number larger than all ends."""
    if given.shape != (*side.counts.shape, 2):
        raise ValueError(
            f"byte offsets: two per token: labels {tuple(side.counts.shape)} need {(*side.counts.shape, 2)}, got "
            f"{tuple(given.shape)}"
        )
    return given[..., 1].gather(1, side.places).masked_fill(~side.counts, torch.iinfo(given.dtype).max).contiguous()


def _closing(side: Answer, mine: Tensor, theirs: Tensor) -> Tensor:
    """True at the last token of each group. It is a token whose end in bytes a token of the other text shares (of
    several with the same end, the j-th belongs to the j-th), or the last token of the answer."""
    order = torch.arange(mine.shape[-1], device=mine.device)
    earlier = order - torch.searchsorted(mine, mine)
    as_many = torch.searchsorted(theirs, mine, right=True) - torch.searchsorted(theirs, mine)
    followed = torch.cat([side.counts[:, 1:], torch.zeros_like(side.counts[:, :1])], dim=1)
    return side.counts & ((earlier < as_many) | ~followed)


def _merged(side: Answer, closing: Tensor, number: int, merge: str) -> Tensor:
    """One row for each of the first ``number`` groups, ``(B, number, V)``: the distribution at one token, times the
    probabilities of the other tokens."""
    group = closing.cumsum(-1) - closing.long()
    opening = side.counts & torch.cat([torch.ones_like(closing[:, :1]), closing[:, :-1]], dim=1)
    base = closing if merge == "bayesian" else opening
    nowhere = torch.full_like(group, number)  # one more column, for tokens that belong to no group
    group = torch.where(side.counts, group, nowhere).clamp(max=number)
    columns = torch.zeros_like(group[:, :1]).expand(-1, number + 1)
    places = torch.arange(group.shape[-1], device=group.device).expand_as(group)
    bases = columns.scatter(1, torch.where(base, group, nowhere), places)[:, :number]
    logarithms = side.probabilities.gather(-1, side.tokens[..., None])[..., 0].clamp(min=SMALLEST).log()
    product = (
        columns.to(logarithms.dtype).scatter_add(1, torch.where(base, nowhere, group), logarithms)[:, :number].exp()
    )
    rows = side.probabilities.gather(1, bases[..., None].expand(-1, -1, side.probabilities.shape[-1]))
    return rows * product[..., None]


def matched_tokens(student: dict[str, int], teacher: dict[str, int]) -> tuple[Tensor, Tensor]:
    """The numbers of the tokens that both vocabularies have: ``(M,)`` of the student's and of the teacher's, in the
    same order.

    >>> matched_tokens({"a": 0, "b": 1, "c": 2}, {"c": 0, "d": 1, "a": 2})
    (tensor([2, 0]), tensor([0, 2]))
    """
    pairs = sorted((number, student[token]) for token, number in teacher.items() if token in student)
    return torch.tensor([mine for _, mine in pairs], dtype=torch.long), torch.tensor(
        [number for number, _ in pairs], dtype=torch.long
    )
