"""The table of a comparison."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdlab.errors import InputError, did_you_mean
from kdlab.runs.files import write_text
from kdlab.runs.measurements import SCALARS
from kdlab.runs.run import Run
from kdlab.tasks.metric import CLASSIFICATION, Report

from .baseline import NO_BASELINE, compare_with, on_other_data, pick
from .collect import BASELINE, NETWORK, TEACHER, Group, groups
from .columns import Column, columns_of, several
from .latex import latex
from .measured import measurements_of
from .records import metrics_of, report_of, tested
from .rows import Row, rows_of
from .statistics import LARGE_EFFECT, LEVEL
from .text import csv_text, html, markdown, show


@dataclass
class Table:
    """The rows of a comparison, and notes on what is not in them.

    Args:
        notes: what is left out, and why.
        baseline: the label of the row that the others are compared with; None if there is none.
        comparisons: how many p values were corrected together.
        further: metrics with a column of their own in addition to the main one; the CSV has all.
        report: of the runs' task.
    """

    metric: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    baseline: str | None = None
    comparisons: int = 0
    further: tuple[str, ...] = ()
    report: Report = CLASSIFICATION

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the metric is better."""
        return self.report.higher_is_better(self.metric)

    def columns(self) -> list[Column]:
        """The columns for which at least one row has a value."""
        return columns_of(self)

    def head(self) -> list[str]:
        """The names of the columns."""
        return [column.head for column in self.columns()]

    def cells(self) -> list[list[str]]:
        """The texts of each row."""
        columns = self.columns()
        return [[column.cell(row) for column in columns] for row in self.rows]

    def explanation(self, columns: Sequence[Column] | None = None) -> list[str]:
        """An explanation of the numbers, in sentences.

        Args:
            columns: the columns that are shown; default: all.
        """
        present = {column.key for column in (self.columns() if columns is None else columns)}
        lines = [
            "Means over seeds and half widths of 95 % intervals (Student's t) on test. The checkpoint called best was "
            "chosen on validation, never on test."
        ]
        low = [
            name
            for key, name in (("last", self.metric), *((name, name) for name in self.further))
            if key in present and not self.report.higher_is_better(name)
        ]
        if low:
            lines.append(f"Lower is better: {', '.join(dict.fromkeys(low))}.")
        if "difference" in present:
            lines.append(
                f"Difference: to '{self.baseline}', paired by seed, with the 95 % interval of that difference alone."
            )
        if "verdict" in present and self.comparisons:
            lines.append(
                f"Better and worse: p < {LEVEL:g} in a two-sided paired t test, after Holm's correction over "
                f"{several(self.comparisons, 'comparison')}. Too few seeds to tell: this number of seeds "
                f"would miss a difference of {LARGE_EFFECT:g} times its standard deviation between seeds in more than "
                "one of five cases."
            )
        if "detectable" in present:
            lines.append(
                "Detectable: the smallest difference that this number of seeds would find with 80 % power, corrected, "
                "if differences vary as these do."
            )
        if "effect" in present:
            lines.append(
                "Effect: mean difference in units of its standard deviation between seeds (d_z with Hedges's "
                "correction)."
            )
        if "retention" in present:
            lines.append(
                "Retention: the share of the teacher's metric; for rows without a teacher, of the only teacher in the "
                "table."
            )
        if "gap_closed" in present:
            lines.append("Gap closed: the share of the distance from the baseline to the teacher.")
        if (
            present & {"retention", "gap_closed"}
            and len({row.teacher for row in self.rows if row.difference and row.teacher is not None}) > 1
        ):
            lines.append("Rows have teachers with different scores, so these shares cannot be compared.")
        return lines

    def show(self, everything: bool = False) -> None:
        """Print the columns that fit into the terminal's width, or all of them in several blocks."""
        show(self, everything)

    def markdown(self, leave_out: Sequence[str] = ()) -> str:
        """The table as Markdown, with the explanation and the notes.

        Args:
            leave_out: keys of columns (:func:`kdlab.compare.columns.columns_of`).
        """
        return markdown(self, leave_out)

    def _repr_html_(self) -> str:
        return html(self)

    def csv(self) -> str:
        """The table as CSV: everything in full precision, one number per column."""
        return csv_text(self)

    def write(self, folder: Path, stem: str) -> None:
        """Write it as ``stem.csv``, ``.md`` and ``.tex``. Raises OSError where that cannot be done."""
        for ending, text in (("csv", self.csv()), ("md", self.markdown()), ("tex", self.latex())):
            write_text(folder / f"{stem}.{ending}", text)

    def latex(self) -> str:
        """The table as LaTeX for a paper (booktabs), with a caption that explains its numbers."""
        return latex(self)


def comparison(
    runs: Iterable[Run], metric: str | None = None, baseline: str | None = None, further: Sequence[str] = ()
) -> Table:
    """The table of some runs; arguments as for :func:`table_of`."""
    found, left_out = groups(runs)
    return table_of(found, metric, baseline, left_out, further)


def table_of(
    groups: Sequence[Group],
    metric: str | None = None,
    baseline: str | None = None,
    notes: Sequence[str] = (),
    further: Sequence[str] = (),
    strict: bool = True,
) -> Table:
    """The table of some groups, in their order.

    Args:
        metric: the main test metric; None: the headline of the runs' task.
        baseline: the label of a row or an unambiguous part of one; by default the student baseline, if there is exactly
            one; ``""``: none.
        notes: lines about runs that are not in the groups.
        further: further metrics with a column, as a list or separated by commas: test metrics, or measurements
            (``checkpoint_bytes``, ``latency_ms``, …).
        strict: whether a further metric that no run has is an error; otherwise it becomes a note.

    Raises:
        InputError: the runs are of several tasks, no run is finished, none has the metric or one of the further ones,
            or the baseline is not found.
    """
    if isinstance(further, str):
        further = [name.strip() for name in further.split(",") if name.strip()]
    report = report_of(record for group in groups for record in group.records)
    metric = report.headline.name if metric is None else metric
    notes = [*(f"not in the table: {line}" for group in groups for line in group.unfinished), *notes]
    measurements, measured_notes = measurements_of(groups)
    rows = rows_of(groups, metric, measurements, report)
    # the column of the best checkpoint is part of every table, so it cannot be the main metric
    if not any(row.last for row in rows) or metric.endswith("_best"):
        known = sorted({name for group in groups for record in group.records for name in metrics_of(record)})
        raise InputError(
            f"no finished run has the test metric '{metric}'"
            + (f"; they have {', '.join(known)}{did_you_mean(metric, known)}" if known else ""),
            advice="\n".join(notes),
        )
    known = sorted({name for row in rows for name in row.further})
    unknown = [name for name in further if name not in known and name != metric]
    if unknown and not strict:
        notes += [f"no column for {name}: no finished run has it" for name in unknown]
        further = [name for name in further if name not in unknown]
    elif unknown:
        raise InputError(
            *(
                f"further: no finished run has '{name}'; they have {', '.join(known)}{did_you_mean(name, known)}"
                for name in unknown
            ),
            advice="latency_ms is of one sample: kdlab measure --batches 1,64"
            if "latency_ms" in unknown and measurements
            else "",
        )
    chosen = pick(rows, baseline)
    comparisons = compare_with(rows, chosen, report.higher_is_better(metric)) if chosen else 0
    notes += [
        *(_baseline_notes(rows, chosen) if baseline != NO_BASELINE else []),
        *_seed_notes(groups),
        *_value_notes(groups, [metric, *further]),
    ]
    if {*further} & {*SCALARS}:
        notes += measured_notes
    return Table(
        metric,
        rows,
        notes,
        chosen.label if chosen else None,
        comparisons,
        tuple(dict.fromkeys(name for name in further if name != metric)),
        report,
    )


def _baseline_notes(rows: Sequence[Row], baseline: Row | None) -> list[str]:
    """Notes on missing differences, and on differences over fewer seeds than a row has."""
    if baseline is None:
        without = [row.label for row in rows if row.role == BASELINE and not row.last]
        if without:
            return [
                (
                    f"no differences: the student baseline, '{without[0]}', has no value of the metric; --baseline "
                    "names another row"
                )
            ]
        alone = sum(row.role == BASELINE for row in rows)
        if len(rows) == 1:
            return []
        return [
            f"no differences: there {'are' if alone else 'is'} {alone or 'no'} student baseline{'s' if alone else ''}; "
            "--baseline names the row with which the others are compared"
        ]
    fewer = [
        f"{row.label} ({row.difference.n} of {len(row.values)})"
        for row in rows
        if row.difference and row.difference.n < len(row.values)
    ]
    elsewhere = [f"{row.label} ({row.data})" for row in rows if row.role != TEACHER and on_other_data(row, baseline)]
    noted = [
        f"{row.label}: {row.difference.note}"
        for row in rows
        if row.difference and row.difference.note and row.difference.n > 1
    ]
    return [
        *(
            [f"no differences to the baseline, which was tested on {baseline.data}: {'; '.join(elsewhere)}"]
            if elsewhere
            else []
        ),
        *([f"differences over the seeds that the baseline has too: {'; '.join(fewer)}"] if fewer else []),
        *noted,
    ]


def _seed_notes(groups: Sequence[Group]) -> list[str]:
    """Notes on groups that lack seeds of other groups."""
    seeds = {
        group.label: [record["seed"] for record in group.records if record.get("seed") is not None]
        for group in groups
        if group.role not in (TEACHER, NETWORK) and group.records
    }
    every = sorted({seed for own in seeds.values() for seed in own})
    lacking, result = defaultdict(list), []
    for label, own in seeds.items():
        if own and (absent := tuple(seed for seed in every if seed not in own)):
            lacking[absent].append(label)
        result += [
            f"{label}: two runs have seed {seed}; the later one counts in differences"
            for seed in sorted(set(own))
            if own.count(seed) > 1
        ]
    return [
        *result,
        *(
            f"seed{'s' if len(absent) > 1 else ''} {', '.join(map(str, absent))}, which other rows have, "
            f"{'are' if len(absent) > 1 else 'is'} missing in: {'; '.join(labels)}"
            for absent, labels in lacking.items()
        ),
    ]


def _value_notes(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """Notes on runs with a metric that is not finite (null in their records), and on memory that was measured for the
    process in some runs and for a GPU in others."""
    result = []
    for group in groups:
        for metric in dict.fromkeys(metrics):
            bad = [
                str(record.get("seed"))
                for record in group.records
                if f"test/{metric}" in (record.get("metrics") or {}) and tested(record, metric) is None
            ]
            if bad:
                result.append(
                    f"{group.label}: {metric} is not finite for seed{'s' if len(bad) > 1 else ''} {', '.join(bad)}; "
                    "its mean is without them"
                )
    if (
        "peak_memory_bytes" in metrics
        and len({record.get("peak_memory_of") for group in groups for record in group.records}) > 1
    ):
        result.append(
            "peak_memory_bytes: of the whole process in some runs, of a GPU's tensors in others, which cannot be "
            "compared"
        )
    return result
