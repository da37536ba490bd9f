"""A column of a data set's tables, at its stored samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """What a column has for the samples of a stored split.

    Args:
        values: of each sample, as text; None where the row has none.
        places: names the rows of samples, for messages.
    """

    values: Sequence[str | None]
    places: Callable[[Sequence[int]], str]

    def __len__(self) -> int:
        return len(self.values)
