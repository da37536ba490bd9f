"""A rerun held against the results in git, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdlab.errors import InputError
from kdlab.runs.run import FINISHED

from .expectations import shown, values
from .records import view_of
from .study import Row, Study, StudyTable

SAME = 1e-9


@dataclass(frozen=True)
class Rerun:
    """A row's mean here and in git.

    Args:
        here, git: in figures.
        difference: of the means, over the seeds that both have.
        tolerance: of an expectation of the row's value; None where there is none.
        p: that other seeds of one thing differ as much or more, corrected over the study's rows; None where nothing tells
            (:func:`kdlab.compare.statistics.welch`).
    """

    table: str
    row: str
    metric: str
    here: str
    git: str
    difference: float
    tolerance: float | None = None
    p: float | None = None

    @property
    def within(self) -> bool:
        return self.tolerance is not None and abs(self.difference) <= self.tolerance

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against it: the same, within the tolerance, or no further apart than other seeds are."""
        from kdlab.compare.statistics import LEVEL

        return abs(self.difference) <= SAME or self.within or (self.tolerance is None if self.p is None else self.p >= LEVEL)

    @property
    def verdict(self) -> str:
        if abs(self.difference) <= SAME:
            return "the same"
        if self.within:
            return f"within {self.tolerance:g} ({self.difference:+.4f})"
        if self.p is None:
            return (f"differs by {self.difference:+.4f}; nothing to hold it against" if self.tolerance is None else
                    f"NOT within {self.tolerance:g} ({self.difference:+.4f})")
        return f"{'as other seeds differ' if self.agrees else 'NOT as other seeds differ'} ({self.difference:+.4f}, p = {self.p:.3f})"


def reruns(study: Study, here: Sequence[dict], git: Sequence[dict]) -> list[Rerun]:
    """Every row that has finished runs on both sides, in the order of the tables.

    On the machine of the results they are the same to the bit. Elsewhere sums are rounded otherwise, which moves a run as another seed would: so
    the seeds here and in git are held against each other as two samples, by Welch's t test of their means, with Holm's correction over the
    rows, since one row in twenty is beyond its own five per cent by chance. A tolerance that study.yaml gives for the row's value goes before that.
    What the test cannot know: a teacher that all seeds of a row share is one run, and moves all of them together.
    """
    from kdlab.compare.statistics import holm, interval, welch

    found, tested = [], {}
    for table in study.tables:
        for row in table.rows:
            ours, theirs = (_values(table, row, records) for records in (here, git))
            common = sorted(set(ours) & set(theirs))
            if not common:
                continue
            mine, other = ([side[seed] for seed in common] for side in (ours, theirs))
            tolerances = [one.tolerance for one in study.expected if one.value is not None
                          and (one.table, one.row, one.metric or table.metric) == (table.name, row.name, table.metric)]
            first, second = interval(mine), interval(other)
            found.append(Rerun(table.name, row.name, table.metric, shown(first), shown(second), first.mean - second.mean, max(tolerances, default=None)))
            if (p := welch(mine, other)) is not None:
                tested.setdefault((*mine, *other), (p, []))[1].append(len(found) - 1)       # runs that stand in two tables are one comparison
    for (_, places), p in zip(tested.values(), holm([p for p, _ in tested.values()])):
        for place in places:
            found[place] = replace(found[place], p=p)
    return found


def _values(table: StudyTable, row: Row, records: Sequence[dict]) -> dict[int, float]:
    """The table's metric by seed; empty where these records do not have it, or not of the row's network and bias."""
    known = [record for record in records if record["status"] != FINISHED or view_of(row) in record["class_recall"]]
    try:
        return values(table, row, known, table.metric)
    except InputError:
        return {}
