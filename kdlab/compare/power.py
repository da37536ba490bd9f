"""The power of the paired t test: which differences a number of seeds can find."""

from __future__ import annotations

from functools import cache

from scipy import special

POWER = 0.8
HALVINGS = 60  # of the interval that holds the root: to the last digit of a float


def power(effect: float, n: int, level: float) -> float:
    r"""The probability that a two-sided paired t test of n differences finds a standardised difference :math:`\delta =
    \mu_d / \sigma_d > 0` with its sign: :math:`P(T > t_{n-1, 1-\alpha/2})` for a noncentral T with n - 1 degrees of
    freedom and noncentrality :math:`\delta \sqrt n`. Cohen (1988), Statistical Power Analysis for the Behavioral
    Sciences, chapter 2.

    ``scipy.special`` is used, since the import of ``scipy.stats`` takes longer than a whole comparison.

    >>> round(power(2.0, 5, 0.05), 3)
    0.909
    """
    critical = -special.stdtrit(n - 1, level / 2)
    return float(1 - special.nctdtr(n - 1, effect * n**0.5, critical))


@cache
def smallest_effect(n: int, level: float) -> float:
    """The smallest standardised difference that n pairs find with 80 % power.

    SciPy's noncentral t and bisection, since the solver of statsmodels returns the ends of its brackets where n is this
    small and the level this strict (10.0 for two pairs at 0.05 / 30), and ``scipy.special.nctdtrinc`` has only four
    digits there.

    >>> [round(smallest_effect(n, 0.05), 2) for n in (3, 5, 10)], round(smallest_effect(5, 0.05 / 9), 2)
    ([3.26, 1.68, 1.0], 3.07)
    """
    low, high = 0.0, 1.0
    while power(high, n, level) < POWER:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, n, level) < POWER else (low, middle)
    return high
