"""A teacher's probabilities for a few images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.special import softmax

from .style import GRID, INK, MUTED, SERIES, WIDE, Drawing, drawing, styled, wrapped

MOST_CLASSES = 12  # with more classes, only the likeliest are shown, each by its name
LIKELIEST = 6
COLUMNS = 5


@styled
def soft_targets(
    images: np.ndarray,
    targets: Sequence[int],
    logits: np.ndarray,
    temperature: float,
    names: Sequence[str],
    teacher: str = "the teacher",
) -> Drawing:
    """Each image above the probabilities that its logits give at a temperature; ticks mark those at temperature 1.

    Args:
        images: (K, H, W) or (K, H, W, 3), in [0, 1].
        targets: (K,), the labels.
        logits: (K, C), the teacher's.
        names: of the C classes.
        teacher: its name.
    """
    count, classes = logits.shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    few = classes <= MOST_CLASSES
    lines = classes if few else LIKELIEST
    soft, hard = (
        softmax(np.asarray(logits, dtype=float) / temperature, axis=-1),
        softmax(np.asarray(logits, dtype=float), axis=-1),
    )
    figure = drawing(WIDE, rows * (1.15 + 0.135 * lines) + 0.3)
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[0.95, 0.135 * lines] * rows)
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(hspace=0.04, h_pad=0.06)
    top = min(1.0, 1.12 * soft.max())
    for number in range(rows * columns):
        picture, bars = (
            axes[2 * (number // columns), number % columns],
            axes[2 * (number // columns) + 1, number % columns],
        )
        if number >= count:
            picture.set_visible(False), bars.set_visible(False)
            continue
        _picture(picture, images[number], str(names[targets[number]]))
        order = np.arange(classes) if few else np.argsort(-soft[number], kind="stable")[:LIKELIEST]
        places = np.arange(len(order))
        right = order == targets[number]
        bars.barh(places, soft[number, order], 0.78, color=np.where(right, SERIES[1], SERIES[2]), zorder=3)
        bars.vlines(
            np.minimum(hard[number, order], top), places - 0.39, places + 0.39, color=INK, linewidth=1.3, zorder=4
        )
        bars.set_yticks(
            places,
            [wrapped(str(names[place]), 14, 1) for place in order] if not few or number % columns == 0 else [],
            fontsize=7.5,
        )
        bars.set(xlim=(0, top), ylim=(len(order) - 0.4, -0.6))
        bars.tick_params(axis="y", length=0)
        bars.tick_params(axis="x", labelsize=7)
        bars.grid(False, axis="y")
    entropy = float(np.mean(-np.sum(soft * np.log(np.maximum(soft, 1e-12)), axis=-1)))
    wrong = [str(names[target]) for target, predicted in zip(targets, logits.argmax(-1)) if predicted != target]
    return figure.describe(
        f"Soft targets of {teacher}",
        f"The first test image of {'every class' if count == classes else f'{count} classes'}, and the probabilities "
        f"of {teacher} at temperature {temperature:g}: the true class in blue, the others in orange. Small ticks: at "
        "temperature 1" + (" (at the right edge where they are larger than the axis)." if hard.max() > top else "."),
        f"{count} images with bars. Mean entropy of the soft targets at temperature {temperature:g}: {entropy:.2f} "
        "nats. "
        + (
            f"The most likely class is wrong for: {', '.join(wrong)}."
            if wrong
            else "The most likely class is right for all of them."
        ),
    )


def _picture(axes: Axes, image: np.ndarray, name: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes.set_title(wrapped(name, 18, 1), fontsize=8.5, pad=3)
    axes.set_xticks([]), axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(GRID)
    axes.title.set_color(INK if name else MUTED)
