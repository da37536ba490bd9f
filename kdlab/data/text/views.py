"""Rows of numbers that stay on disk: only those that are asked for are read.

A view has the methods of :class:`Ragged`. To take rows of it, to join it with another, or to pack it copies no values.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kdlab.functional.tokens import IGNORED

from .tokens import Ragged

_ROWS = 256  # that are read at a time where all are read


class View(Ragged):
    """Base of the views. A subclass sets ``lengths`` and gives :meth:`at`.

    Args:
        lengths: of the rows, ``(N,)``, int64.
        dtype: of the values as they are stored.
    """

    def __init__(self, lengths: Tensor, dtype: torch.dtype) -> None:
        self.lengths, self._dtype = lengths, dtype

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} rows)"

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The values at places ``steps`` of ``rows``, int64; all three have one shape, ``(n,)``."""
        raise NotImplementedError(f"{type(self).__name__} must define at(rows, steps)")

    @property
    def dtype(self) -> torch.dtype:
        """Of the values as they are stored."""
        return self._dtype

    @property
    def values(self) -> Tensor:
        """All rows, one after another, copied into memory."""
        return torch.cat([torch.empty(0, dtype=self.dtype), *self.blocks()])

    @property
    def ends(self) -> Tensor:
        """Where each row ends when all are put one after another."""
        return self.lengths.cumsum(0)

    def blocks(self) -> Iterator[Tensor]:
        """The values of all rows, one after another, some rows at a time."""
        for rows in torch.arange(len(self)).split(_ROWS):
            lengths = self.lengths[rows]
            before = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
            steps = torch.arange(int(lengths.sum())) - before
            yield self.at(rows.repeat_interleave(lengths), steps).to(self.dtype)

    def padded(self, rows: Tensor, width: int, fill: int) -> Tensor:
        """Rows as a matrix ``(B, width)``, int64, filled up on the right."""
        filled = torch.arange(width) < self.lengths[rows][:, None]
        found = torch.full((len(rows), width), fill, dtype=torch.int64)
        row, step = filled.nonzero(as_tuple=True)
        found[filled] = self.at(rows[row], step)
        return found

    def take(self, rows: Tensor) -> View:
        """The given rows, in this order."""
        return Taken(self, rows)

    def joined(self, other: Ragged) -> View:
        """These rows, and those of another view after them."""
        if not isinstance(other, View):
            raise TypeError(f"a view can only be joined with a view, got {type(other).__name__}")
        return Joined(self, other)


class Mapped(View):
    """Rows in a memory-mapped array, one after another.

    Args:
        array: the values.
        ends: where each row ends, ``(N,)``, int64.

    >>> rows = Mapped(np.array([1, 2, 3, 4, 5, 6], dtype=np.int32), torch.tensor([2, 3, 6]))
    >>> rows.padded(torch.tensor([2, 1]), 3, fill=0).tolist()
    [[4, 5, 6], [3, 0, 0]]
    >>> rows.take(torch.tensor([2, 0])).joined(rows.take(torch.tensor([1]))).values.tolist()
    [4, 5, 6, 1, 2, 3]
    """

    def __init__(self, array: np.ndarray, ends: Tensor) -> None:
        lengths = ends.diff(prepend=ends.new_zeros(1))
        super().__init__(lengths, torch.from_numpy(np.empty(0, array.dtype)).dtype)
        self.array, self._ends = array, ends

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The values at places of rows."""
        places = (self._ends[rows] - self.lengths[rows] + steps).numpy()
        return torch.from_numpy(np.asarray(self.array[places])).to(torch.int64)


class Taken(View):
    """Some rows of a view.

    Args:
        whole: the view.
        chosen: its rows, ``(N,)``.
    """

    def __init__(self, whole: View, chosen: Tensor) -> None:
        super().__init__(whole.lengths[chosen], whole.dtype)
        self.whole, self.chosen = whole, chosen

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The values at places of rows."""
        return self.whole.at(self.chosen[rows], steps)

    def take(self, rows: Tensor) -> View:
        """The given rows, in this order."""
        return Taken(self.whole, self.chosen[rows])


class Joined(View):
    """The rows of one view, and those of another after them."""

    def __init__(self, first: View, second: View) -> None:
        super().__init__(torch.cat([first.lengths, second.lengths]), first.dtype)
        self.first, self.second = first, second

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The values at places of rows."""
        begin = len(self.first)
        later = rows >= begin
        found = torch.empty_like(steps)
        found[~later] = self.first.at(rows[~later], steps[~later])
        found[later] = self.second.at(rows[later] - begin, steps[later])
        return found


class Labels(View):
    """The tokens that are to be predicted, and -100 in place of the others.

    Args:
        ids: the tokens.
        counts: 1 for a token that is to be predicted, else 0.
    """

    def __init__(self, ids: View, counts: View) -> None:
        super().__init__(ids.lengths, torch.int64)
        self.ids, self.counts = ids, counts

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The labels at places of rows."""
        return torch.where(self.counts.at(rows, steps) > 0, self.ids.at(rows, steps), IGNORED)


class PackedIds(View):
    """The texts of a view one after another, cut into rows of ``length`` tokens, as by
    :func:`kdlab.data.text.packing.packed`. Where a token of a row is follows from the ends of the texts.

    Args:
        texts: the texts.
        length: tokens of a row; the last row may have fewer.
        ends: where each text ends when all are put one after another; None: computed.
    """

    def __init__(self, texts: View, length: int, ends: Tensor | None = None) -> None:
        self.texts, self.length = texts, length
        self.text_ends = texts.ends if ends is None else ends
        total = int(self.text_ends[-1]) if len(texts) else 0
        full, rest = divmod(total, length)
        lengths = torch.full((full + bool(rest),), length, dtype=torch.int64)
        lengths[full:] = rest
        super().__init__(lengths, texts.dtype)

    def _in_texts(self, rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The text that holds each token, and the token's place in it."""
        place = rows * self.length + steps
        text = torch.searchsorted(self.text_ends, place, right=True)
        return text, place - (self.text_ends[text] - self.texts.lengths[text])

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The tokens at places of rows."""
        return self.texts.at(*self._in_texts(rows, steps))


class PackedLabels(PackedIds):
    """The labels of packed rows: -100 at the first token of a text, and of a row."""

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The labels at places of rows."""
        text, place = self._in_texts(rows, steps)
        return torch.where((place == 0) | (steps == 0), IGNORED, self.texts.at(text, place))


class PackedPlaces(PackedIds):
    """The place of each token of packed rows in its text, counted from 0 where a row begins."""

    def at(self, rows: Tensor, steps: Tensor) -> Tensor:
        """The places of tokens in their texts, at places of rows."""
        return self._in_texts(rows, steps)[1].minimum(steps)

    @property
    def dtype(self) -> torch.dtype:
        """That of places in memory."""
        return torch.int32
