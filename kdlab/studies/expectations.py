"""A study's expectations of its rows, and the findings: claims, and the levels of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from kdlab.compare.columns import p_text
from kdlab.compare.records import tested
from kdlab.errors import InputError, did_you_mean
from kdlab.runs.run import FINISHED

from . import tables
from .records import row_record
from .study import Expectation, Row, Study, StudyTable

if TYPE_CHECKING:
    from kdlab.compare.statistics import Interval

HOLDS, MISSES, UNKNOWN = "holds", "does not hold", "not run"
# after the correction, chance can explain the deviation from the expected difference
BY_SIGN, AGAINST = "not significant; the sign agrees", "not significant; the sign disagrees"


@dataclass(frozen=True)
class Finding:
    """An expectation and the finding.

    Args:
        expected, found: as text, with numbers.
        verdict: one of the words above.
        p: the corrected two-sided p of the hypothesis that the difference is the expected one (``by``). None for a
            value, and where there is no test.
        comparisons: how many p values were corrected together.
        excess: the mean difference minus the expected one, in the expected direction; negative where it is smaller. 0
            for a value.
        by_seed: the excess of each seed; empty where seeds are not paired.
    """

    expectation: Expectation
    expected: str
    found: str
    verdict: str
    p: float | None = None
    comparisons: int = 0
    excess: float = 0.0
    by_seed: tuple[float, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether it holds, at least by its sign, or study.yaml explains why it does not."""
        return (
            self.verdict in (HOLDS, BY_SIGN) or self.verdict in (MISSES, AGAINST) and bool(self.expectation.explained)
        )

    @property
    def contradicted(self) -> bool:
        """Whether a rerun contradicts the study without a comparison with git: nothing was found, or the claim fails
        and study.yaml does not explain it. A claim that is not significant contradicts nothing, since its sign may
        differ between machines. :mod:`kdlab.studies.rerun` compares it with git."""
        return self.verdict == UNKNOWN or self.verdict == MISSES and not self.expectation.explained

    @property
    def why(self) -> str:
        """The verdict with its reason."""
        if self.verdict not in (MISSES, AGAINST):
            return self.verdict
        return (
            f"{self.verdict}: {self.expectation.explained}"
            if self.expectation.explained
            else f"{self.verdict}, and study.yaml does not explain it"
        )

    @property
    def claim(self) -> str:
        """The expectation in words: its own, or made from its row and what the row is compared with."""
        one = self.expectation
        return one.claim or (
            f"{one.row} reaches its value"
            if one.value is not None
            else f"{one.row} is {'above' if one.above else 'below'} {one.above or one.below}"
        )

    @property
    def test(self) -> str:
        """p, with the number of comparisons in brackets.

        >>> Finding(Expectation("t", "a", above="b"), "", "", HOLDS, 0.0123, 5).test
        '0.012 (5)'
        """
        return "" if self.p is None else f"{p_text(self.p)} ({self.comparisons})"


def values(table: StudyTable, row: Row, records: Sequence[dict], metric: str) -> dict[int, float]:
    """The test metric at the last epoch of a row's finished runs, by seed. Values that are not finite are left out.

    Raises:
        InputError: the runs have no such metric.
    """
    own = [
        row_record(record, row)
        for record in records
        if [table.name, row.name] in record["rows"] and record["status"] == FINISHED
    ]
    found = {record["seed"]: value for record in own if (value := tested(record, metric)) is not None}
    if own and not any(f"test/{metric}" in record["metrics"] for record in own):
        known = sorted(
            {
                key.removeprefix("test/")
                for record in own
                for key in record["metrics"]
                if key.startswith("test/") and not key.endswith("_best")
            }
        )
        raise InputError(
            f"tables.{table.name}: the runs of '{row.name}' have no test metric "
            f"'{metric}'{did_you_mean(metric, known)} (they have {', '.join(known)})"
        )
    return found


def findings(study: Study, records: Sequence[dict]) -> list[Finding]:
    """The findings on all claims, in their order.

    A claim that is one of its table's differences has the p of that table, so the two cannot contradict each other. The
    other claims of the study form one family with Holm's correction. A comparison that occurs in several claims counts
    once.
    """
    from kdlab.compare.statistics import holm

    found = [_finding(one, study, records) for one in study.expected]
    shown = {
        name: _differences(study.table(name), records)
        for name in {one.table for one in study.expected if one.value is None}
    }
    alone: dict[tuple, float] = {}
    for number, one in enumerate(found):
        expected = one.expectation
        if one.p is None:
            continue
        if (inside := _in_table(expected, study.table(expected.table), shown[expected.table])) is not None:
            found[number] = replace(one, p=inside[0], comparisons=inside[1])
        else:
            alone[_comparison(expected)] = one.p
    corrected = dict(zip(alone, holm(list(alone.values()))))
    for number, one in enumerate(found):
        if one.p is not None and not one.comparisons:
            found[number] = replace(one, p=corrected[_comparison(one.expectation)], comparisons=len(alone))
    return [
        one if one.verdict in (HOLDS, MISSES, UNKNOWN) else replace(one, verdict=_verdict(one.excess, one.p))
        for one in found
    ]


def levels(study: Study, records: Sequence[dict]) -> list[Finding]:
    """Whether the rows reach their values in study.yaml. These are no claims of a paper, but a check of the code."""
    return [_finding(one, study, records) for one in study.levels]


def _comparison(one: Expectation) -> tuple:
    return one.table, frozenset((one.row, one.above or one.below)), one.metric, one.by


def _differences(table: StudyTable, records: Sequence[dict]) -> tuple[dict, int]:
    """The differences in a table, by row, and the number of comparisons in their correction."""
    if table.baseline is None or not tables.any_finished(table, records):
        return {}, 0
    made = tables.table(table, records)
    return {row.label: row.difference for row in made.rows if row.difference is not None}, made.comparisons


def _in_table(one: Expectation, table: StudyTable, shown: tuple[dict, int]) -> tuple[float, int] | None:
    """p and the number of comparisons, if a claim is one of its table's differences."""
    rows = {one.row, one.above or one.below}
    if one.by or one.metric not in (None, table.metric) or table.baseline not in rows:
        return None
    difference = shown[0].get(*(rows - {table.baseline}))
    return None if difference is None or difference.p_adjusted is None else (difference.p_adjusted, shown[1])


def _finding(one: Expectation, study: Study, records: Sequence[dict]) -> Finding:
    """The finding on one expectation: p is not corrected, and the verdict is only the sign."""
    from kdlab.compare.statistics import interval

    table = study.table(one.table)
    metric = one.metric or table.metric
    own = values(table, table.row(one.row), records, metric)
    if one.value is not None:
        expected = f"{metric} {one.value:.4f} ± {one.tolerance:g}"
        if not own:
            return Finding(one, expected, "", UNKNOWN)
        found = interval(list(own.values()))
        holds = abs(found.mean - one.value) <= (one.tolerance or 0.0) + 1e-12
        return Finding(one, expected, shown(found), HOLDS if holds else MISSES)
    other_name = one.above or one.below or ""
    expected = f"{metric}: {'more' if one.above else 'less'} than {other_name}" + (
        f" by more than {one.by:g}" if one.by else ""
    )
    other = values(table, table.row(other_name), records, metric)
    if not own or not other:
        return Finding(one, expected, "", UNKNOWN)
    return _compared(one, expected, own, other)


def _compared(one: Expectation, expected: str, own: Mapping[int, float], other: Mapping[int, float]) -> Finding:
    from kdlab.compare.statistics import Interval, interval, paired, welch

    sign = 1 if one.above else -1
    pairs = len(set(own) & set(other)) > 1
    # a teacher with a single run, which belongs to no seed of its students: the scatter is that of the students
    if not pairs and len(other) == 1:
        other = dict.fromkeys(own, *other.values())
    elif not pairs and len(own) == 1:
        own = dict.fromkeys(other, *own.values())
    gains = {seed: sign * (own[seed] - other[seed]) for seed in sorted(set(own) & set(other))}
    if gains:
        tested = paired(gains, dict.fromkeys(gains, one.by))
        mean, p, n = cast(float, tested.mean), tested.p, tested.n
        half = tested.half_width if p is not None else None  # no test without scatter
    else:  # several runs on both sides without a common seed
        first, second = interval(list(own.values())), interval(list(other.values()))
        mean, n = sign * (first.mean - second.mean) - one.by, max(first.n, second.n)
        halves = [side.half_width for side in (first, second) if side.half_width is not None]
        half, p = (
            sum(width**2 for width in halves) ** 0.5,
            welch([value - sign * one.by for value in own.values()], list(other.values())),
        )
    how = "paired by seed" if pairs else "against one run" if gains else "against other seeds"
    text = f"{shown(Interval(sign * (mean + one.by), half, n), '+')}, {how}"
    return Finding(
        one,
        expected,
        text,
        _verdict(mean, None),
        p,
        excess=mean,
        by_seed=tuple(gain - one.by for gain in gains.values()) if pairs else (),
    )


def _verdict(excess: float, p: float | None) -> str:
    """The verdict, from the excess over the expected difference and its corrected p.

    >>> _verdict(0.01, 0.01), _verdict(-0.01, 0.01), _verdict(0.01, 0.2), _verdict(-0.01, None)
    ('holds', 'does not hold', 'not significant; the sign agrees', 'not significant; the sign disagrees')
    """
    from kdlab.compare.statistics import LEVEL

    if p is None or p >= LEVEL:
        return BY_SIGN if excess > 0 else AGAINST
    return HOLDS if excess > 0 else MISSES


def shown(found: Interval, sign: str = "") -> str:
    """An interval as text.

    >>> from kdlab.compare.statistics import interval
    >>> shown(interval([0.80, 0.82, 0.84])), shown(interval([0.8]), "+")
    ('0.8200 ± 0.0497 (n = 3)', '+0.8000 (n = 1)')
    """
    half = "" if found.half_width is None else f" ± {found.half_width:.4f}"
    return f"{found.mean:{sign}.4f}{half} (n = {found.n})"


def block(found: Sequence[Finding]) -> str:
    """The claims as Markdown for the README."""
    lines = ["| claim | row | expected | found | p | |", "| --- | --- | --- | --- | ---: | --- |"]
    lines += [line(one.claim, one.expectation.row, one.expected, one.found, one.test, one.why) for one in found]
    notes = ["On test, at the last epoch: means over seeds with 95 % intervals (Student's t), each by itself."]
    if any(one.p is not None for one in found):
        notes.append(
            "p is two-sided and corrected by Holm's method over the number of comparisons in brackets: those of the "
            "table if the claim is one of its differences, otherwise the other claims of this study. A claim with p of "
            "0.05 or more is not significant."
        )
    return "\n".join([*lines, "", " ".join(notes)])


def levels_block(found: Sequence[Finding]) -> str:
    """The levels as Markdown for the README."""
    lines = [
        (
            "**Regression checks.** Not claims of a paper: values of an earlier run, or of this one, that a rerun "
            "should reach."
        ),
        "",
        "| table | row | expected | found | |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join(
        [*lines, *(line(one.expectation.table, one.expectation.row, one.expected, one.found, one.why) for one in found)]
    )


def line(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(' '.join(text.split()).replace('|', chr(92) + '|') for text in cells)} |"
