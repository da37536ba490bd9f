"""What a study expects of its rows, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdlab.errors import InputError, did_you_mean
from kdlab.runs.run import FINISHED

from .records import row_record
from .study import Expectation, Row, Study, StudyTable

HOLDS, BY_SIGN, MISSES, UNKNOWN = "holds", "holds by its sign alone", "does not hold", "not run"


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
        return self.verdict in (HOLDS, BY_SIGN) or self.verdict == MISSES and bool(self.expectation.explained)

    @property
    def why(self) -> str:
        """The verdict with its reason."""
        if self.verdict != MISSES:
            return self.verdict
        return f"{MISSES}: {self.expectation.explained}" if self.expectation.explained else f"{MISSES}, and study.yaml does not explain it"

    @property
    def claim(self) -> str:
        one = self.expectation
        return one.claim or (f"{one.row} reaches its value" if one.value is not None else
                             f"{one.row} is {'above' if one.above else 'below'} {one.above or one.below}")


def values(table: StudyTable, row: Row, records: Sequence[dict], metric: str) -> dict[int, float]:
    """The test metric at the last epoch of a row's finished runs, by seed.

    Raises:
        InputError: the runs have no such metric.
    """
    own = [row_record(record, row) for record in records if [table.name, row.name] in record["rows"] and record["status"] == FINISHED]
    found = {record["seed"]: record["metrics"][f"test/{metric}"] for record in own if f"test/{metric}" in record["metrics"]}
    if own and not found:
        known = sorted({key.removeprefix("test/") for record in own for key in record["metrics"] if key.startswith("test/") and not key.endswith("_best")})
        raise InputError(f"tables.{table.name}: the runs of '{row.name}' have no test metric '{metric}'{did_you_mean(metric, known)} "
                         f"(they have {', '.join(known)})")
    return found


def findings(study: Study, records: Sequence[dict]) -> list[Finding]:
    """What came of every expectation, in their order."""
    return [_finding(one, study, records) for one in study.expected]


def _finding(one: Expectation, study: Study, records: Sequence[dict]) -> Finding:
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
    expected = f"{metric}: {'more' if one.above else 'less'} than {other_name}" + (f" by more than {one.by:g}" if one.by else "")
    other = values(table, table.row(other_name), records, metric)
    if not own or not other:
        return Finding(one, expected, "", UNKNOWN)
    common = sorted(set(own) & set(other))
    half = None
    if common:
        found = interval([own[seed] - other[seed] for seed in common])
        text = f"{shown(found, '+')}, paired by seed"
        mean, half = found.mean, found.half_width
    else:           # a teacher of one seed, say
        mean = sum(own.values()) / len(own) - sum(other.values()) / len(other)
        text = f"{mean:+.4f}, between means of {len(own)} and {len(other)}"
    return Finding(one, expected, text, _verdict((mean if one.above else -mean) - one.by, half))


def _verdict(excess: float, half_width: float | None) -> str:
    """Of how much more there is than was expected, and of its interval where there are several seeds.

    >>> _verdict(0.01, 0.004), _verdict(0.01, 0.02), _verdict(-0.01, 0.02), _verdict(0.04, None)
    ('holds', 'holds by its sign alone', 'does not hold', 'holds')
    """
    if excess <= 0:
        return MISSES
    return HOLDS if half_width is None or excess > half_width else BY_SIGN


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
    lines += ["", "On test, at the last epoch: means over seeds with 95 % intervals (Student's t)."
              + (" By its sign alone: the interval includes no difference." if any(one.verdict == BY_SIGN for one in found) else "")]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
