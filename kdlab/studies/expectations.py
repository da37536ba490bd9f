"""What a study expects of its rows, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdlab.compare.records import tested
from kdlab.errors import InputError, did_you_mean
from kdlab.runs.run import FINISHED

from .records import row_record
from .study import Expectation, Row, Study, StudyTable

HOLDS, MISSES, UNKNOWN = "holds", "does not hold", "not run"
# the interval of the difference includes what was expected and its contrary
BY_SIGN, AGAINST = "cannot be told; by its sign it holds", "cannot be told; by its sign it does not hold"


@dataclass(frozen=True)
class Finding:
    """An expectation and what came of it.

    Args:
        expected, found: in figures.
        verdict: one of the words above.
    """

    expectation: Expectation
    expected: str
    found: str
    verdict: str

    @property
    def accepted(self) -> bool:
        """Whether it holds, if only by its sign, or study.yaml says why not."""
        return self.verdict in (HOLDS, BY_SIGN) or self.verdict in (MISSES, AGAINST) and bool(self.expectation.explained)

    @property
    def contradicted(self) -> bool:
        """Whether a rerun speaks against the study: nothing was found, or something else, which study.yaml does not explain. What cannot be told speaks
        against nothing, and its sign may turn from one machine to the next."""
        return self.verdict == UNKNOWN or self.verdict == MISSES and not self.expectation.explained

    @property
    def why(self) -> str:
        """The verdict with its reason."""
        if self.verdict not in (MISSES, AGAINST):
            return self.verdict
        return f"{self.verdict}: {self.expectation.explained}" if self.expectation.explained else f"{self.verdict}, and study.yaml does not explain it"

    @property
    def claim(self) -> str:
        one = self.expectation
        return one.claim or (f"{one.row} reaches its value" if one.value is not None else
                             f"{one.row} is {'above' if one.above else 'below'} {one.above or one.below}")


def values(table: StudyTable, row: Row, records: Sequence[dict], metric: str) -> dict[int, float]:
    """The test metric at the last epoch of a row's finished runs, by seed, as far as it is finite.

    Raises:
        InputError: the runs have no such metric.
    """
    own = [row_record(record, row) for record in records if [table.name, row.name] in record["rows"] and record["status"] == FINISHED]
    found = {record["seed"]: value for record in own if (value := tested(record, metric)) is not None}
    if own and not any(f"test/{metric}" in record["metrics"] for record in own):
        known = sorted({key.removeprefix("test/") for record in own for key in record["metrics"] if key.startswith("test/") and not key.endswith("_best")})
        raise InputError(f"tables.{table.name}: the runs of '{row.name}' have no test metric '{metric}'{did_you_mean(metric, known)} "
                         f"(they have {', '.join(known)})")
    return found


def findings(study: Study, records: Sequence[dict]) -> list[Finding]:
    """What came of every expectation, in their order."""
    return [_finding(one, study, records) for one in study.expected]


def _finding(one: Expectation, study: Study, records: Sequence[dict]) -> Finding:
    from kdlab.compare.statistics import Interval, interval, paired

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
    expected = f"{metric}: {'more' if one.above else 'less'} than {other_name}" + (f" by more than {one.by:g}" if one.by else "")
    other = values(table, table.row(other_name), records, metric)
    if not own or not other:
        return Finding(one, expected, "", UNKNOWN)
    common = sorted(set(own) & set(other))
    if len(common) > 1:
        pairs = paired(own, other)
        found = Interval(pairs.mean, pairs.half_width if pairs.p is not None else None, pairs.n)       # without scatter there is no test
        text = f"{shown(found, '+')}, paired by seed"
    else:           # a teacher of one run, which belongs to no seed of its students: the scatter is theirs
        ours, theirs = interval(list(own.values())), interval(list(other.values()))
        halves = [side.half_width for side in (ours, theirs) if side.half_width is not None]
        found = Interval(ours.mean - theirs.mean, sum(half**2 for half in halves) ** 0.5 if halves else None, max(ours.n, theirs.n))
        text = f"{shown(found, '+')}, against {'one run' if 1 in (ours.n, theirs.n) else 'other seeds'}"
    return Finding(one, expected, text, _verdict((found.mean if one.above else -found.mean) - one.by, found.half_width))


def _verdict(excess: float, half_width: float | None) -> str:
    """Of how much more there is than was expected, and of its interval; a single seed has none.

    >>> _verdict(0.01, 0.004), _verdict(-0.03, 0.02), _verdict(0.01, 0.02)
    ('holds', 'does not hold', 'cannot be told; by its sign it holds')
    >>> _verdict(-0.01, None)
    'cannot be told; by its sign it does not hold'
    """
    if half_width is None or abs(excess) <= half_width:
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
    """The generated table of the README."""
    lines = ["| claim | row | expected | found | |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(_cell(text) for text in (one.claim, one.expectation.row, one.expected, one.found, one.why))} |" for one in found]
    lines += ["", "On test, at the last epoch: means over seeds with 95 % intervals (Student's t), each by itself; the tables' p values are corrected."
              + (" What cannot be told has the expected difference (none, where no number is given) inside its interval."
                 if any(one.verdict in (BY_SIGN, AGAINST) for one in found) else "")]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
