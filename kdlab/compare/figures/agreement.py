"""How often two rows predict the same class, right or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from .style import COLUMN, MUTED, PAPER, WIDE, Drawing, drawing, styled, wrapped

ALL = None  # the "seed" of a network that is the same for every seed: a teacher


def agreement_matrix(predictions: Mapping[str, Mapping[int | None, np.ndarray]]) -> np.ndarray:
    """The share of samples for which two rows predict the same class: the mean over the seeds that both have. The
    diagonal is the mean over pairs of seeds of one row. NaN where there is no such pair.

    Args:
        predictions: row -> seed -> the predicted classes (N,). A row whose only seed is None (:data:`ALL`) is compared
            with every seed of the others.

    >>> agreement_matrix({"a": {1: np.array([0, 1]), 2: np.array([0, 0])},
    ...     "b": {1: np.array([0, 1]), 2: np.array([1, 1])}}).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    labels = list(predictions)
    result = np.full((len(labels), len(labels)), np.nan)
    for row, first in enumerate(labels):
        result[row, row] = _mean(list(combinations(predictions[first].values(), 2)))
        for column, second in enumerate(labels[:row]):
            result[row, column] = result[column, row] = _mean(_pairs(predictions[first], predictions[second]))
    return result


def _pairs(first: Mapping, second: Mapping) -> list[tuple[np.ndarray, np.ndarray]]:
    if ALL in first or ALL in second:
        return [(a, b) for a in first.values() for b in second.values()]
    return [(first[seed], second[seed]) for seed in first if seed in second]


def _mean(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([np.mean(a == b) for a, b in pairs])) if pairs else np.nan


@styled
def agreement(matrix: np.ndarray, labels: Sequence[str]) -> Drawing:
    """A matrix of shares (:func:`agreement_matrix`), written in its cells; below the diagonal only, since it is
    symmetric."""
    count = len(labels)
    figure = drawing(COLUMN if count <= 5 else WIDE, 1.0 + max(0.36 * count, 0.5))
    axes = figure.subplots()
    shown = np.where(np.tril(np.ones_like(matrix, dtype=bool)), matrix, np.nan)
    known = shown[np.isfinite(shown)]
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(shown),
        cmap="cividis",
        edgecolors=PAPER,
        linewidth=1.2,
        vmin=known.min() if len(known) else 0,
        vmax=known.max() if len(known) else 1,
    )
    for row in range(count):
        for column in range(row + 1):
            value = shown[row, column]
            bright = np.isfinite(value) and np.dot(mesh.cmap(mesh.norm(value))[:3], (0.299, 0.587, 0.114)) >= 0.5
            axes.text(
                column + 0.5,
                row + 0.5,
                "–" if not np.isfinite(value) else f"{100 * value:.1f}",
                ha="center",
                va="center",
                fontsize=8.5 if count <= 12 else 6.5,
                color=MUTED if not np.isfinite(value) else "#000000" if bright else "#ffffff",
            )
    axes.invert_yaxis()
    axes.set_yticks(
        np.arange(count) + 0.5,
        [f"{wrapped(label, 34, 2)}  {number}" for number, label in enumerate(labels, start=1)],
        fontsize=7.8,
    )
    axes.set_xticks(np.arange(count) + 0.5, [str(number) for number in range(1, count + 1)])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    off = np.where(np.tril(np.ones_like(matrix, dtype=bool), -1), matrix, np.nan)
    range_text = ""
    if np.isfinite(off).any():
        (a, b), (c, d) = (
            [int(axis) for axis in np.unravel_index(place, off.shape)]
            for place in (np.nanargmax(off), np.nanargmin(off))
        )
        range_text = (
            f" Most alike: {labels[a]} and {labels[b]}, {100 * off[a, b]:.1f} %; least: {labels[c]} and "
            f"{labels[d]}, {100 * off[c, d]:.1f} %."
        )
    return figure.describe(
        "Agreement between rows",
        "Per cent of test samples for which two rows predict the same class, right or wrong: the mean over seeds that "
        "both have, and on the diagonal over pairs of seeds of one row (– where there is none). Rows of one seed share "
        "the split and the order of the samples, which the pairs on the diagonal do not: compare rows with rows, not "
        "with the diagonal.",
        f"Matrix of {count} rows.{range_text}",
    )
