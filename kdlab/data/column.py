"""A column of a data set's tables, at its stored samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: the number of a table, and of a row in it
Origin = tuple[int, int]


@dataclass(frozen=True)
class Column:
    """What a column has for the samples of a stored split.

    Args:
        values: of each sample, as text; None where the row has none.
        origins: of each sample.
        places: names rows of any split, for messages.
    """

    values: Sequence[str | None]
    origins: Sequence[Origin]
    places: Callable[[Sequence[Origin]], str]

    def __len__(self) -> int:
        return len(self.values)
