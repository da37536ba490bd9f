"""The power of the paired t test: which differences a number of seeds can find."""

from __future__ import annotations

from functools import cache

POWER = 0.8


def power(effect: float, n: int, level: float) -> float:
    r"""The probability that a two-sided paired t test of n differences finds a standardised difference :math:`\delta =
    \mu_d / \sigma_d > 0` with its sign: :math:`P(T > t_{n-1, 1-\alpha/2})` for a noncentral T with n - 1 degrees of
    freedom and noncentrality :math:`\delta \sqrt n`. Cohen (1988), Statistical Power Analysis for the Behavioral
    Sciences, chapter 2.

    >>> round(power(2.0, 5, 0.05), 3)
    0.909
    """
    from scipy import stats

    return float(stats.nct.sf(stats.t.isf(level / 2, n - 1), n - 1, effect * n**0.5))


@cache
def smallest_effect(n: int, level: float) -> float:
    """The smallest standardised difference that n pairs find with 80 % power.

    SciPy's noncentral t and root finding, since the solver of statsmodels returns the ends of its brackets where n is
    this small and the level this strict (10.0 for two pairs at 0.05 / 30).

    >>> [round(smallest_effect(n, 0.05), 2) for n in (3, 5, 10)], round(smallest_effect(5, 0.05 / 9), 2)
    ([3.26, 1.68, 1.0], 3.07)
    """
    from scipy import optimize

    high = 1.0
    while power(high, n, level) < POWER:
        high *= 2
    return float(optimize.brentq(lambda effect: power(effect, n, level) - POWER, 0.0, high, xtol=1e-6))
