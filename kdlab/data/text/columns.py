"""A column of tables at the samples of a stored split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kdlab.data.column import Column, Origin

from .files import Table
from .labels import is_missing


def column_of(key: str, name: str, tables: Sequence[Table], origins: Tensor) -> Column:
    """What a column has for each sample.

    Args:
        key: the option that names the column, for messages.
        tables: of the samples, in the order of their numbers.
        origins: of each sample the number of its table and of its row in it ``(N, 2)``.

    Raises:
        InputError: a table has no such column.

    >>> import torch
    >>> table = Table("a.csv", {"source": ["maths", " code ", None]}, [2, 3, 4], "line")
    >>> found = column_of("teacher.column", "source", [table], torch.tensor([[0, 2], [0, 1]]))
    >>> found.values, found.places(found.origins[1:])
    ([None, 'code'], 'a.csv, line 3')
    """
    values = [[_text(value) for value in table.column(key, name)] for table in tables]
    where = [(number, row) for number, row in origins.tolist()]

    def places(chosen: Sequence[Origin]) -> str:
        rows: dict[int, list[int]] = {}
        for number, row in sorted(chosen):
            rows.setdefault(number, []).append(row)
        return "; ".join(tables[number].places(each) for number, each in rows.items())

    return Column([values[number][row] for number, row in where], where, places)


def _text(value: Any) -> str | None:
    return None if is_missing(value) else str(value).strip()
