"""Texts packed into rows of one length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.functional.tokens import IGNORED

from .tokens import Ragged
from .views import PackedIds, PackedLabels, PackedPlaces, View


@dataclass(frozen=True)
class Packed:
    """Rows that hold several texts, one after another. All but the last have the same length.

    Args:
        ids: the tokens.
        labels: of each token: -100 at the first token of a text, which no token before it predicts.
        places: of each token in its text, from 0.
    """

    ids: Ragged
    labels: Ragged
    places: Ragged


def packed(ids: Ragged, labels: Ragged, length: int) -> Packed:
    """Texts one after another, cut into rows of ``length`` tokens. A text that a row cuts goes on in the next row as a
    text of its own.

    >>> rows = packed(Ragged(torch.arange(7), torch.tensor([4, 7])), Ragged(torch.arange(7), torch.tensor([4, 7])), 5)
    >>> every = torch.tensor([0, 1])
    >>> rows.ids.padded(every, 5, 0).tolist(), rows.places.padded(every, 5, 0).tolist()
    ([[0, 1, 2, 3, 4], [5, 6, 0, 0, 0]], [[0, 1, 2, 3, 0], [0, 1, 0, 0, 0]])
    >>> rows.labels.padded(every, 5, -100).tolist()
    [[-100, 1, 2, 3, -100], [-100, 6, -100, -100, -100]]
    """
    if isinstance(ids, View) and isinstance(labels, View):  # nothing is copied
        rows = PackedIds(ids, length)
        ends = rows.text_ends
        return Packed(rows, PackedLabels(labels, length, ends), PackedPlaces(ids, length, ends))
    total = len(ids.values)
    place = torch.arange(total)
    starts = torch.zeros(total, dtype=torch.bool)
    starts[(ids.ends - ids.lengths)[ids.lengths > 0]] = True
    starts[::length] = True
    begins = torch.where(starts, place, 0).cummax(0).values
    ends = torch.arange(length, total + length, length).clamp(max=total)
    values = torch.where(starts, torch.full_like(labels.values, IGNORED), labels.values)
    return Packed(Ragged(ids.values, ends), Ragged(values, ends), Ragged((place - begins).to(torch.int32), ends))


def places_with_padding(places: Ragged, rows: Tensor, width: int) -> Tensor:
    """The places as ``position_ids`` ``(B, width)``. Padding is a text of its own: it is counted from 0.

    >>> places_with_padding(Ragged(torch.tensor([0, 1, 2]), torch.tensor([3])), torch.tensor([0]), 5).tolist()
    [[0, 1, 2, 0, 1]]
    """
    steps = torch.arange(width)
    lengths = places.lengths[rows][:, None]
    return torch.where(steps < lengths, places.padded(rows, width, 0), steps - lengths)
