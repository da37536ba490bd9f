"""Makes figures of groups of runs. A figure that cannot be drawn is left out, with a note on the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdlab.compare.baseline import default
from kdlab.compare.collect import NETWORK, TEACHER, Group
from kdlab.compare.labels import fixed
from kdlab.compare.measured import measurements_of
from kdlab.compare.records import report_of, tested
from kdlab.compare.rows import absent_teachers, teacher_scores
from kdlab.errors import InputError, told
from kdlab.runs.curve import MetricsFile, unit_of_all
from kdlab.runs.measurements import scalars
from kdlab.tasks.metric import Report

from .grid import grid
from .heat_map import heat_map
from .learning_curves import learning_curves
from .pareto import Point, pareto
from .predictions import agreement_of, per_class_of, reliability_of
from .style import MOST_SERIES, Drawing
from .teacher import soft_targets_of


@dataclass
class Rows:
    """The data of the figures.

    Args:
        groups: the groups with finished runs.
        metric: a test metric.
        baseline: a group's label, or None.
    """

    groups: list[Group]
    metric: str
    baseline: str | None

    @property
    def report(self) -> Report:
        """The report of the runs' task."""
        return report_of(record for group in self.groups for record in group.records)

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher value of the metric is better."""
        return self.report.higher_is_better(self.metric)

    def values(self, group: Group) -> list[float]:
        """The metric at the last epoch, one value per seed."""
        return [value for record in group.records if (value := tested(record, self.metric)) is not None]

    @property
    def ranked(self) -> list[Group]:
        """The baseline, then the other groups, best first; without teachers."""
        sign = -1 if self.higher_is_better else 1
        students = [
            group
            for group in self.groups
            if (group.role != TEACHER or group.label == self.baseline) and self.values(group)
        ]
        return sorted(students, key=lambda group: (group.label != self.baseline, sign * np.mean(self.values(group))))

    @property
    def slots(self) -> dict[str, int]:
        """The style numbers of the rows in figures with few series: 0 is the baseline, then the best rows."""
        first = 0 if any(group.label == self.baseline for group in self.groups) else 1
        return {group.label: first + place for place, group in enumerate(self.ranked[: MOST_SERIES - first])}

    def chosen(self, most: int) -> tuple[list[Group], str]:
        """The baseline and the best groups, and a sentence about this if rows are left out."""
        ranked = self.ranked
        best = f"the {min(most, len(ranked)) - (self.baseline is not None)} best"
        which = (
            f"{best} of {len(ranked)} rows"
            if self.baseline is None
            else f"the baseline and {best} of {len(ranked)} rows"
        )
        return ranked[:most], f" Shown: {which} (by {self.metric} on test)." if len(ranked) > most else ""


def draw(
    groups: Sequence[Group], metric: str | None = None, baseline: str | None = None
) -> tuple[dict[str, Drawing], list[str]]:
    """Every figure that can be drawn, by name, and lines about those that cannot.

    Args:
        groups: of :func:`kdlab.compare.groups`.
        metric: a test metric; None: the headline of the runs' task.
        baseline: a group's label; default: as for the table, the student baseline where there is exactly one.
    """
    finished = [group for group in groups if group.records and group.role != NETWORK]
    if baseline is None and (alone := default(finished)):
        baseline = alone.label
    report = report_of(record for group in finished for record in group.records)
    metric = report.headline.name if metric is None else metric
    rows = Rows(finished, metric, baseline)
    figures: dict[str, Drawing] = {}
    notes = []
    if baseline is not None and baseline not in {group.label for group in rows.ranked}:
        notes.append(f"figures: no baseline, since '{baseline}' has no runs of its own with {metric}")
        rows = Rows(finished, metric, None)
    makers: dict[str, Callable[[Rows], Iterator[tuple[str, Drawing]]]] = {
        "heat map": _heat_map,
        "learning curves": _learning_curves,
        "Pareto front": _pareto,
    }
    if report.answers == "classes":
        makers |= {
            "reliability diagram": reliability_of,
            "per-class change": per_class_of,
            "agreement matrix": agreement_of,
            "soft targets": soft_targets_of,
        }
    for title, make in makers.items():
        try:
            for item in make(rows):
                if isinstance(item, str):
                    notes.append(f"{title}: {item}")
                else:
                    figures[item[0]] = item[1]
        # damaged files and the user's own networks may raise anything, and the table must not be lost
        except Exception as error:
            notes.append(f"no {title}: {told(error)}")
    return figures, notes


COSTS = {
    "parameters": "parameters",
    "flops": "FLOPs of one sample's forward pass",
    "latency": "latency of one sample, ms",
}
NAMES = (
    "heat_map",
    "learning_curves",
    *(f"pareto_{name}" for name in COSTS),
    "reliability",
    "per_class",
    "agreement",
    "soft_targets",
)


def _heat_map(rows: Rows) -> Iterator[Any]:
    groups = [group for group in rows.ranked if group.label != rows.baseline]
    found = grid([group.config for group in groups])
    if found is None:
        raise InputError("no two numbers of the config make a grid of which three quarters are there")
    across, up, places = found
    cells = {key: rows.values(groups[place]) for key, place in places.items()}
    baseline = next((float(np.mean(rows.values(group))) for group in rows.ranked if group.label == rows.baseline), None)
    configs = [group.config for group in groups]
    inside = [configs[place] for place in places.values()]
    other = [config for place, config in enumerate(configs) if place not in places.values()]
    names = across.removeprefix("loss."), up.removeprefix("loss.")
    drawn = heat_map(cells, *names, rows.metric, baseline, rows.higher_is_better, fixed(inside, other))
    yield "heat_map", drawn


def _learning_curves(rows: Rows) -> Iterator[Any]:
    chosen, words = rows.chosen(len(rows.slots))
    curves: dict[str, list[dict[int, float]]] = {}
    missing = 0
    # a metric that is measured on test alone has no curve
    validated = {key for group in chosen for record in group.records for key in record.get("metrics") or {}}
    name = rows.metric if f"val/{rows.metric}" in validated else rows.report.headline.name
    metric = f"val/{name}"
    unit = unit_of_all(run.config for group in chosen for run in group.runs)
    for group in chosen:
        for run in group.runs:
            try:
                curve = MetricsFile(run.metrics_file).load().curve(metric, unit)
            except (OSError, ValueError):
                curve = {}
            if curve:
                curves.setdefault(group.label, []).append(curve)
            missing += not curve
    if missing:
        yield f"{missing} run{'s' if missing > 1 else ''} without a readable metrics.csv left out"
    curves = {label: found for label, found in curves.items() if set.intersection(*map(set, found))}
    if not curves:
        raise InputError(f"no metrics.csv with {metric} next to the records")
    words_of_metric = f"{'NLL' if name == 'nll' else name} on validation"
    figure = learning_curves(curves, words_of_metric, slots=rows.slots, unit=unit)
    figure.caption += words
    yield "learning_curves", figure


def _pareto(rows: Rows) -> Iterator[Any]:
    drawn = 0
    timed, lines = _latencies(rows)
    yield from lines
    for name, title in COSTS.items():
        costs = timed if name == "latency" else {group.label: _first(group, name) for group in rows.groups}
        points = [
            Point(group.label, cost, rows.values(group), group.role)
            for group in rows.groups
            if (cost := costs.get(group.label)) and rows.values(group)
        ]
        if name == "parameters":  # of a teacher without a row of its own, only the parameters are known
            points += [
                Point(label, teachers[0]["parameters"], values, TEACHER)
                for label, teachers in absent_teachers(rows.groups)
                if teachers[0].get("parameters") and (values := teacher_scores(teachers, rows.metric))
            ]
        if len({point.cost for point in points}) > 1:
            drawn += 1
            yield f"pareto_{name}", pareto(points, title, rows.metric, rows.higher_is_better)
    if not drawn:
        raise InputError("all rows cost the same, as far as their records tell")


def _first(group: Group, name: str) -> float | None:
    return next((record[name] for record in group.records if record.get(name)), None)


def _latencies(rows: Rows) -> tuple[dict[str, float], list[str]]:
    """The median latency of one sample over a row's runs, on one machine; and lines about this machine and the
    others."""
    measured, lines = measurements_of(rows.groups)
    found: dict[str, list[float]] = {}
    for group in rows.groups:
        for run in group.runs:
            if latency := scalars(measured.get(run.path, {})).get("latency_ms"):
                found.setdefault(group.label, []).append(latency)
    return {label: float(np.median(values)) for label, values in found.items()}, lines
