"""A rerun held against the results in git, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdlab.errors import InputError
from kdlab.runs.run import FINISHED

from .expectations import shown, values
from .records import view_of
from .study import Row, Study, StudyTable

SAME = 1e-9
LEAST_SEEDS = 3


@dataclass(frozen=True)
class Rerun:
    """A row's mean here and in git.

    Args:
        here, git: in figures.
        difference: of the means, over the seeds that both have.
        limit: how far apart they may be; None where nothing tells.
    """

    table: str
    row: str
    metric: str
    here: str
    git: str
    difference: float
    limit: float | None

    @property
    def agrees(self) -> bool:
        """A single run without a tolerance has no limit, and is only shown."""
        return self.limit is None or abs(self.difference) <= max(self.limit, SAME)

    @property
    def verdict(self) -> str:
        if abs(self.difference) <= SAME:
            return "the same"
        if self.limit is None:
            return f"differs by {self.difference:+.4f}; a single run, nothing to hold it against"
        return f"{'within' if self.agrees else 'NOT within'} {self.limit:.4f} ({self.difference:+.4f})"


def reruns(study: Study, here: Sequence[dict], git: Sequence[dict]) -> list[Rerun]:
    """Every row that has finished runs on both sides, in the order of the tables.

    The means over common seeds may be as far apart as the larger of: the half width of the row's 95 % interval here, the same in git, and the
    tolerance of an expectation of the row's value. On the machine of the results they are the same to the bit, elsewhere sums are rounded
    otherwise, which moves a run as another seed would. The intervals of fewer than three seeds are too wide to hold anything against.
    """
    from kdlab.compare.statistics import interval

    found = []
    for table in study.tables:
        for row in table.rows:
            ours, theirs = (_values(table, row, records) for records in (here, git))
            common = sorted(set(ours) & set(theirs))
            if not common:
                continue
            mine, other = (interval([side[seed] for seed in common]) for side in (ours, theirs))
            limits = [one.tolerance for one in study.expected if (one.table, one.row, one.metric or table.metric) == (table.name, row.name, table.metric)
                      and one.value is not None]
            limits += [one.half_width for one in (mine, other) if one.n >= LEAST_SEEDS]
            found.append(Rerun(table.name, row.name, table.metric, shown(mine), shown(other), mine.mean - other.mean, max(limits, default=None)))
    return found


def _values(table: StudyTable, row: Row, records: Sequence[dict]) -> dict[int, float]:
    """The table's metric by seed; empty where these records do not have it, or not of the row's network and bias."""
    known = [record for record in records if record["status"] != FINISHED or view_of(row) in record["class_recall"]]
    try:
        return values(table, row, known, table.metric)
    except InputError:
        return {}
