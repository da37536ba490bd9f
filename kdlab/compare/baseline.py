"""The baseline row: which row it is, and how the others differ from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from kdlab.errors import InputError, did_you_mean

from .collect import BASELINE, NETWORK, TEACHER, Group
from .rows import Row
from .statistics import differences

MOST_LISTED = 10
Candidate = TypeVar("Candidate", Row, Group)
NO_BASELINE = ""  # in place of a label: rows are not compared with each other


def pick(rows: Sequence[Row], wanted: str | None) -> Row | None:
    """The baseline: the row with a label, or with an unambiguous part of it; by default the student baseline, if there
    is exactly one.

    Raises:
        InputError: no row, or more than one, has such a label.
    """
    rows = [row for row in rows if row.last]
    if wanted is None:
        return default(rows)
    if wanted == NO_BASELINE:
        return None
    text = _plain(wanted)
    for fits in (
        [row for row in rows if _plain(row.label) == text],
        [row for row in rows if text in _plain(row.label) and row.role != NETWORK],
        [row for row in rows if text in _plain(row.label)],
    ):
        if len(fits) == 1:
            if not fits[0].values:
                raise InputError(
                    f"baseline '{wanted}': the teacher's record holds only its mean, without seeds to pair; name a "
                    "student's row"
                )
            return fits[0]
        if fits:
            raise InputError(
                f"baseline '{wanted}': {len(fits)} rows have that in their name; name one of them by more of it",
                advice=_listed(fits),
            )
    known = [row for row in rows if row.role != NETWORK]
    raise InputError(
        f"baseline '{wanted}': no row is called so{did_you_mean(wanted, [row.label for row in known])}",
        advice=f"the rows:\n{_listed(known)}",
    )


def default(candidates: Sequence[Candidate]) -> Candidate | None:
    """The student baseline among rows or groups; None where there is none, or several."""
    alone = [one for one in candidates if one.role == BASELINE]
    return alone[0] if len(alone) == 1 else None


def _the_same(row: Row, baseline: Row) -> bool:
    """Whether a row repeats the baseline's own numbers. It does if it is the network that the baseline's run keeps, or
    a study's row whose overrides give the same runs or some of them."""
    return (row.runs <= baseline.runs or baseline.runs <= row.runs) and all(
        row.values[seed] == baseline.values[seed] for seed in set(row.values) & set(baseline.values)
    )


def on_other_data(row: Row, baseline: Row) -> bool:
    """Whether a row is known to be tested on other data than the baseline. A difference would then come from the
    data."""
    return row.data is not None and baseline.data is not None and row.data != baseline.data


def _listed(rows: Sequence[Row]) -> str:
    return "\n".join(
        [
            *(f"  {row.label}" for row in rows[:MOST_LISTED]),
            *([f"  and {len(rows) - MOST_LISTED} more"] if len(rows) > MOST_LISTED else []),
        ]
    )


def _plain(label: str) -> str:
    return " ".join(label.lower().split())


def compare_with(rows: Sequence[Row], baseline: Row, higher_is_better: bool) -> int:
    """Set the difference and the share of the gap of every row except the baseline and the teachers. Returns the number
    of comparisons in the correction.

    The share of the gap is (row - baseline) / (teacher - baseline), over the seeds that row and baseline share. It is
    given only where the teacher is better than the baseline by more than the half width of the baseline's interval. A
    smaller gap may be noise, and with one seed the interval is unknown.
    """
    compared = [
        row
        for row in rows
        if row is not baseline
        and row.role != TEACHER
        and row.values
        and not _the_same(row, baseline)
        and not on_other_data(row, baseline)
    ]
    for row, difference in zip(
        compared, differences([row.values for row in compared], baseline.values, higher_is_better)
    ):
        row.difference = difference
        if difference.mean is None or row.teacher is None:
            continue
        start = [value for seed, value in baseline.values.items() if seed in row.values]
        gap = row.teacher - sum(start) / len(start)
        noise = baseline.last.half_width if baseline.last else None
        if noise is not None and (gap if higher_is_better else -gap) > noise:
            row.gap_closed = difference.mean / gap
    tested = [row for row in compared if row.difference is not None and row.difference.p is not None]
    return len({tuple(sorted(row.values.items())) for row in tested})
