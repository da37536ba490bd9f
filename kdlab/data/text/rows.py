"""Rows of tables: which are used, and their texts and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.errors import InputError

from .files import Table
from .labels import is_missing

FAULTY = ("refuse", "drop")
#: the ends of messages on rows without a text or a label
DROP_THEM = "; data.faulty=drop leaves out such rows"
NONE_LEFT = ": every row is without a text or a label"


@dataclass(frozen=True)
class Columns:
    """The names of the columns that are read.

    Args:
        text, text_pair: of the texts; a pair is one sample.
        label: of the labels; None: there are none.
    """

    text: str
    text_pair: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of one source that are used: texts and labels."""

    table: Table
    texts: Sequence
    pairs: Sequence | None
    labels: Sequence | None
    dropped: int

    def __len__(self) -> int:
        return len(self.texts)


def used_rows(table: Table, columns: Columns, faulty: str) -> Rows:
    """The rows of a table that have a text and, where labels are read, a label.

    Args:
        faulty: what is done with any other row: ``refuse``, or ``drop`` it.

    Raises:
        InputError: there is no such column, a row is refused, or no row is left.
    """
    texts = table.column("data.text", columns.text)
    pairs = None if columns.text_pair is None else table.column("data.text_pair", columns.text_pair)
    labels = None if columns.label is None else table.column("data.label", columns.label)
    empty = without_text(texts, pairs)
    unlabelled = [] if labels is None else [row for row in range(len(table)) if is_missing(labels[row])]
    faults = []
    if empty:
        faults.append(no_text(columns.text, table.places(empty)))
    if unlabelled:
        faults.append(f"data.label={columns.label}: {table.places(unlabelled)}: no label")
    if faults and faulty == "refuse":
        raise InputError(*(f"{fault}{DROP_THEM}" for fault in faults))
    without = {*empty, *unlabelled}
    if without:
        kept = [row for row in range(len(table)) if row not in without]
        if not kept:
            raise InputError(f"{faults[0]}{NONE_LEFT}")
        texts = [texts[row] for row in kept]
        pairs = None if pairs is None else [pairs[row] for row in kept]
        labels = None if labels is None else [labels[row] for row in kept]
        held: dict[str, Sequence[Any]] = {
            name: [values[row] for row in kept] if len(values) else () for name, values in table.columns.items()
        }
        table = Table(table.source, held, [table.numbers[row] for row in kept], table.unit)
    return Rows(table, texts, pairs, labels, len(without))


def check_texts(key: str, table: Table, values: Sequence, words: bool) -> None:
    """Raises InputError where a value is no text: a list, an object or bytes. Their spelling in Python would become the
    tokens.

    Args:
        key: the option that names the column, for the message.
        words: lists are texts, too: each word has a label.
    """
    if wrong := of_other_types(values, words):
        raise other_type(key, table.places(wrong), values[wrong[0]])


def _is_empty(text: Any) -> bool:
    if isinstance(text, (list, tuple)):
        return not text
    return text is None or (isinstance(text, float) and math.isnan(text)) or not str(text).strip()


def without_text(texts: Sequence, pairs: Sequence | None) -> list[int]:
    """The rows whose text, or one of whose two texts, is missing."""
    return [row for row in range(len(texts)) if _is_empty(texts[row]) or (pairs and _is_empty(pairs[row]))]


def no_text(column: str, places: str) -> str:
    """The message on rows without a text, without its end."""
    return f"data.text={column}: {places}: no text"


def of_other_types(values: Sequence, words: bool) -> list[int]:
    """The rows whose value is no text (:func:`check_texts`)."""
    kinds = (dict, bytes) if words else (dict, bytes, list, tuple)
    return [row for row, value in enumerate(values) if isinstance(value, kinds)]


def other_type(key: str, places: str, example: object) -> InputError:
    """The error for values that are no texts."""
    return InputError(
        f"{key}: {places}: the value is of type {type(example).__name__}, and no text; data.text=… names a column of "
        "texts (of a list of words, write one string with spaces between them)"
    )
