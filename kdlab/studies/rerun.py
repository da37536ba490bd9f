"""A rerun compared with the results in git: its rows, and its claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdlab.compare.columns import p_text
from kdlab.errors import InputError
from kdlab.runs.run import FINISHED

from .expectations import HOLDS, MISSES, findings, line, shown, values
from .records import view_of
from .study import Row, Study, StudyTable
from .tables import origin

SAME = 1e-9
LEAST_LEFT = 0.25  # share of an effect: about 0 for a method that stopped working, about 1 in a correct rerun


@dataclass(frozen=True)
class Rerun:
    """A row's mean here and in git.

    Args:
        here, git: in figures.
        difference: the difference of the means, over the seeds that both have.
        tolerance: the tolerance of the row's value in study.yaml; None if there is none.
        p: the corrected p of the hypothesis that both sides differ only in their seeds
            (:func:`kdlab.compare.statistics.welch`), over the study's rows. None where there is no test.
        same: whether every seed has the same value on both sides.
    """

    table: str
    row: str
    metric: str
    here: str
    git: str
    difference: float
    tolerance: float | None = None
    p: float | None = None
    same: bool = False

    @property
    def within(self) -> bool:
        """Whether the difference is within the tolerance; True where there is none."""
        return self.tolerance is None or abs(self.difference) <= self.tolerance

    @property
    def agrees(self) -> bool:
        """Whether both sides are the same, or within the tolerance and no further apart than other seeds."""
        return self.same or self.within and not _differ(self.p)

    @property
    def verdict(self) -> str:
        """The result of the comparison in words, with the difference and p."""
        if self.same:
            return "the same"
        parts = [] if self.tolerance is None else [f"{'within' if self.within else 'NOT within'} {self.tolerance:g}"]
        if self.p is not None:
            parts.append(f"{'NOT ' if _differ(self.p) else ''}as other seeds differ")
        figures = ", ".join([f"{self.difference:+.4f}", *([f"p = {p_text(self.p)}"] if self.p is not None else [])])
        return f"{', '.join(parts)} ({figures})" if parts else f"differs by {figures}; no test"


@dataclass(frozen=True)
class Again:
    """A claim that is decided in git or here, and the finding on the other side.

    Args:
        here, git: what was found.
        left: the share of the effect that the other side finds: 1 is all of it, 0 nothing; a negative share is the
            opposite effect.
        p: the corrected p of the hypothesis that both sides differ only in their seeds, over the claims that are
            decided. None where there is no test.
    """

    claim: str
    row: str
    here: str
    git: str
    left: float
    p: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether at least :data:`LEAST_LEFT` of the effect is found again, or the scatter of seeds explains the
        rest."""
        return self.left >= LEAST_LEFT or self.p is not None and not _differ(self.p)

    @property
    def verdict(self) -> str:
        """The result of the comparison in words, with the share of the effect and p."""
        figures = ", ".join(
            [f"{round(100 * self.left)} % of the effect", *([f"p = {p_text(self.p)}"] if self.p is not None else [])]
        )
        return f"{'agrees' if self.agrees else 'NOT found again'} ({figures})"


def _differ(p: float | None) -> bool:
    from kdlab.compare.statistics import LEVEL

    return p is not None and p < LEVEL


def reruns(study: Study, here: Sequence[dict], git: Sequence[dict]) -> list[Rerun]:
    """Every row that has finished runs on both sides, in the order of the tables.

    On the machine of the results they are the same bit for bit. On other machines sums are rounded differently, which
    changes a run about as much as another seed. So the seeds here and in git are compared as two samples, by Welch's t
    test of their means. Holm's correction covers the rows that are not the same, since one row in twenty exceeds five
    per cent by chance. If study.yaml has a value for the row, its tolerance must hold, too. Neither check is enough
    alone: a tolerance may be wider than the whole effect of a method, and a test of few seeds misses much. The test
    does not model one thing: a teacher that all seeds of a row share is a single run, and shifts all of them together.

    The seeds are not paired with those in git. Most rows would allow it: in the 20 rows of results/rerun.jsonl, the
    accuracies of a seed on both sides have a median correlation of 0.82, although four of the rows have none. But a
    shared teacher shifts all seeds alike, which a paired test takes for an effect.
    """
    from kdlab.compare.statistics import holm, interval, welch

    found: list[Rerun] = []
    tested: dict[tuple, tuple[float, list[int]]] = {}
    for table in study.tables:
        for row in table.rows:
            ours, theirs = (_values(table, row, records) for records in (here, git))
            common = sorted(set(ours) & set(theirs))
            if not common:
                continue
            mine, other = ([side[seed] for seed in common] for side in (ours, theirs))
            first, second = interval(mine), interval(other)
            same = all(abs(ours[seed] - theirs[seed]) <= SAME for seed in common)
            found.append(
                Rerun(
                    table.name,
                    row.name,
                    table.metric,
                    shown(first),
                    shown(second),
                    first.mean - second.mean,
                    study.tolerance(table, row),
                    same=same,
                )
            )
            if not found[-1].same and (p := welch(mine, other)) is not None:
                # runs that are in two tables are one comparison
                tested.setdefault((*mine, *other), (p, []))[1].append(len(found) - 1)
    for (_, places), p in zip(tested.values(), holm([p for p, _ in tested.values()])):
        for place in places:
            found[place] = replace(found[place], p=p)
    return found


def claims(study: Study, here: Sequence[dict], git: Sequence[dict]) -> list[Again]:
    """Every claim that was examined on both sides and is decided, for or against, on at least one of them.

    A claim that is undecided on the other side is no objection: in a quarter to a half of correct reruns, some claim of
    logit_methods becomes undecided. It is an objection if the effect is gone. It is gone if less than
    :data:`LEAST_LEFT` of it is left, and the seeds' differences are further apart than those of other seeds (Welch's
    test, with Holm's correction over these claims). Without scatter there is no test, and the share alone decides, for
    example where a row has become a copy of another. The differences within seeds scatter less than the rows. So this
    comparison can find a method that has stopped working where that of the rows cannot. experiments/reruns measures how
    often either is wrong.
    """
    from kdlab.compare.statistics import holm, welch

    found: list[Again] = []
    p: dict[int, float] = {}
    for ours, theirs in zip(findings(study, here), findings(study, git)):
        decided = [one for one in (theirs, ours) if one.expectation.value is None and one.verdict in (HOLDS, MISSES)]
        if decided and ours.found and theirs.found:
            most = max(decided, key=lambda one: abs(one.excess))
            left = (ours if most is theirs else theirs).excess / most.excess
            if ours.by_seed and theirs.by_seed and (one := welch(ours.by_seed, theirs.by_seed)) is not None:
                p[len(found)] = one
            found.append(Again(theirs.claim, theirs.expectation.row, ours.found, theirs.found, left))
    for place, corrected in zip(p, holm(list(p.values()))):
        found[place] = replace(found[place], p=corrected)
    return found


def objections(study: Study, here: Sequence[dict], git: Sequence[dict]) -> int:
    """How many rows and claims of a rerun do not agree with git."""
    compared: list[Rerun | Again] = [*reruns(study, here, git), *claims(study, here, git)]
    return sum(not one.agrees for one in compared)


def block(study: Study, here: Sequence[dict], git: Sequence[dict]) -> str:
    """The rerun in git as Markdown for the README."""
    rows, found = reruns(study, here, git), claims(study, here, git)
    wrong = objections(study, here, git)
    head = [
        f"**Trained again.** {origin([record for record in here if record['status'] == FINISHED])}",
        f"{wrong} of {len(rows)} rows and {len(found)} claims do not agree."
        if wrong
        else f"All {len(rows)} rows agree, and all {len(found)} significant claims.",
    ]
    lines = [" ".join(head), "", "| table | row | again | above | |", "| --- | --- | --- | --- | --- |"]
    lines += [line(one.table, one.row, one.here, one.git, one.verdict) for one in rows]
    if found:
        lines += ["", "| claim | row | again | above | |", "| --- | --- | --- | --- | --- |"]
        lines += [line(one.claim, one.row, one.here, one.git, one.verdict) for one in found]
    return "\n".join(lines)


def _values(table: StudyTable, row: Row, records: Sequence[dict]) -> dict[int, float]:
    """The table's metric by seed; empty where these records lack it, or lack it for the row's network and bias."""
    known = [record for record in records if record["status"] != FINISHED or view_of(row) in record["class_recall"]]
    try:
        return values(table, row, known, table.metric)
    except InputError:
        return {}
