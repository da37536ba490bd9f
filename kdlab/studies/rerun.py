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
LEAST_LEFT = 0.25  # of an effect; of a method that stopped working about nothing is left, of a right rerun about all


@dataclass(frozen=True)
class Rerun:
    """A row's mean here and in git.

    Args:
        here, git: in figures.
        difference: of the means, over the seeds that both have.
        tolerance: of a value that study.yaml gives for the row; None where there is none.
        p: that other seeds of one thing differ as much or more, corrected over the study's rows; None where there is no
            test (:func:`kdlab.compare.statistics.welch`).
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
        """Whether nothing speaks against it: the same, or within the tolerance and no further apart than other seeds
        are."""
        return self.same or self.within and not _told(self.p)

    @property
    def verdict(self) -> str:
        """The result of the comparison in words, with the difference and p."""
        if self.same:
            return "the same"
        parts = [] if self.tolerance is None else [f"{'within' if self.within else 'NOT within'} {self.tolerance:g}"]
        if self.p is not None:
            parts.append(f"{'NOT ' if _told(self.p) else ''}as other seeds differ")
        figures = ", ".join([f"{self.difference:+.4f}", *([f"p = {p_text(self.p)}"] if self.p is not None else [])])
        return f"{', '.join(parts)} ({figures})" if parts else f"differs by {figures}; no test"


@dataclass(frozen=True)
class Again:
    """A claim that is told in git or here, and what came of it on the other side.

    Args:
        here, git: what was found.
        left: how much of the effect is found on the side where it is smaller: 1 is all of it, 0 nothing, below 0 the
            contrary.
        p: that the differences of other seeds are as far apart or more, corrected over the claims that are told; None
            where there is no test.
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
        return self.left >= LEAST_LEFT or self.p is not None and not _told(self.p)

    @property
    def verdict(self) -> str:
        """The result of the comparison in words, with the share of the effect and p."""
        figures = ", ".join(
            [f"{round(100 * self.left)} % of the effect", *([f"p = {p_text(self.p)}"] if self.p is not None else [])]
        )
        return f"{'agrees' if self.agrees else 'NOT found again'} ({figures})"


def _told(p: float | None) -> bool:
    from kdlab.compare.statistics import LEVEL

    return p is not None and p < LEVEL


def reruns(study: Study, here: Sequence[dict], git: Sequence[dict]) -> list[Rerun]:
    """Every row that has finished runs on both sides, in the order of the tables.

    On the machine of the results they are the same to the bit. Elsewhere sums are rounded otherwise, which moves a run
    about as another seed would: so the seeds here and in git are compared as two samples, by Welch's t test of their
    means, with Holm's correction over the rows that are not the same, since one row in twenty is beyond its own five
    per cent by chance. Where study.yaml gives a value for the row, its tolerance holds as well: one of them alone
    cannot clear a row, since a tolerance may be wider than all that a method does, and a test of few seeds misses much.
    What the test cannot know: a teacher that all seeds of a row share is one run, and moves all of them together.

    The seeds are not paired with those in git. Most rows would allow it (a seed's accuracy here and there has a median
    correlation of 0.82 in the 20 rows of results/rerun.jsonl, and none in four of them), but a shared teacher moves all
    seeds alike, which a paired test takes for an effect.
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
                tested.setdefault((*mine, *other), (p, []))[1].append(
                    len(found) - 1
                )  # runs that stand in two tables are one comparison
    for (_, places), p in zip(tested.values(), holm([p for p, _ in tested.values()])):
        for place in places:
            found[place] = replace(found[place], p=p)
    return found


def claims(study: Study, here: Sequence[dict], git: Sequence[dict]) -> list[Again]:
    """Every claim that was examined on both sides and is told, for or against, on one of them.

    That a claim is not told on the other side is no objection: some claim of logit_methods is lost so in a quarter to a
    half of right reruns. That its effect is gone is one. It is gone where less than :data:`LEAST_LEFT` of it is left
    and the differences of the seeds are further apart than those of other seeds (Welch's test, with Holm's correction
    over these claims). Without scatter there is no test, and the share alone decides: so it is where a row has become a
    copy of another. The differences of a seed scatter less than rows do, so this finds a method that has stopped
    working where the rows do not. How often either is wrong: experiments/reruns.
    """
    from kdlab.compare.statistics import holm, welch

    found, p = [], {}
    for ours, theirs in zip(findings(study, here), findings(study, git)):
        told = [one for one in (theirs, ours) if one.expectation.value is None and one.verdict in (HOLDS, MISSES)]
        if told and ours.found and theirs.found:
            most = max(told, key=lambda one: abs(one.excess))
            left = (ours if most is theirs else theirs).excess / most.excess
            if ours.by_seed and theirs.by_seed and (one := welch(ours.by_seed, theirs.by_seed)) is not None:
                p[len(found)] = one
            found.append(Again(theirs.claim, theirs.expectation.row, ours.found, theirs.found, left))
    for place, corrected in zip(p, holm(list(p.values()))):
        found[place] = replace(found[place], p=corrected)
    return found


def objections(study: Study, here: Sequence[dict], git: Sequence[dict]) -> int:
    """How many rows and claims of a rerun do not agree with git."""
    return sum(not one.agrees for one in (*reruns(study, here, git), *claims(study, here, git)))


def block(study: Study, here: Sequence[dict], git: Sequence[dict]) -> str:
    """A rerun that is kept, as the README shows it."""
    rows, found = reruns(study, here, git), claims(study, here, git)
    wrong = objections(study, here, git)
    head = [
        f"**Trained again.** {origin([record for record in here if record['status'] == FINISHED])}",
        f"{wrong} of {len(rows)} rows and {len(found)} claims do not agree."
        if wrong
        else f"All {len(rows)} rows agree, and all {len(found)} claims that are told.",
    ]
    lines = [" ".join(head), "", "| table | row | again | above | |", "| --- | --- | --- | --- | --- |"]
    lines += [line(one.table, one.row, one.here, one.git, one.verdict) for one in rows]
    if found:
        lines += ["", "| claim | row | again | above | |", "| --- | --- | --- | --- | --- |"]
        lines += [line(one.claim, one.row, one.here, one.git, one.verdict) for one in found]
    return "\n".join(lines)


def _values(table: StudyTable, row: Row, records: Sequence[dict]) -> dict[int, float]:
    """The table's metric by seed; empty where these records do not have it, or not of the row's network and bias."""
    known = [record for record in records if record["status"] != FINISHED or view_of(row) in record["class_recall"]]
    try:
        return values(table, row, known, table.metric)
    except InputError:
        return {}
