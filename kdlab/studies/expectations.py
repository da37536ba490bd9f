"""What a study expects of its rows, and what was found: claims, and the levels of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kdlab.compare.columns import p_text
from kdlab.compare.records import tested
from kdlab.errors import InputError, did_you_mean
from kdlab.runs.run import FINISHED

from . import tables
from .records import row_record
from .study import Expectation, Row, Study, StudyTable

HOLDS, MISSES, UNKNOWN = "holds", "does not hold", "not run"
# after the correction, chance is enough to explain how far the difference is from what was expected
BY_SIGN, AGAINST = "cannot be told; by its sign it holds", "cannot be told; by its sign it does not hold"


@dataclass(frozen=True)
class Finding:
    """An expectation and what came of it.

    Args:
        expected, found: in figures.
        verdict: one of the words above.
        p: two-sided, that the difference is what was expected (``by``), corrected; None for a value, and where there is
            no test.
        comparisons: how many p values were corrected together.
        excess: how much more the difference is than was expected, on average; below 0 where it is less. 0 for a value.
        by_seed: the same of each seed; empty where they are not paired.
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
        """Whether it holds, if only by its sign, or study.yaml says why not."""
        return (
            self.verdict in (HOLDS, BY_SIGN) or self.verdict in (MISSES, AGAINST) and bool(self.expectation.explained)
        )

    @property
    def contradicted(self) -> bool:
        """Whether a rerun speaks against the study by itself: nothing was found, or something else, which study.yaml
        does not explain. What cannot be told speaks against nothing, and its sign may turn from one machine to the
        next; :mod:`kdlab.studies.rerun` compares it with git."""
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
    """The test metric at the last epoch of a row's finished runs, by seed, as far as it is finite.

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
    """What came of every claim, in their order.

    A claim that is one of its table's differences has the p of that table, so that the two cannot contradict each
    other. The other claims of the study are one family of their own, with Holm's correction over them; a comparison
    that stands in several claims counts once.
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
    """Whether the rows reach the values that study.yaml gives for them: no claim of a paper, but a check of the
    code."""
    return [_finding(one, study, records) for one in study.levels]


def _comparison(one: Expectation) -> tuple:
    return one.table, frozenset((one.row, one.above or one.below)), one.metric, one.by


def _differences(table: StudyTable, records: Sequence[dict]) -> tuple[dict, int]:
    """The differences that a table shows, by row, and how many of them were corrected together."""
    if table.baseline is None or not tables.any_finished(table, records):
        return {}, 0
    made = tables.table(table, records)
    return {row.label: row.difference for row in made.rows if row.difference is not None}, made.comparisons


def _in_table(one: Expectation, table: StudyTable, shown: tuple[dict, int]) -> tuple[float, int] | None:
    """p and number of comparisons, where a claim is a difference that its table shows."""
    rows = {one.row, one.above or one.below}
    if one.by or one.metric not in (None, table.metric) or table.baseline not in rows:
        return None
    difference = shown[0].get(*(rows - {table.baseline}))
    return None if difference is None or difference.p_adjusted is None else (difference.p_adjusted, shown[1])


def _finding(one: Expectation, study: Study, records: Sequence[dict]) -> Finding:
    """What came of an expectation by itself: without correction, with the sign in place of the verdict."""
    from kdlab.compare.statistics import interval

    table = study.table(one.table)
    metric = one.metric or table.metric
    own = values(table, table.row(one.row), records, metric)
    if one.value is not None:
        expected = f"{metric} {one.value:.4f} ± {one.tolerance:g}"
        if not own:
            return Finding(one, expected, "", UNKNOWN)
        found = interval(list(own.values()))
        holds = abs(found.mean - one.value) <= one.tolerance + 1e-12
        return Finding(one, expected, shown(found), HOLDS if holds else MISSES)
    other_name = one.above or one.below
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
    if (
        not pairs and len(other) == 1
    ):  # a teacher of one run, which belongs to no seed of its students: the scatter is theirs
        other = dict.fromkeys(own, *other.values())
    elif not pairs and len(own) == 1:
        own = dict.fromkeys(other, *own.values())
    gains = {seed: sign * (own[seed] - other[seed]) for seed in sorted(set(own) & set(other))}
    if gains:
        tested = paired(gains, dict.fromkeys(gains, one.by))
        mean, p, n = tested.mean, tested.p, tested.n
        half = tested.half_width if p is not None else None  # without scatter there is no test
    else:  # several runs on both sides, and no seed in common
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
    """Of how much more the difference is than was expected, and its corrected p.

    >>> _verdict(0.01, 0.01), _verdict(-0.01, 0.01), _verdict(0.01, 0.2), _verdict(-0.01, None)
    ('holds', 'does not hold', 'cannot be told; by its sign it holds', 'cannot be told; by its sign it does not hold')
    """
    from kdlab.compare.statistics import LEVEL

    if p is None or p >= LEVEL:
        return BY_SIGN if excess > 0 else AGAINST
    return HOLDS if excess > 0 else MISSES


def shown(found, sign: str = "") -> str:
    """An interval in figures.

    >>> from kdlab.compare.statistics import interval
    >>> shown(interval([0.80, 0.82, 0.84])), shown(interval([0.8]), "+")
    ('0.8200 ± 0.0497 (n = 3)', '+0.8000 (n = 1)')
    """
    half = "" if found.half_width is None else f" ± {found.half_width:.4f}"
    return f"{found.mean:{sign}.4f}{half} (n = {found.n})"


def block(found: Sequence[Finding]) -> str:
    """The claims, as the README shows them."""
    lines = ["| claim | row | expected | found | p | |", "| --- | --- | --- | --- | ---: | --- |"]
    lines += [line(one.claim, one.expectation.row, one.expected, one.found, one.test, one.why) for one in found]
    notes = ["On test, at the last epoch: means over seeds with 95 % intervals (Student's t), each by itself."]
    if any(one.p is not None for one in found):
        notes.append(
            "p is two-sided and corrected by Holm's method over as many comparisons as stand in brackets: those of the "
            "table where the claim is one of its differences, otherwise the other claims of this study. Where it is "
            "not below 0.05, a claim cannot be told."
        )
    return "\n".join([*lines, "", " ".join(notes)])


def levels_block(found: Sequence[Finding]) -> str:
    """The levels, as the README shows them."""
    lines = [
        (
            "**Regression checks.** No claims of a paper: values of an earlier run, or of this one, which a rerun "
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
