"""Answers of two tokenizers side by side: which positions of the student's text belong to which of the teacher's.

All of it is arithmetic on whole batches of integers (running sums, binary search, scatter): no loop over texts, tokens
or classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .rows import wide
from .tokens import IGNORED, same_tokens

#: where the distribution of the k-th token of an answer is read
POSITIONS = ("predicting", "clamped", "answer")
#: a probability is at least this, where it is multiplied or its logarithm taken
SMALLEST = 1e-8


class Answer(NamedTuple):
    """The answers of a batch of texts, their tokens first. ``counts`` says which of the T places hold one; what stands
    elsewhere means nothing. ``predicted`` says whose first token has a position that predicts it.

    Args:
        probabilities: ``(B, T, V)``.
        tokens: ``(B, T)``.
        counts: ``(B, T)``, True for the first ``size`` places.
        places: ``(B, T)``, the place in the text.
        predicted: ``(B,)``.
    """

    probabilities: Tensor
    tokens: Tensor
    counts: Tensor
    places: Tensor
    predicted: Tensor


def answer(
    logits: Tensor, labels: Tensor, temperature: float, positions: str, skip_end: bool, ignored: int = IGNORED
) -> Answer:
    """The tokens whose label counts, and the distributions that answer for them.

    Args:
        logits: ``(B, T, V)``, not shifted.
        labels: ``(B, T)``, not shifted.
        positions: ``predicting``, one before the token; ``clamped``, that too, but all one later in a text whose first
            token counts; ``answer``, at the token.
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
    # filled before the softmax: what stands outside the answer (inf, NaN) must not reach a gradient
    probabilities = (rows.masked_fill(~counts[..., None], 0.0) / temperature).softmax(-1)
    tokens = labels.gather(1, places).masked_fill(~counts, 0)
    return Answer(
        probabilities, tokens, counts, places, ~first if positions == "predicting" else torch.ones_like(first)
    )


def pair_by_order(student: Answer, teacher: Answer) -> tuple[Tensor, Tensor, Tensor]:
    """The k-th token of one with the k-th of the other, as far as both go: rows ``(B, K, V)`` of both and which of them
    count ``(B, K)``."""
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

    A group ends where both have a token that ends at the same byte (the j-th zero-width token there with the j-th of
    the other); what is left over behind the last such place is a group too, where both have something left.

    Args:
        student_bytes, teacher_bytes: first byte and byte behind the last of each token ``(B, T, 2)``, counted in the
            answer.
        merge: ``bayesian``, the distribution at the last token of a group times the probabilities of the earlier ones,
            as the chain rule has it; ``observed``, the distribution at the first times the probabilities of the later
            ones.

    Returns:
        As :func:`pair_by_order`; the rows of a group of several tokens do not sum to 1.
    """
    if merge not in ("bayesian", "observed"):
        raise ValueError(f"merge must be bayesian or observed, got {merge!r}")
    ends = [_ends(side, given) for side, given in ((student, student_bytes), (teacher, teacher_bytes))]
    closing = [_closing(student, *ends), _closing(teacher, *reversed(ends))]
    both = min(student.counts.shape[-1], teacher.counts.shape[-1])
    # as many groups as both have: what only one has left over belongs to none
    number = torch.minimum(closing[0].sum(-1), closing[1].sum(-1))
    counts = torch.arange(both, device=number.device) < number[:, None]
    return (
        _merged(student, closing[0], both, merge),
        _merged(teacher, closing[1], both, merge),
        _without_unpredicted(counts, student, teacher),
    )


def _without_unpredicted(counts: Tensor, student: Answer, teacher: Answer) -> Tensor:
    """The first pair is left out where no position predicts its token: a text of which nothing stands before the
    answer."""
    first = torch.arange(counts.shape[-1], device=counts.device) == 0
    return counts & ~(first & ~(student.predicted & teacher.predicted)[:, None])


def _ends(side: Answer, given: Tensor) -> Tensor:
    """The byte behind each token of the answer; behind the answer, larger than any."""
    if given.shape != (*side.counts.shape, 2):
        raise ValueError(
            f"byte offsets: two a token: labels {tuple(side.counts.shape)} need {(*side.counts.shape, 2)}, got "
            f"{tuple(given.shape)}"
        )
    return given[..., 1].gather(1, side.places).masked_fill(~side.counts, torch.iinfo(given.dtype).max).contiguous()


def _closing(side: Answer, mine: Tensor, theirs: Tensor) -> Tensor:
    """True at the last token of each group: where the other text has a token that ends at the same byte (of several
    with the same end, the j-th with the j-th), and at the last of all."""
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
    nowhere = torch.full_like(group, number)  # one more column, for what belongs to no group
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
