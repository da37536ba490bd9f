"""A table on the terminal, as Markdown, as HTML, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from .columns import Column
from .statistics import Interval

LABEL = "label"
NARROWEST = {"label": 25, "role": 16}  # least width of a column of words, if its words are that long
NARROWEST_OTHERS = 13
GAP = 2  # spaces after each column
WITHOUT_TERMINAL = 200  # width in characters where standard output is no terminal


def show(table: Any, everything: bool = False) -> None:
    """Print the table, its explanation and its notes on the terminal.

    Args:
        everything: print all columns, in several blocks if needed; otherwise one block, and the names of the others.
    """
    from rich import markup
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    console = console if console.is_terminal else Console(width=WITHOUT_TERMINAL)
    columns = table.columns()
    blocks, hidden = arranged(columns, table.rows, console.width, everything)
    for number, block in enumerate(blocks):
        shown = RichTable(box=None, padding=(0, GAP, 0, 0))
        for column, width in zip(block, _widths(block, table.rows, console.width)):
            shown.add_column(
                _broken(column.head), justify="left" if column.words else "right", overflow="fold", width=width
            )
        for row in table.rows:
            shown.add_row(*(markup.escape(column.cell(row)) for column in block))  # a label may hold loss=[ce]
        if number:
            print()
        console.print(shown)
    for line in [*table.explanation([column for block in blocks for column in block]), *table.notes]:
        print(line)
    if hidden:
        print(f"no room for: {', '.join(column.head for column in hidden)} (--all shows them)")


def arranged(
    columns: Sequence[Column], rows: Sequence, width: int, everything: bool
) -> tuple[list[list[Column]], list[Column]]:
    """The columns in blocks that fit into a width, and the hidden columns. Each block begins with the rows' names.
    Unless ``everything`` is true, there is one block."""
    label = [column for column in columns if column.key == LABEL]
    waiting = [column for column in columns if column.key != LABEL]
    blocks: list[list[Column]] = []
    while waiting and (everything or not blocks):
        room = width - sum(_width(column, rows) + GAP for column in label)
        taken: set[str] = set()
        for column in waiting if blocks else sorted(waiting, key=lambda column: column.rank):
            room -= _width(column, rows) + GAP
            if room < 0 and taken:
                break
            taken.add(column.key)
        blocks.append([column for column in columns if column.key in taken or column.key == LABEL])
        waiting = [column for column in waiting if column.key not in taken]
    return blocks, waiting


def _width(column: Column, rows: Sequence) -> int:
    """The least width of a column: its longest number, or a readable part of its words."""
    head = max(map(len, _broken(column.head).split("\n")))
    cells = [column.cell(row) for row in rows]
    longest = max(map(len, cells))
    return max(head, min(NARROWEST.get(column.key, NARROWEST_OTHERS), longest) if column.words else longest)


def _widths(columns: Sequence[Column], rows: Sequence, width: int) -> list[int]:
    """The columns' widths: the least width of each. The remaining space goes to columns of words, first to the rows'
    names."""
    widths = {column.key: _width(column, rows) for column in columns}
    left = width - sum(widths.values()) - GAP * len(columns)
    for column in sorted((column for column in columns if column.words), key=lambda column: column.rank):
        more = max(0, min(left, max(len(column.cell(row)) for row in rows) - widths[column.key]))
        widths[column.key] += more
        left -= more
    return list(widths.values())


def _broken(head: str) -> str:
    """A head with several parts, on several lines."""
    return head.replace(", ", ",\n").replace(" validation", "\nvalidation")


def markdown(table: Any, leave_out: Sequence[str] = ()) -> str:
    """The table, its explanation and its notes as Markdown.

    Args:
        leave_out: keys of columns that are left out.
    """
    columns = [column for column in table.columns() if column.key not in leave_out]
    lines = [
        f"| {' | '.join(column.head for column in columns)} |",
        f"| {' | '.join('---' if column.words else '---:' for column in columns)} |",
    ]
    lines += [
        f"| {' | '.join(column.cell(row).replace('|', chr(92) + '|') for column in columns)} |" for row in table.rows
    ]
    return "\n".join([*lines, "", *[f"{line}\n" for line in [" ".join(table.explanation(columns)), *table.notes]]])


def html(table: Any) -> str:
    """The table as HTML for a notebook: words on the left, numbers on the right, explanation and notes below."""
    columns = table.columns()

    def line(tag: str, texts: Sequence[str]) -> str:
        styles = [
            "text-align: left" if column.words else "text-align: right" + "; white-space: nowrap" * (tag == "td")
            for column in columns
        ]
        return (
            "<tr>"
            + "".join(f'<{tag} style="{style}">{escape(text)}</{tag}>' for style, text in zip(styles, texts))
            + "</tr>"
        )

    rows = "".join(line("td", [column.cell(row) for column in columns]) for row in table.rows)
    notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in [*table.explanation(), *table.notes])
    return f"<table><thead>{line('th', table.head())}</thead><tbody>{rows}</tbody></table>{notes}"


def csv_text(table: Any) -> str:
    """The table as CSV, with unrounded numbers and all further metrics."""
    further = list(dict.fromkeys([*table.further, *(name for row in table.rows for name in row.further)]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "role",
            "variant",
            "weights",
            "n",
            "last_mean",
            "last_half_width_95",
            "best_mean",
            "best_half_width_95",
            "difference_mean",
            "difference_half_width_95",
            "difference_n",
            "p",
            "p_adjusted",
            "effect",
            "detectable",
            "verdict",
            "retention",
            "gap_closed",
            "parameters",
            "flops",
            "seconds",
            "kept",
            *(f"{name}{ending}" for name in further for ending in ("_mean", "_half_width_95")),
        ]
    )
    for row in table.rows:
        one = row.difference
        compared = (
            [None] * 8
            if one is None
            else [one.mean, one.half_width, one.n, one.p, one.p_adjusted, one.effect, one.detectable, one.verdict]
        )
        writer.writerow(
            [
                row.role,
                row.label,
                row.weights,
                row.last.n if row.last else 0,
                *_pair(row.last),
                *_pair(row.best),
                *compared,
                row.retention,
                row.gap_closed,
                row.parameters,
                row.flops,
                row.seconds,
                row.kept,
                *(number for name in further for number in _pair(row.further.get(name))),
            ]
        )
    return text.getvalue()


def _pair(value: Interval | None) -> tuple:
    return (None, None) if value is None else (value.mean, value.half_width)
