"""Labels of texts: what the values of a column mean, and the tensors that they become."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlab.errors import InputError, did_you_mean, shortened
from kdlab.functional.tokens import IGNORED

from .files import Table

#: what a label may be; ``auto`` is decided by the values of train
KINDS = ("auto", "classes", "values", "tokens")


@dataclass(frozen=True)
class Meaning:
    """What the values of the label column mean.

    Args:
        kind: ``classes`` (one class a text), ``values`` (a number a text) or ``tokens`` (a class for each word).
        names: of the classes, by their numbers; empty for numbers to predict.
        numeric: the column holds the numbers of the classes, not their names.
        threshold: a number greater than this is class 1, any other class 0.
    """

    kind: str
    names: tuple[str, ...] = ()
    numeric: bool = False
    threshold: float | None = None

    @property
    def classes(self) -> int:
        """How many columns a network's answers have."""
        return 1 if self.kind == "values" else len(self.names)

    def number(self, value: Any) -> float | None:
        """The class number or the value that a label stands for; None if it stands for none."""
        if self.kind == "values" or self.threshold is not None:
            found = as_number(value)
            return found if found is None or self.threshold is None else float(found > self.threshold)
        if self.numeric:
            found = as_number(value)
            return found if found is not None and found.is_integer() and 0 <= found < len(self.names) else None
        name = str(value).strip()
        return float(self.names.index(name)) if name in self.names else None


def as_number(value: Any) -> float | None:
    """A label as a finite number; None if it is none.

    >>> as_number(" 3 "), as_number("pos"), as_number(True), as_number("inf")
    (3.0, None, None, None)
    """
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def is_missing(value: Any) -> bool:
    """Whether a label is missing: null, empty or NaN.

    >>> [is_missing(value) for value in (None, " ", "NaN", float("nan"), 0, "none")]
    [True, True, True, True, False, False]
    """
    if isinstance(value, (list, tuple)):
        return not value
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan")) or value != value


def labels_of_words(value: Any) -> list[Any]:
    """One label a word: of a list, or of text with spaces between the labels."""
    return value.split() if isinstance(value, str) else list(value)


def counts(label: Any) -> bool:
    """Whether the label of a word counts: -100 does not, and one that is missing is refused later.

    >>> [counts(label) for label in ("B-PER", 3, -100, "-100", None)]
    [True, True, False, False, False]
    """
    return not is_missing(label) and str(label).strip() != str(IGNORED)


def words_of(value: Any) -> list[str]:
    """The words of a text: of a list, or of text with spaces between the words."""
    return value.split() if isinstance(value, str) else [str(word) for word in value]


def meaning_of(
    key: str, train: Table, values: Sequence[Any], kind: str, names: Sequence[str] | None, threshold: float | None
) -> Meaning:
    """What the labels of the training file mean.

    Args:
        key: ``data.label=…``, for messages.
        values: the labels, one a row; missing ones are left out of consideration.
        kind: one of :data:`KINDS`.
        names: of the classes, by their numbers; None: the names in train, sorted, or numbers from 0.
        threshold: of numbers that become two classes.

    Raises:
        InputError: numbers of classes have a gap or are negative, or there are fewer than two classes.
    """
    present = [(row, value) for row, value in enumerate(values) if not is_missing(value)]
    if threshold is not None:
        return Meaning("classes", tuple(names or ("0", "1")), threshold=threshold)
    if kind == "auto" and any(isinstance(value, (list, tuple)) for _, value in present):
        kind = "tokens"
    if kind == "tokens":
        flat = [(row, one) for row, value in present for one in labels_of_words(value) if counts(one)]
        return Meaning(kind, *_classes(key, train, flat, names))
    numbers = [as_number(value) for _, value in present]
    numeric = bool(numbers) and None not in numbers
    if kind == "values" or (
        kind == "auto" and numeric and names is None and any(not one.is_integer() for one in numbers if one is not None)
    ):
        return Meaning("values")
    return Meaning("classes", *_classes(key, train, present, names))


def _classes(
    key: str, train: Table, present: Iterable[tuple[int, Any]], names: Sequence[str] | None
) -> tuple[tuple[str, ...], bool]:
    """Names of the classes, and whether the column holds their numbers."""
    rows: dict[str, list[int]] = {}
    for row, value in present:
        rows.setdefault(str(value).strip(), []).append(row)
    numbers = {name: as_number(name) for name in rows}
    whole = all(one is not None and one.is_integer() for one in numbers.values())
    if names is not None:
        return tuple(map(str, names)), whole and not any(name in rows for name in map(str, names))
    if not whole or not rows:
        return tuple(sorted(rows)), False
    by_number: dict[int, list[int]] = {}
    for name, number in numbers.items():
        by_number.setdefault(int(number or 0), []).extend(rows[name])
    expected = 0
    for number in sorted(by_number):
        if number != expected:
            raise InputError(
                f"{key}: the numbers of the classes go up from 0 without a gap, and {train.places(by_number[number])} "
                f"{'have' if len(by_number[number]) > 1 else 'has'} {number}, where {expected} would be next; "
                "data.class_names=[…] names the classes by their numbers, also those that train does not have; "
                "data.label_kind=values takes the labels for numbers to predict"
            )
        expected += 1
    return tuple(map(str, range(expected))), True


def numbers_of(key: str, table: Table, values: Sequence[Any], meaning: Meaning) -> list[float]:
    """The class number or the value of each label that is given. Missing ones are NaN.

    Raises:
        InputError: a label stands for no class, or is no number.
    """
    found = [math.nan if is_missing(value) else meaning.number(value) for value in values]
    if wrong := [row for row, number in enumerate(found) if number is None]:
        raise _unknown(key, table, wrong, values[wrong[0]], meaning)
    return [number for number in found if number is not None]


def _unknown(key: str, table: Table, rows: Sequence[int], value: Any, meaning: Meaning) -> InputError:
    place = f"{key}: {table.places(rows)}"
    if meaning.kind == "values" or meaning.threshold is not None:
        what = "a number to compare with data.threshold" if meaning.threshold is not None else "a number to predict"
        return InputError(
            f"{place}: {value!r} is not {what}; data.label_kind=classes takes the labels for names of classes"
        )
    if meaning.numeric:
        return InputError(
            f"{place}: there is no class {value!r}; the classes are 0 to {len(meaning.names) - 1}"
            + ("; data.class_names=[…] names the classes by their numbers")
        )
    return InputError(
        f"{place}: there is no class {str(value)!r}{did_you_mean(str(value), meaning.names)}; the classes are "
        f"{shortened(meaning.names, 10)}; data.class_names=[…] names them all, by their numbers"
    )


def target_of(meaning: Meaning, numbers: Sequence[float]) -> Tensor:
    """The labels as a tensor: classes ``(N,)`` int64, or values ``(N, 1)`` float32. A missing class is -100, a missing
    value NaN.

    >>> target_of(Meaning("classes", ("a", "b")), [1.0, math.nan]).tolist()
    [1, -100]
    """
    found = torch.tensor(numbers, dtype=torch.float64)
    if meaning.kind == "values":
        return found.to(torch.float32)[:, None]
    return torch.where(found.isnan(), torch.full_like(found, IGNORED), found).to(torch.int64)


def word_labels(
    key: str, table: Table, words: Sequence[Any], values: Sequence[Any], meaning: Meaning
) -> list[list[int]]:
    """The class number of each word of each row. A row without labels has -100 for each.

    Raises:
        InputError: a row has another number of labels than of words, a word has none, or a label stands for no class.
    """
    found: list[list[int]] = []
    unequal: list[tuple[int, int, int]] = []
    missing: list[int] = []
    wrong: list[int] = []
    example = None
    look_up: Callable[[Any], float | None] = meaning.number
    for row, (text, value) in enumerate(zip(words, values)):
        count = len(words_of(text))
        if is_missing(value):
            found.append([IGNORED] * count)
            continue
        labels = labels_of_words(value)
        if len(labels) != count:
            unequal.append((row, len(labels), count))
            continue
        if any(is_missing(one) for one in labels):
            missing.append(row)
            continue
        numbers = [look_up(one) if counts(one) else IGNORED for one in labels]
        if None in numbers:
            example = labels[numbers.index(None)] if not wrong else example
            wrong.append(row)
            continue
        found.append([int(number) for number in numbers if number is not None])
    if unequal:
        _, labels_there, words_there = unequal[0]
        raise InputError(
            f"{key}: {table.places([row for row, _, _ in unequal])}: {labels_there} labels for {words_there} words; "
            "each word needs one label"
        )
    if missing:
        raise InputError(
            f"{key}: {table.places(missing)}: a word has no label; give it {IGNORED}, a label that does not count"
        )
    if wrong:
        raise _unknown(key, table, wrong, example, meaning)
    return found
