"""Whether a network's confidence equals its accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import softmax

from .style import INK, MUTED, Drawing, drawing, legend_below, line, number, slots_of, styled

BINS = 15  # as in the ece of run.json


def bins(logits: np.ndarray, target: np.ndarray, count: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of equal width in the confidence: the number of samples, their mean confidence, their accuracy (NaN where
    there are none).

    Args:
        logits: (N, C).
        target: (N,).

    >>> counts, confidence, accuracy = bins(np.log([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]), np.array([0, 1, 1]), 2)
    >>> counts.tolist(), confidence.round(4).tolist(), accuracy.round(4).tolist()
    ([0, 3], [nan, 0.7667], [nan, 0.6667])
    """
    probabilities = softmax(np.asarray(logits, dtype=float), axis=-1)
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == target
    place = np.minimum((confidence * count).astype(int), count - 1)  # [edge, next edge), as in torchmetrics
    counts = np.bincount(place, minlength=count)
    with np.errstate(invalid="ignore"):
        return counts, np.bincount(place, confidence, count) / counts, np.bincount(place, right, count) / counts


def ece(logits: np.ndarray, target: np.ndarray) -> float:
    """The expected calibration error, as in run.json."""
    import torch

    from kdlab.metrics import expected_calibration_error

    return expected_calibration_error(
        torch.as_tensor(np.asarray(logits)).float().softmax(-1), torch.as_tensor(np.asarray(target)), BINS
    )


@styled
def reliability(
    predictions: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]], slots: dict[str, int] | None = None
) -> Drawing:
    """Accuracy in bins of confidence, above the share of samples in each bin; samples of all seeds together.

    Args:
        predictions: row -> (logits (N, C), target (N,)), one pair per seed.
        slots: see :func:`learning_curves`.

    Raises:
        ValueError: there are more rows than can be distinguished.
    """
    figure = drawing(height=3.9)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", zorder=1)
    handles, labels, errors = [], [], {}
    for label, slot in slots_of(list(predictions), slots).items():
        look = line(slot)
        logits, target = (np.concatenate([pair[place] for pair in predictions[label]]) for place in (0, 1))
        counts, confidence, accuracy = bins(logits, target)
        there = counts > 0
        handles += upper.plot(
            confidence[there],
            accuracy[there],
            color=look.color,
            linestyle=look.linestyle,
            marker=look.marker,
            zorder=3 if slot else 4,
        )
        lower.stairs(
            counts / counts.sum(),
            np.linspace(0, 1, BINS + 1),
            color=look.color,
            linestyle=look.linestyle,
            linewidth=1.4,
        )
        errors[label] = float(np.mean([ece(*pair) for pair in predictions[label]]))
        labels.append(f"ECE {number(errors[label])}: {label}")
    upper.text(0.03, 0.95, "underconfident", color=MUTED, fontsize=7.5, va="top", transform=upper.transAxes)
    upper.text(0.98, 0.05, "overconfident", color=MUTED, fontsize=7.5, ha="right", transform=upper.transAxes)
    upper.set(ylabel="share of correct predictions", xlim=(0, 1), ylim=(0, 1.02))
    lower.set(xlabel="confidence: probability of the predicted class", ylabel="share of\nsamples")
    lower.set_yscale("log")
    lower.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    lower.yaxis.label.set_color(INK)
    legend_below(figure, handles, labels)
    least, most = min(errors, key=errors.__getitem__), max(errors, key=errors.__getitem__)
    return figure.describe(
        "Reliability",
        f"Accuracy of the predictions in {BINS} bins of confidence, and the share of samples in each bin "
        "(logarithmic); test, last epoch, samples of all seeds together. On the dotted line, accuracy equals "
        "confidence. ECE: mean over seeds. Bins with few samples are noise.",
        f"Reliability diagram of {len(errors)} rows. Smallest expected calibration error: "
        f"{number(errors[least])}, {least}; largest: {number(errors[most])}, {most}.",
    )
