"""Which classes a method helps and which it harms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kdlab.compare.statistics import Interval, interval

from .style import MUTED, Drawing, drawing, legend_below, line, slots_of, styled, wrapped

MOST_CLASSES = 20


def recalls(predictions: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """The recall of each class; NaN where it has no samples.

    >>> recalls(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), 3).tolist()
    [0.5, 1.0, nan]
    """
    with np.errstate(invalid="ignore"):
        return np.bincount(target[predictions == target], minlength=classes) / np.bincount(target, minlength=classes)


def changes(row: Mapping[int, np.ndarray], baseline: Mapping[int, np.ndarray]) -> list[Interval]:
    """For every class the mean over seeds of the change against the baseline's run of the same seed, with its 95 %
    interval.

    Args:
        row, baseline: seed -> recalls (C,).

    >>> changes({1: np.array([0.8]), 2: np.array([0.9]), 5: np.array([0.1])},
    ...     {1: np.array([0.7]), 2: np.array([0.8])})[0].n
    2

    Raises:
        ValueError: the two have no seed in common.
    """
    common = sorted(set(row) & set(baseline))
    if not common:
        raise ValueError("no seed in common with the baseline")
    return [interval(column) for column in np.stack([row[seed] - baseline[seed] for seed in common]).T]


@styled
def per_class(
    rows: Mapping[str, Sequence[Interval]], baseline: str, names: Sequence[str], slots: dict[str, int] | None = None
) -> Drawing:
    """Bars of the change in recall, one line per class, sorted by the first row's change. With many classes, only those
    that change most are shown.

    Args:
        rows: row -> the change of every class (:func:`changes`), in points of 1.
        baseline: its name.
        names: of the classes.
        slots: see :func:`learning_curves`.
    """
    first = np.array([change.mean for change in next(iter(rows.values()))])
    order = [place for place in np.argsort(first, kind="stable") if np.isfinite(first[place])]
    left_out = len(order) - MOST_CLASSES
    if left_out > 0:
        most = sorted(order, key=lambda place: -abs(first[place]))[:MOST_CLASSES]
        order = [place for place in order if place in most]
    thick, seeds = 0.8 / len(rows), next(iter(rows.values()))[0].n
    figure = drawing(height=0.9 + len(order) * (0.14 + 0.12 * len(rows)))
    axes = figure.subplots()
    handles = []
    for number, (label, slot) in enumerate(slots_of(list(rows), slots).items()):
        shown = [rows[label][place] for place in order]
        middle = np.arange(len(order)) + 0.4 - (number + 0.5) * thick
        handles.append(
            axes.barh(
                middle,
                [100 * change.mean for change in shown],
                0.9 * thick,
                color=line(slot).color,
                zorder=3,
                xerr=None
                if seeds == 1
                else [100 * (np.nan if change.half_width is None else change.half_width) for change in shown],
                error_kw={"ecolor": MUTED, "elinewidth": 1.0, "capsize": 2, "zorder": 4},
            )
        )
    axes.axvline(0, color=MUTED, linewidth=1, zorder=5)
    axes.set_yticks(range(len(order)), [wrapped(str(names[place]), 16, 1) for place in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel("change in recall, percentage points")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    legend_below(figure, handles, list(rows), columns=1)
    label = next(iter(rows))
    spread = ", with its 95 % interval, each by itself (Student's t)" if seeds > 1 else ""
    about = f" The {MOST_CLASSES} that change most; {left_out} classes are left out." if left_out > 0 else ""
    return figure.describe(
        f"Per class, against {baseline}",
        f"Change in recall of every class against {baseline}: mean of the differences of equal seeds ({seeds} in the "
        f"first row){spread}, sorted by the first row.{about} Test, last epoch.",
        f"Bar chart. {label}: the most is gained in {names[order[-1]]} ({100 * first[order[-1]]:+.1f} points), the "
        f"least in {names[order[0]]} ({100 * first[order[0]]:+.1f} points).",
    )
