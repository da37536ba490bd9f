"""The learning curves of a study: results/curves.csv, and their figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from pathlib import Path

from kdlab.errors import InputError, did_you_mean
from kdlab.runs.curve import MetricsFile, unit_of_all
from kdlab.runs.files import write_text

from .study import Study
from .training import Trained

FILE, FIGURE = "curves.csv", "curves.svg"
HEADS = {unit: ("row", unit, "mean", "low", "high", "n") for unit in ("epoch", "step")}

#: row -> one curve per seed: epoch (from 1) -> value, or optimiser steps done -> value
Curves = dict[str, list[dict[int, float]]]


def gathered(study: Study, trained: Mapping[tuple[str, ...], Trained]) -> Curves:
    """The curves of the finished runs, from their metrics.csv. Those of runs that were kept come from curves.csv.

    Raises:
        InputError: no run has the metric, or a metrics.csv is damaged.
    """
    found: Curves = {}
    known: dict[str, None] = {}
    unit = unit_of_rows(study, trained)
    kept = kept_curves(study) if any(one.kept for one in trained.values()) else {}
    for row in study.rows_of_curves():
        runs = [trained[row.run_overrides(seed)] for seed in row.seeds]
        if any(one.kept for one in runs) and row.name in kept:
            found[row.name] = list(kept[row.name])
        for run in (one.run for one in runs if not one.kept and one.run.finished):
            try:
                file = MetricsFile(run.metrics_file).load()
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{run.metrics_file} cannot be read ({error}); move {run.path} away, and the same command trains "
                    "it again"
                ) from error
            known.update(dict.fromkeys(key for line in file.rows for key in line if "/" in key))
            if curve := file.curve(study.curve_metric, unit):
                found.setdefault(row.name, []).append(curve)
    if known and not found:
        raise InputError(
            f"{study.folder / 'study.yaml'}: curves.metric: the runs' metrics.csv have no '{study.curve_metric}'"
            f"{did_you_mean(study.curve_metric, known)} (they have {', '.join(known)})"
        )
    return found


def kept_curves(study: Study) -> Curves:
    """As many curves for each row of curves.csv as it has seeds. Their mean, lowest and highest values are those in
    the file, which has no more of each seed. No curves if there is no such file."""
    found: dict[str, list[tuple[int, list[float]]]] = {}
    try:
        with open(study.results / FILE, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))[1:]
        for row, place, mean, low, high, seeds in lines:
            found.setdefault(row, []).append((int(place), _values(float(mean), float(low), float(high), int(seeds))))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{study.results / FILE} cannot be read ({getattr(error, 'strerror', None) or error}); kdlab reproduce "
            f"{study.command} --write writes it"
        ) from error
    return {
        row: [dict(zip([place for place, _ in points], curve)) for curve in zip(*(values for _, values in points))]
        for row, points in found.items()
    }


def _values(mean: float, low: float, high: float, number: int) -> list[float]:
    """Values with this mean, lowest and highest value.

    >>> _values(0.6, 0.5, 0.7, 4)
    [0.5, 0.6, 0.6, 0.7]
    """
    if number < 3:
        return [low, high][:number]
    rest = (number * mean - low - high) / (number - 2)
    return [low, *[round(min(max(rest, low), high), 10)] * (number - 2), high]


def unit_of_rows(study: Study, trained: Mapping[tuple[str, ...], Trained]) -> str:
    """What the curves are counted in: ``epoch``, or ``step`` where a run has rows of optimiser steps."""
    return unit_of_all(trained[row.run_overrides(seed)].config for row in study.rows_of_curves() for seed in row.seeds)


def as_csv(curves: Curves, unit: str = "epoch") -> str:
    """A line for each row and each epoch (or step) that all of its seeds have: mean, lowest and highest value, number
    of seeds.

    >>> print(as_csv({"T = 4": [{1: 0.5, 2: 0.75}, {1: 0.7}]}), end="")
    row,epoch,mean,low,high,n
    T = 4,1,0.6,0.5,0.7,2
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADS[unit])
    for row, seeds in curves.items():
        for epoch in sorted(set.intersection(*map(set, seeds))):
            values = [curve[epoch] for curve in seeds]
            writer.writerow(
                [
                    row,
                    epoch,
                    *(round(number, 5) for number in (sum(values) / len(values), min(values), max(values))),
                    len(values),
                ]
            )
    return text.getvalue()


def write(study: Study, curves: Curves, folder: Path, unit: str = "epoch") -> list[Path]:
    """Write curves.csv, and a figure of as many rows as can be distinguished."""
    write_text(folder / FILE, as_csv(curves, unit))
    figure = _figure(study, curves, unit)
    if figure is not None:
        write_text(folder / FIGURE, figure)
    return [folder / FILE, *([folder / FIGURE] if figure is not None else [])]


def check(study: Study, finished: Collection[str]) -> list[str]:
    """Inconsistencies between curves.csv and the study. The file cannot be made again without the runs, but its rows
    can be checked.

    Args:
        finished: the rows that have a finished run.
    """
    path = study.results / FILE
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
    except (OSError, ValueError) as error:
        return [
            (
                f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); kdlab reproduce {study.command} "
                "--write writes it"
            )
        ]
    if not lines or tuple(lines[0]) not in HEADS.values():
        return [f"{path} does not begin with the columns {', '.join(HEADS['epoch'])}"]
    rows, named = (
        list(dict.fromkeys(line[0] for line in lines[1:] if line)),
        [name for name in study.curve_rows if name in finished],
    )
    return (
        []
        if rows == named
        else [f"{path} has the curves of {', '.join(rows) or 'no row'}, and study.yaml names {', '.join(named)}"]
    )


def _figure(study: Study, curves: Curves, unit: str) -> str | None:
    """The figure as SVG; None where there is nothing to draw."""
    from kdlab.compare.figures import learning_curves
    from kdlab.compare.figures.style import MOST_SERIES, svg

    baselines = [table.baseline for table in study.tables if table.baseline in curves]
    names = [*baselines[:1], *(name for name in curves if name not in baselines[:1])]
    names = names[: MOST_SERIES if baselines else MOST_SERIES - 1]
    if not names:
        return None
    slots = {name: number for number, name in enumerate(names, start=0 if baselines else 1)}
    split, _, metric = study.curve_metric.partition("/")
    words = {"val": f"{metric} on validation", "train": f"{metric} in training"}.get(split, study.curve_metric)
    return svg(learning_curves({name: curves[name] for name in names}, words, slots=slots, unit=unit))
