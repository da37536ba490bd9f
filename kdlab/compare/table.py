"""The table of a comparison: on the terminal, as CSV, as Markdown."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from html import escape

from kdlab.errors import InputError, did_you_mean
from kdlab.runs.networks import kept_in_short
from kdlab.runs.run import Run

from .collect import BASELINE, NETWORK, TEACHER, Group, groups
from .statistics import Interval, interval

ORDER = {TEACHER: 0, BASELINE: 1}


@dataclass
class Row:
    """A group, or one of its networks, in numbers.

    ``last`` and ``best`` are intervals of the test metric at the last epoch and at the best on validation; ``kept`` says which of several
    networks a variant's numbers are of, and that it was chosen on validation where it was.
    """

    role: str
    label: str
    last: Interval | None
    best: Interval | None
    retention: float | None
    parameters: int | None
    seconds: float | None
    weights: str
    kept: str = ""


@dataclass
class Table:
    """Rows, and the lines about what is not in them."""

    metric: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    HEAD = ("role", "variant", "weights", "{metric}, last epoch", "{metric}, best on validation", "n", "retention", "parameters", "seconds")

    def _cells(self) -> list[list[str]]:
        return [[row.role, _shown(row), row.weights, _interval(row.last), _interval(row.best), str(row.last.n if row.last else 0),
                 "" if row.retention is None else f"{row.retention:.1%}", "" if row.parameters is None else f"{row.parameters:,}",
                 "" if row.seconds is None else f"{row.seconds:.1f}"] for row in self.rows]

    def _head(self) -> list[str]:
        return [text.format(metric=self.metric) for text in self.HEAD]

    def show(self) -> None:
        """Print it."""
        from rich import markup
        from rich.console import Console
        from rich.table import Table as RichTable

        console = Console()
        console = console if console.is_terminal else Console(width=200)
        table = RichTable(box=None, pad_edge=False)
        for number, name in enumerate(self._head()):
            table.add_column(name, justify="left" if number < 3 else "right", overflow="fold")
        for cells in self._cells():
            table.add_row(*map(markup.escape, cells))          # a label may hold loss=[ce]
        console.print(table)
        for note in [_EXPLANATION, *self.notes]:
            print(note)

    def markdown(self) -> str:
        head = self._head()
        lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * 3 + ['---:'] * (len(head) - 3))} |"]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in self._cells()]
        return "\n".join([*lines, "", *[f"{note}\n" for note in [_EXPLANATION, *self.notes]]])

    def _repr_html_(self) -> str:
        """As a notebook shows it: words to the left, numbers to the right, the lines about the table below."""
        def line(cells: list[str], tag: str) -> str:
            styles = ["text-align: left"] * 3 + ["text-align: right" + "; white-space: nowrap" * (tag == "td")] * (len(cells) - 3)
            return "<tr>" + "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for style, cell in zip(styles, cells)) + "</tr>"

        rows = "".join(line(cells, "td") for cells in self._cells())
        notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in [_EXPLANATION, *self.notes])
        return f"<table><thead>{line(self._head(), 'th')}</thead><tbody>{rows}</tbody></table>{notes}"

    def csv(self) -> str:
        """Full precision, one number a column."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["role", "variant", "weights", "n", "last_mean", "last_half_width_95", "best_mean", "best_half_width_95",
                         "retention", "parameters", "seconds", "kept"])
        for row in self.rows:
            last, best = row.last, row.best
            writer.writerow([row.role, row.label, row.weights, last.n if last else 0, *(_pair(last)), *(_pair(best)), row.retention,
                             row.parameters, row.seconds, row.kept])
        return text.getvalue()


_EXPLANATION = ("Means over seeds and half widths of 95 % intervals (Student's t) on test. Retention: share of the teacher's metric; "
                "where nobody else taught, of that of the one teacher here. "
                "The checkpoint called best was chosen on validation, never on test.")


def comparison(runs: list[Run], metric: str = "accuracy") -> Table:
    """The table of some runs.

    Raises:
        InputError: no run is finished, or none has the metric.
    """
    found, left_out = groups(runs)
    notes = [*(f"not in the table: {run.path} ({run.status})" for group in found for run in group.unfinished), *left_out]
    rows = _teachers(found, metric)
    for group in sorted(found, key=lambda group: (ORDER.get(group.role, 2), group.label)):
        if group.runs:
            teacher = _teacher_score(group, found, metric)
            rows += [_row(group.role, group.label, group.records, metric, teacher), *_networks(group, metric, teacher)]
    if not any(row.last for row in rows):
        known = sorted({key.removeprefix("test/") for group in found for record in group.records for key in record.get("metrics", {})
                        if key.startswith("test/") and not key.endswith("_best")})
        raise InputError(f"no finished run has the test metric '{metric}'" + (f"; they have {', '.join(known)}{did_you_mean(metric, known)}" if known else ""),
                         advice="\n".join(notes))
    return Table(metric, rows, notes)


def _teachers(found: list[Group], metric: str) -> list[Row]:
    """A row for each teacher that taught, as its students' records tell of it; not for those that are compared themselves."""
    present = {record["hash"] for group in found for record in group.records}
    taught: dict[str, dict] = {}
    for teacher in (teacher for group in found for record in group.records if record.get("uses_teacher")
                    for teacher in _single(record.get("teacher") or {})):
        runs = teacher.get("runs", [])
        if not (runs and {run["hash"] for run in runs} <= present):
            taught.setdefault(" ".join([teacher["name"], *(run["hash"] for run in runs)]), teacher)
    names = [teacher["name"] for teacher in taught.values()]
    rows = []
    for key, teacher in taught.items():
        runs = teacher.get("runs", [])
        own = runs[0] if len(runs) == 1 else {}
        label = teacher["name"] if names.count(teacher["name"]) == 1 else f"{teacher['name']} {key.split()[-1][:8]}"
        best, seconds = own.get("metrics", {}).get(f"test/{metric}_best"), own.get("durations", {}).get("train_seconds")
        score = _test_score(teacher, metric)
        rows.append(Row(TEACHER, label, None if score is None else interval([score]), None if best is None else interval([best]), None,
                        teacher.get("parameters"), seconds, ""))
    return rows


def _single(teacher: dict) -> list[dict]:
    """The teachers that have a score: itself, or those of the loss's terms where each has its own."""
    return list(teacher["members"].values()) if "members" in teacher else [teacher]


def _shown(row: Row) -> str:
    """A row's name in a table, where a network stands below its variant."""
    if row.role == NETWORK:
        return f"· {row.label.rpartition(' · ')[2]}"
    return f"{row.label}  (kept: {row.kept})" if row.kept else row.label


def _networks(group: Group, metric: str, teacher: float | None) -> list[Row]:
    """A row for each network, and each ensemble, of runs that have several."""
    having = [record for record in group.records if record.get("networks")]
    rows = []
    for name in dict.fromkeys(name for record in having for name in record["networks"]):
        own = [{"metrics": record["networks"][name], "parameters": record.get("network_parameters", {}).get(name)}
               for record in having if name in record["networks"]]
        rows.append(_row(NETWORK, f"{group.label} · {name}", own, metric, teacher))
    return rows


def _test_score(teacher: dict | None, metric: str) -> float | None:
    """What a teacher itself reached on test."""
    return ((teacher or {}).get("test") or {}).get(metric)


def _teacher_score(group: Group, found: list[Group], metric: str) -> float | None:
    """The score that a group's retention is held against: its teacher's; where there is none, the one teacher of all others on the same data."""
    def scores(groups: list[Group]) -> set[float]:
        return {score for one in groups for record in one.records if (score := _test_score(record.get("teacher"), metric)) is not None}

    own = scores([group])
    if not own and not any(record.get("teacher") for record in group.records):
        own = scores([other for other in found if other.config.get("data") == group.config.get("data")])
    return own.pop() if len(own) == 1 else None


def _row(role: str, label: str, records: list[dict], metric: str, teacher: float | None) -> Row:
    def values(key: str) -> list[float]:
        return [record["metrics"][key] for record in records if key in record.get("metrics", {})]

    last, best = values(f"test/{metric}"), values(f"test/{metric}_best")
    seconds = [record["durations"]["train_seconds"] for record in records if "train_seconds" in record.get("durations", {})]
    weights = " ".join(f"{name}={weight:g}" if isinstance(weight, (int, float)) else f"{name}={weight}"
                       for name, weight in (records[0].get("weights") or {}).items())
    kept = kept_in_short(records) or "student" if any(record.get("networks") for record in records) else ""
    return Row(role, label, interval(last) if last else None, interval(best) if best else None,
               sum(last) / len(last) / teacher if last and teacher and metric == "accuracy" else None, records[0].get("parameters"),
               sum(seconds) / len(seconds) if seconds else None, weights, kept)


def _interval(value: Interval | None) -> str:
    if value is None:
        return ""
    return f"{value.mean:.4f}" + (f" ± {value.half_width:.4f}" if value.half_width is not None else "")


def _pair(value: Interval | None) -> tuple:
    return (None, None) if value is None else (value.mean, value.half_width)
