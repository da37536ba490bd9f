"""The numbers of a group of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean over n runs and the half width of its 95 % interval (None for a single run)."""

    mean: float
    half_width: float | None
    n: int


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    r"""Mean and Student's t interval, :math:`\bar x \pm t_{n-1}\, s / \sqrt n`.

    >>> interval([0.80, 0.82, 0.84])
    Interval(mean=0.82, half_width=0.04968275..., n=3)
    >>> interval([0.8])
    Interval(mean=0.8, half_width=None, n=1)
    """
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, None, n)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values)
    return Interval(round(mean, 12), float(half), n)
