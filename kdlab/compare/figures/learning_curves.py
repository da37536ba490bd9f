"""A metric on validation, epoch by epoch, or over the optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from kdlab.compare.statistics import interval

from .style import Drawing, by_seeds, drawing, legend_below, line, number, slots_of, styled

BANDS = {"range": "from the lowest to the highest seed", "interval": "the 95 % interval of the mean (Student's t)"}


def band(
    curves: Sequence[Mapping[int, float]], kind: str = "range"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The epochs that all seeds have, the mean over seeds, and the lower and upper edges of the band.

    Args:
        curves: epoch -> value, one curve per seed.
        kind: ``range`` or ``interval``; the band of a single seed has width 0.

    >>> [part.tolist() for part in band([{1: 0.5, 2: 0.6}, {1: 0.7, 2: 0.6, 3: 0.9}])]
    [[1, 2], [0.6, 0.6], [0.5, 0.6], [0.7, 0.6]]

    Raises:
        ValueError: there is no such kind of band.
    """
    if kind not in BANDS:
        raise ValueError(f"the bands are {', '.join(BANDS)}, not {kind!r}")
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves]).reshape(len(curves), len(epochs))
    mean = values.mean(0)
    if kind == "range":
        return np.array(epochs), mean, values.min(0), values.max(0)
    half = np.array([interval(column).half_width or 0.0 for column in values.T])
    return np.array(epochs), mean, mean - half, mean + half


@styled
def learning_curves(
    curves: Mapping[str, Sequence[Mapping[int, float]]],
    metric: str,
    kind: str = "range",
    slots: dict[str, int] | None = None,
    unit: str = "epoch",
) -> Drawing:
    """The mean over seeds of every row, with a band.

    Args:
        curves: row -> epoch -> value, one curve per seed.
        kind: of the band, see :func:`band`.
        slots: row -> its style number, so that it looks the same in several figures; 0 is the baseline.
        unit: ``epoch``, or ``step`` where the curves are over optimiser steps.

    Raises:
        ValueError: there are more rows than can be distinguished.
    """
    figure = drawing(height=3.0)
    axes = figure.subplots()
    handles, last = [], {}
    for label, slot in slots_of(list(curves), slots).items():
        epochs, mean, low, high = band(curves[label], kind)
        look = line(slot)
        if len(curves[label]) > 1:
            axes.fill_between(epochs, low, high, color=look.color, alpha=0.16, linewidth=0)
        handles += axes.plot(
            epochs,
            mean,
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            markevery=max(len(epochs) // 10, 1),
            zorder=3 if slot else 4,
        )
        if len(mean):
            last[label] = mean[-1]
    axes.set(xlabel=unit, ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    labels, seeds = by_seeds(list(curves), [len(found) for found in curves.values()])
    legend_below(figure, handles, labels)
    return figure.describe(
        f"Learning curves: {metric}",
        f"Mean over {seeds}; the band is {BANDS[kind]}.",
        f"Line chart of {len(curves)} rows.{_ends(last, unit)}",
    )


def _ends(last: Mapping[str, float], unit: str) -> str:
    """The caption's sentence about the last epoch or step: the highest and the lowest row."""
    if not last:
        return ""
    high, low = max(last, key=last.__getitem__), min(last, key=last.__getitem__)
    return f" Highest at the last {unit}: {high}, {number(last[high])}" + (
        f"; lowest: {low}, {number(last[low])}." if len(last) > 1 else "."
    )
