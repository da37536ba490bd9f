"""Statistics of a group of runs, and differences between two groups."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import special

from .power import smallest_effect

LEVEL = 0.05  # level of the tests; the intervals cover 1 - LEVEL
LARGE_EFFECT = 2.0  # if the seeds would miss a difference of twice its scatter, they are too few to tell
# metrics are computed in float32: differences closer than this, relative to the values, are equal
RESOLUTION = 4 * float(np.finfo(np.float32).eps)
BETTER, WORSE, NONE_FOUND, TOO_FEW, UNTESTED = (
    "better",
    "worse",
    "no difference found",
    "too few seeds to tell",
    "not tested",
)


Seed = TypeVar("Seed", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean over n runs and the half width of its 95 % interval (None for a single run)."""

    mean: float
    half_width: float | None
    n: int


def interval(values: Sequence[float] | np.ndarray, confidence: float = 1 - LEVEL) -> Interval:
    r"""Mean and Student's t interval, :math:`\bar x \pm t_{n-1}\, s / \sqrt n`.

    >>> interval([0.80, 0.82, 0.84])
    Interval(mean=0.82, half_width=0.04968275..., n=3)
    >>> interval([0.8])
    Interval(mean=0.8, half_width=None, n=1)
    """
    known = np.asarray(values, dtype=float)
    n, mean = len(known), float(np.mean(known))
    if n < 2:
        return Interval(mean, None, n)
    half = special.stdtrit(n - 1, (1 + confidence) / 2) * known.std(ddof=1) / n**0.5
    return Interval(round(mean, 12), float(half), n)


@dataclass(frozen=True)
class Difference:
    """A row less its baseline, seed by seed.

    Args:
        mean: of the differences; positive where the row's metric is greater, whether that is better or worse.
        half_width: of the mean's 95 % interval, not corrected for other comparisons; None for a single seed.
        n: how many seeds both have.
        p: of the paired t test, two-sided; None where there is none.
        p_adjusted: the same after Holm's correction over the table.
        effect: the standardised difference d_z (:func:`effect_size`).
        detectable: the smallest difference that n seeds would find with 80 % power at the corrected level, for
            differences with this scatter.
        verdict: ``better``, ``worse``, ``no difference found``, ``too few seeds to tell`` or ``not tested``.
        unpaired: how many seeds only one of the two has. They are left out.
        note: why there is no test.
    """

    mean: float | None
    half_width: float | None
    n: int
    p: float | None = None
    p_adjusted: float | None = None
    effect: float | None = None
    detectable: float | None = None
    verdict: str = TOO_FEW
    unpaired: int = 0
    note: str = ""


def differences(
    rows: Sequence[Mapping[Seed, float]], baseline: Mapping[Seed, float], higher_is_better: bool = True
) -> list[Difference]:
    r"""Each row's difference to a baseline, with a significance test.

    The test is the two-sided paired t test, with :math:`t_{n-1} = \bar d \sqrt n / s_d` (``scipy.stats.ttest_rel``):
    with the same seed, both runs have the same split and the same order of samples, so the difference within a seed
    scatters less than the runs. Wilcoxon's signed-rank test assumes less about the distribution, but with n pairs its p
    cannot be below :math:`2^{1-n}`, 0.25 for three seeds and 0.0625 for five: it would never find anything. Rows
    without a seed in common with the baseline are not tested: Welch's test between different seeds has less power and
    another meaning, but would share the column.

    p is corrected by Holm's method (1979, https://www.jstor.org/stable/4615733) over all tested rows, which is valid
    under any dependence between them. Rows with the same values (a run, and the network that it keeps) are one
    comparison.

    If all differences are equal, there is no scatter to test against. Coarse metrics make this likely by chance. If the
    differences are 0, p is 1 and no difference was found; otherwise there is no test ("not tested").

    "Too few seeds to tell" is the verdict with fewer than two common seeds. It is also the verdict where p is above
    0.05 and the seeds would miss a difference of twice its scatter more than one time in five
    (:func:`kdlab.compare.power.smallest_effect`). That limit depends on the number of seeds and rows, not on the
    results.

    Args:
        rows: for each row, seed -> value.
        higher_is_better: whether more of the metric is better.

    >>> [one] = differences([{1: 0.82, 2: 0.83, 3: 0.85, 4: 0.9}], {1: 0.80, 2: 0.82, 3: 0.83})
    >>> round(one.mean, 4), one.n, one.unpaired, round(one.p, 4), one.verdict
    (0.0167, 3, 1, 0.0377, 'better')
    """
    found = [paired(row, baseline) for row in rows]
    keys = [tuple(sorted(row.items(), key=repr)) for row in rows]
    tested = {key: one.p for key, one in zip(keys, found) if one.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values()))))
    return [
        _judged(one, adjusted.get(key), len(tested), row, baseline, higher_is_better)
        for key, one, row in zip(keys, found, rows)
    ]


def paired(row: Mapping[Seed, float], baseline: Mapping[Seed, float]) -> Difference:
    """The difference of a single row, without correction and verdict."""
    common = [seed for seed in row if seed in baseline]
    n, unpaired = len(common), len(set(row) ^ set(baseline))
    if not n:
        return Difference(None, None, 0, unpaired=unpaired, note="no seed in common with the baseline")
    first, second = (np.array([side[seed] for seed in common], dtype=float) for side in (row, baseline))
    over = interval(first - second)
    if n < 2:
        return Difference(over.mean, None, n, unpaired=unpaired, note="one seed in common with the baseline")
    tolerance = RESOLUTION * max(np.abs(first).max(), np.abs(second).max())
    if np.ptp(first - second) <= tolerance:
        if abs(over.mean) <= tolerance:
            return Difference(0.0, 0.0, n, p=1.0, effect=0.0, unpaired=unpaired, note="the same in every seed")
        return Difference(
            over.mean,
            over.half_width,
            n,
            verdict=UNTESTED,
            unpaired=unpaired,
            note="the same difference in every seed: no scatter to test it against",
        )
    t = np.mean(first - second) * n**0.5 / (first - second).std(ddof=1)
    return Difference(
        over.mean,
        over.half_width,
        n,
        p=float(2 * special.stdtr(n - 1, -abs(t))),
        effect=effect_size(first - second),
        unpaired=unpaired,
    )


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """p of the two-sided t test of two means whose samples may scatter differently (Welch 1947,
    https://doi.org/10.2307/2332510). None for fewer than three values, and where one of the two does not scatter, which
    coarse metrics make likely by chance.

    >>> better = [0.83, 0.85, 0.84]
    >>> round(welch([0.80, 0.82, 0.84], better), 4), welch([0.8, 0.9], [0.9, 0.8]), welch([0.8, 0.8, 0.8], better)
    (0.2209, None, None)
    """
    one, other = (np.asarray(values, dtype=float) for values in (first, second))
    if min(len(one), len(other)) < 3 or min(np.ptp(one), np.ptp(other)) <= RESOLUTION * max(
        np.abs(one).max(), np.abs(other).max()
    ):
        return None
    from scipy import stats

    return float(stats.ttest_ind(one, other, equal_var=False).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    r"""Holm's corrected p values: the k-th smallest of m times m - k + 1, no smaller than the one before it, and at
    most 1.

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    each = np.asarray(p, dtype=float)
    order = np.argsort(each)
    corrected = np.empty_like(each)
    corrected[order] = np.minimum(np.maximum.accumulate(each[order] * np.arange(len(each), 0, -1)), 1.0)
    return [float(value) for value in corrected]


def effect_size(values: Sequence[float] | np.ndarray) -> float | None:
    r"""The standardised mean of paired differences with Hedges's correction for few of them,

    .. math:: g_z = J(n - 1)\, \frac{\bar d}{s_d}, \qquad J(m) = \frac{\Gamma(m / 2)}{\sqrt{m / 2}\; \Gamma((m - 1) /
    2)}.

    Hedges (1981), https://doi.org/10.3102/10769986006002107; Cohen's d_z as in Lakens (2013),
    https://doi.org/10.3389/fpsyg.2013.00863. None for fewer than three differences, where no unbiased estimate exists
    (J(1) = 0), and where they do not scatter.

    >>> round(effect_size([0.02, 0.01, 0.02]), 4)        # 2.8868 before the correction, J(2) = 0.5642
    1.6287
    """
    known = np.asarray(values, dtype=float)
    m, scatter = len(known) - 1, known.std(ddof=1) if len(known) > 1 else 0.0
    if m < 2 or scatter == 0:
        return None
    correction = np.exp(special.gammaln(m / 2) - special.gammaln((m - 1) / 2)) / (m / 2) ** 0.5
    return float(correction * known.mean() / scatter)


def _judged(
    one: Difference, p_adjusted: float | None, comparisons: int, row: Mapping, baseline: Mapping, higher_is_better: bool
) -> Difference:
    if one.p is None or one.mean is None or p_adjusted is None:
        return one
    effect = smallest_effect(one.n, LEVEL / comparisons)
    # the level for the smallest p of a table; Holm's later steps are less strict
    scatter = np.std([row[seed] - baseline[seed] for seed in row if seed in baseline], ddof=1)
    if p_adjusted < LEVEL:
        verdict = BETTER if (one.mean > 0) == higher_is_better else WORSE
    else:
        verdict = TOO_FEW if effect > LARGE_EFFECT and scatter else NONE_FOUND
    return replace(one, p_adjusted=p_adjusted, detectable=float(effect * scatter) or None, verdict=verdict)
