"""A metric against its cost: parameters, FLOPs or time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdlab.compare.statistics import interval

from .style import INK, MUTED, PAPER, SERIES, Drawing, drawing, legend_below, logarithmic, number, quantity, styled

#: role -> marker and colour; any other role is a variant
_ROLES = {"teacher": ("s", SERIES[5]), "student baseline": ("D", SERIES[0]), "variant": ("o", SERIES[1])}


@dataclass(frozen=True)
class Point:
    """A row: its cost, and the metric of every seed."""

    label: str
    cost: float
    values: Sequence[float]
    role: str = "variant"

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return float(np.mean(self.values))


def front(points: Sequence[Point], higher_is_better: bool = True) -> list[Point]:
    """The Pareto front, cheapest first: no other point is as cheap and better, or as good and cheaper. Of equal points,
    the first is kept.

    >>> [point.label for point in front([Point("a", 1, [0.5]), Point("b", 2, [0.4]), Point("c", 3, [0.9]),
    ...     Point("d", 3, [0.8])])]
    ['a', 'c']
    """
    sign = 1 if higher_is_better else -1
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -sign * point.mean)):
        if not found or sign * point.mean > sign * found[-1].mean:
            found.append(point)
    return found


def side_by_side(costs: Sequence[float], step: float) -> list[float]:
    """The horizontal positions of points. Those of equal cost are placed side by side, apart by factors of ``step``.

    >>> side_by_side([10, 20, 10, 10], 2)
    [5.0, 20.0, 10.0, 20.0]
    """
    seen: Counter[float] = Counter()
    result = []
    for cost in costs:
        result.append(float(cost * step ** (seen[cost] - (costs.count(cost) - 1) / 2)))
        seen[cost] += 1
    return result


@styled
def pareto(points: Sequence[Point], cost: str, metric: str, higher_is_better: bool = True) -> Drawing:
    """Every row as a point with the 95 % interval of its mean; the front as steps, its members numbered.

    Args:
        points: with costs greater than 0.
        cost: what the cost is, with its unit.
    """
    figure = drawing(height=3.1)
    axes = figure.subplots()
    best = front(points, higher_is_better)
    numbered = best + [point for point in points if point.role != "variant" and point not in best][:6]
    steps = axes.step(
        [point.cost for point in best],
        [point.mean for point in best],
        where="post",
        color=MUTED,
        linewidth=1.1,
        linestyle="--",
        zorder=2,
    )
    handles: list[Any] = list(steps)
    labels = ["the front: nothing here is as cheap and better"]
    costs = [point.cost for point in points]
    low, high = min(costs) / 1.6, max(costs) * 1.6
    most = max(Counter(costs).values())
    for point, across in zip(points, side_by_side(costs, (high / low) ** min(0.025, 0.2 / most))):
        marker, colour = _ROLES.get(point.role, _ROLES["variant"])
        half = interval(point.values).half_width
        large = point in numbered
        drawn = axes.errorbar(
            across,
            point.mean,
            yerr=half,
            fmt=marker,
            color=colour,
            ecolor=colour,
            elinewidth=0.9,
            capsize=2,
            markersize=11 if large else 5,
            alpha=1 if large else 0.45,
            markeredgecolor=PAPER,
            markeredgewidth=0.8,
            zorder=4 if large else 3,
        )
        if large:
            place = numbered.index(point) + 1
            axes.text(
                across,
                point.mean,
                str(place),
                color=PAPER,
                fontsize=7.5,
                fontweight="bold",
                ha="center",
                va="center_baseline",
                zorder=6,
            )
            handles.append(drawn)
            labels.append(f"{place}: {number(point.mean)}  {point.label}")
    order = [0, *(1 + rank for rank in np.argsort([int(label.partition(":")[0]) for label in labels[1:]]))]
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    logarithmic(axes.xaxis)
    axes.set_xlabel(f"{cost} (logarithmic)", color=INK)
    axes.set_ylabel(metric)
    axes.grid(True, which="major")
    legend_below(figure, [handles[place] for place in order], [labels[place] for place in order], columns=1)
    return figure.describe(
        f"{metric} against {cost}",
        "Means over seeds with 95 % intervals (Student's t). Squares: teachers; diamonds: the student alone; circles: "
        "variants. Points on the front are numbered, and so are teachers and baselines."
        + (" Rows of equal cost are drawn side by side." if most > 1 else ""),
        f"Scatter plot of {len(points)} rows. On the front: "
        + "; ".join(f"{point.label} ({quantity(point.cost)}, {number(point.mean)})" for point in best)
        + ".",
    )
