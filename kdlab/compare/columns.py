"""The columns of a table: their names, their content, and which are dropped first on a narrow terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .collect import NETWORK
from .rows import Row
from .statistics import Interval


@dataclass(frozen=True)
class Column:
    """Args: key: its name in code. cell: the text of a row; empty where the row has none. words: whether it holds
    words, which may be wrapped, or numbers, which may not. rank: columns with a low rank are kept longest on a narrow
    terminal.
    """

    key: str
    head: str
    cell: Callable[[Row], str]
    words: bool = False
    rank: int = 0


def columns_of(table: Any) -> list[Column]:
    """The columns in which some row of a table has something: ``role``, ``label``, ``weights``, ``last``, ``best``,
    ``n``, ``difference``, ``p``, ``verdict``, ``effect``, ``detectable``, ``retention``, ``gap_closed``, the table's
    further metrics by their names, ``parameters``, ``flops``, ``seconds``."""
    every = [
        Column("role", "role", lambda row: row.role, True, 7),
        Column("label", "variant", shown, True, 0),
        Column("weights", "weights", lambda row: row.weights, True, 14),
        Column("last", f"{table.metric}, last epoch", lambda row: number(row.last), rank=1),
        Column("best", f"{table.metric}, best on validation", lambda row: number(row.best), rank=5),
        Column("n", "n", lambda row: str(row.last.n if row.last else 0), rank=2),
        Column("difference", "difference", _difference, rank=3),
        Column("p", "p", lambda row: p_text(row.difference.p_adjusted if row.difference else None), rank=8),
        Column("verdict", "verdict", lambda row: row.difference.verdict if row.difference else "", True, 4),
        Column("effect", "effect", lambda row: _format(row.difference and row.difference.effect, "+.2f"), rank=13),
        Column(
            "detectable", "detectable", lambda row: _format(row.difference and row.difference.detectable, ".4f"), rank=9
        ),
        Column("retention", "retention", lambda row: _format(row.retention, ".1%"), rank=9),
        Column("gap_closed", "gap closed", lambda row: _format(row.gap_closed, ".0%"), rank=10),
        *(Column(name, name, _further(name), rank=6) for name in table.further),
        Column("parameters", "parameters", lambda row: _format(row.parameters, ","), rank=11),
        Column("flops", "FLOPs", lambda row: _format(row.flops, ","), rank=15),
        Column("seconds", "seconds", lambda row: _format(row.seconds, ".1f"), rank=12),
    ]
    return [column for column in every if any(column.cell(row) for row in table.rows)]


def shown(row: Row) -> str:
    """A row's name in a table; the name of a network is shown below that of its variant."""
    if row.role == NETWORK:
        return f"· {row.label.rpartition(' · ')[2]}"
    return f"{row.label}  (kept: {row.kept})" if row.kept else row.label


def number(value: Interval | None) -> str:
    """Mean and half width.

    >>> number(Interval(0.82, 0.0123, 3)), number(Interval(0.8, None, 1)), number(Interval(32000.4, 12.0, 3))
    ('0.8200 ± 0.0123', '0.8000', '32,000 ± 12')
    """
    if value is None:
        return ""
    form = ",.0f" if abs(value.mean) >= 1000 else ".2f" if abs(value.mean) >= 10 else ".4f"
    return f"{value.mean:{form}}" + ("" if value.half_width is None else f" ± {value.half_width:{form}}")


def several(number: int, what: str) -> str:
    """A number of things.

    >>> several(1, "comparison"), several(2, "comparison")
    ('1 comparison', '2 comparisons')
    """
    return f"{number} {what}{'s' if number != 1 else ''}"


def _difference(row: Row) -> str:
    one = row.difference
    if one is None or one.mean is None:
        return ""
    return f"{one.mean:+.4f}" + ("" if one.half_width is None else f" ± {one.half_width:.4f}")


def p_text(value: float | None) -> str:
    """A p value as text; empty if there is none."""
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _further(name: str) -> Callable[[Row], str]:
    return lambda row: number(row.further.get(name))


def _format(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
