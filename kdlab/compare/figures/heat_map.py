"""Two numbers of the config against a metric: temperature x weight, for instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from .style import COLUMN, INK, MUTED, PAPER, WIDE, Drawing, drawing, number, styled


@styled
def heat_map(
    cells: Mapping[tuple[float, float], Sequence[float]],
    across: str,
    up: str,
    metric: str,
    baseline: float | None = None,
    higher_is_better: bool = True,
    fixed: Sequence[str] = (),
) -> Drawing:
    """The mean over seeds of every cell, written in it; the best is framed.

    Args:
        cells: (value across, value up) -> the metric of every seed. Cells may be missing.
        across, up: what the two values are.
        baseline: the baseline's mean, marked in the colour bar.
        higher_is_better: if false, the colours are reversed, so that the bright end is always the better one.
        fixed: what all cells have in common in which other groups differ from them.

    Raises:
        ValueError: no cells.
    """
    if not cells:
        raise ValueError("a heat map of no cells")
    columns, rows = (sorted({key[place] for key in cells}) for place in (0, 1))
    means = np.full((len(rows), len(columns)), np.nan)
    for (x, y), values in cells.items():
        means[rows.index(y), columns.index(x)] = np.mean(values)
    best = np.unravel_index(np.nanargmax(means if higher_is_better else -means), means.shape)
    figure = drawing(min(max(COLUMN, 1.9 + 0.72 * len(columns)), WIDE), 1.5 + 0.46 * len(rows))
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(means),
        cmap="cividis" if higher_is_better else "cividis_r",
        edgecolors=PAPER,
        linewidth=1.5,
        vmin=np.nanmin(means if baseline is None else [np.nanmin(means), baseline]),
        vmax=np.nanmax(means if baseline is None else [np.nanmax(means), baseline]),
    )
    size = 9 if len(columns) <= 6 else 7.5 if len(columns) <= 10 else 6
    for (row, column), mean in np.ndenumerate(means):
        known = np.isfinite(mean)
        dark = known and _luminance(mesh.cmap(mesh.norm(mean))) < 0.5
        axes.text(
            column + 0.5,
            row + 0.5,
            number(mean),
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold" if (row, column) == best else "normal",
            color=MUTED if not known else "#ffffff" if dark else "#000000",
        )
    axes.add_patch(
        matplotlib.patches.Rectangle(
            (float(best[1]), float(best[0])), 1, 1, fill=False, edgecolor=INK, linewidth=2.4, clip_on=False, zorder=5
        )
    )
    axes.set_xticks(np.arange(len(columns)) + 0.5, [f"{value:g}" for value in columns])
    axes.set_yticks(np.arange(len(rows)) + 0.5, [f"{value:g}" for value in rows])
    axes.set(xlabel=across, ylabel=up)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=18)
    bar.outline.set_visible(False)
    bar.set_label(metric)
    if baseline is not None:
        bar.ax.axhline(baseline, color="#d81b60", linewidth=2.5)
        axes.set_title(f"marked in the bar: the baseline, {number(baseline)}", fontsize=8.5, color=MUTED, loc="left")
    counts = sorted({len(values) for values in cells.values()})
    where = f"{across} = {columns[best[1]]:g} and {up} = {rows[best[0]]:g}"
    baseline_text = "" if baseline is None else f" The baseline has {number(baseline)}."
    part = f"Only groups with {', '.join(fixed)}. " if fixed else ""
    return figure.describe(
        f"{metric} by {across} and {up}",
        f"{part}Mean {metric} on test at the last epoch over {_counts(counts)} per cell; brighter is better, the best "
        "cell is framed. Differences between cells below the intervals in the table are not significant.",
        f"Heat map of {len(columns)} by {len(rows)} values. Best: {number(means[best])} at {where}; worst: "
        f"{number(np.nanmin(means) if higher_is_better else np.nanmax(means))}.{baseline_text}",
    )


def _luminance(colour: Sequence[float] | np.ndarray) -> float:
    return float(np.dot(colour[:3], (0.299, 0.587, 0.114)))


def _counts(counts: Sequence[int]) -> str:
    text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{text} seed{'' if text == '1' else 's'}"
