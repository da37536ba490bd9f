"""Paired differences, their correction, effect sizes and power, against SciPy, known data and simulation."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from kdlab.compare.power import power, smallest_effect
from kdlab.compare.statistics import (
    BETTER,
    NONE_FOUND,
    TOO_FEW,
    UNTESTED,
    WORSE,
    differences,
    effect_size,
    holm,
    interval,
    paired,
)

# Student (1908), the additional hours of sleep of ten patients under two drugs
DRUG, OTHER = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


def _seeds(values):
    return dict(enumerate(values, start=1))


def test_students_sleep():
    """t = 4.0621, df = 9, p = 0.002833, interval of the difference 0.7001 to 2.4599: as R prints them for this data
    set."""
    one = paired(_seeds(OTHER), _seeds(DRUG))
    assert (one.mean, one.p, one.n) == (pytest.approx(1.58), pytest.approx(0.002833, abs=5e-7), 10)
    assert (one.mean - one.half_width, one.mean + one.half_width) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert one.effect == pytest.approx(4.0621277 / 10**0.5 * 0.9139, abs=1e-3), "J(9) = 0.9139"


def test_interval_of_the_difference_is_scipys():
    first, second = np.array([0.81, 0.83, 0.85, 0.80]), np.array([0.80, 0.80, 0.84, 0.80])
    one, theirs = paired(_seeds(first), _seeds(second)), stats.ttest_rel(first, second)
    assert one.p == pytest.approx(theirs.pvalue)
    low, high = theirs.confidence_interval(0.95)
    assert (one.mean - one.half_width, one.mean + one.half_width) == pytest.approx((low, high))


def test_pairs_are_of_seeds():
    """In whatever order; a seed of one side alone is left out, and counted."""
    one = paired({3: 0.83, 1: 0.81, 2: 0.83, 9: 0.1}, {1: 0.80, 2: 0.81, 3: 0.80, 7: 0.9})
    assert (one.n, one.unpaired, one.mean) == (3, 2, pytest.approx(0.02))
    assert one.p == pytest.approx(stats.ttest_1samp([0.01, 0.02, 0.03], 0).pvalue)


def test_no_test_below_two_common_seeds():
    [none], [one] = differences([{5: 0.9}], {1: 0.8}), differences([{1: 0.9, 2: 0.9}], {1: 0.8})
    assert (none.mean, none.p, none.verdict, none.n, none.unpaired) == (None, None, TOO_FEW, 0, 2)
    assert (one.mean, one.half_width, one.p, one.verdict, one.n) == (pytest.approx(0.1), None, None, TOO_FEW, 1)


def test_differences_that_do_not_scatter():
    """The same runs differ in nothing; a constant difference is no proof, since coarse metrics make one by chance.
    float32 does not hide it."""
    base = _seeds(np.float32([0.9, 0.8, 0.85]).astype(float))
    same, constant = differences([base, _seeds(np.float32([0.92, 0.82, 0.87]).astype(float))], base)
    assert (same.mean, same.p, same.p_adjusted, same.effect, same.verdict) == (0.0, 1.0, 1.0, 0.0, NONE_FOUND)
    assert (constant.p, constant.effect, constant.verdict) == (None, None, UNTESTED) and "no scatter" in constant.note
    assert constant.mean == pytest.approx(0.02, abs=1e-6)


def test_two_seeds_of_opposite_signs_tell_nothing():
    """The mean is 0 and p is 1, and still a large difference could hide."""
    [one] = differences([{1: 0.85, 2: 0.83}], {1: 0.84, 2: 0.84})
    assert one.p == pytest.approx(1) and one.verdict == TOO_FEW


def test_holm_is_over_all_rows():
    """By hand: sorted p times 6, 5, 4, …, made monotone."""
    p = [0.004, 0.03, 0.008, 0.5, 0.012, 0.02]
    assert holm(p) == pytest.approx([0.024, 0.06, 0.04, 0.5, 0.048, 0.06])
    random = np.random.default_rng(3)
    base = random.normal(size=6)
    rows = [_seeds(base + shift + 0.3 * random.normal(size=6)) for shift in (0.0, 0.5, 1.0, 2.0)]
    found = differences(rows, _seeds(base))
    assert [one.p_adjusted for one in found] == pytest.approx(holm([one.p for one in found]))
    assert [one.p_adjusted for one in differences([*rows, rows[0]], _seeds(base))] == pytest.approx(
        [*(one.p_adjusted for one in found), found[0].p_adjusted]
    ), "what stands twice is one comparison"


def test_holm_is_that_of_statsmodels():
    random = np.random.default_rng(6)
    for size in (1, 2, 7, 30):
        p = np.round(random.uniform(size=size) ** 3, 2)  # with ties, zeros and ones
        assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]), abs=1e-15)
    assert holm([]) == []


def test_rows_that_stand_twice_change_nothing():
    """Neither the correction nor what so many seeds could find: nine rows that are one are one comparison."""
    base, row = _seeds([0.80, 0.81, 0.79, 0.80, 0.82]), _seeds([0.81, 0.81, 0.80, 0.79, 0.83])
    [alone] = differences([row], base)
    assert (alone.verdict, alone.p_adjusted) == (NONE_FOUND, alone.p)
    assert differences([row] * 9, base) == [alone] * 9
    other = _seeds([0.81, 0.80, 0.80, 0.82, 0.83])
    pair = differences([row, other], base)
    assert pair[0].detectable > alone.detectable and differences([row, other, row, other, row], base) == [
        *pair,
        *pair,
        pair[0],
    ]


def test_verdicts_turn_around():
    base, more = _seeds([0.80, 0.81, 0.79, 0.80, 0.82]), _seeds([0.90, 0.92, 0.89, 0.90, 0.91])
    assert [one.verdict for one in differences([more], base)] == [BETTER]
    assert [one.verdict for one in differences([more], base, higher_is_better=False)] == [WORSE]
    assert [one.verdict for one in differences([base], more, higher_is_better=False)] == [BETTER]


def test_too_few_depends_on_seeds_and_rows_alone():
    """Five seeds find an effect of 2 in one comparison (80 % power from 1.68 on), not in nine (from 3.07 on); ten
    do."""
    random = np.random.default_rng(0)

    def verdicts(seeds, rows):
        base = random.normal(size=seeds)
        return {
            one.verdict
            for one in differences([_seeds(base + random.normal(size=seeds)) for _ in range(rows)], _seeds(base))
        } - {BETTER, WORSE}

    assert [verdicts(*case) for case in ((5, 1), (5, 9), (3, 1), (10, 9))] == [
        {NONE_FOUND},
        {TOO_FEW},
        {TOO_FEW},
        {NONE_FOUND},
    ]


def test_what_can_be_detected_is_found_four_times_in_five():
    """2,000 paired experiments with a difference of that size, each tested by SciPy at the corrected level."""
    random, level = np.random.default_rng(1), 0.05 / 4
    experiments = random.normal(smallest_effect(5, level), 1.0, size=(2000, 5))
    share = (stats.ttest_1samp(experiments, 0, axis=1).pvalue < level).mean()
    assert share == pytest.approx(0.8, abs=0.03)  # three standard errors
    base, row = _seeds([1.0, 2.0, 3.0, 4.0, 5.0]), _seeds([1.1, 2.0, 3.2, 3.9, 5.1])
    [one] = differences([row], base)
    assert one.detectable == pytest.approx(smallest_effect(5, 0.05) * np.std([0.1, 0.0, 0.2, -0.1, 0.1], ddof=1))


@pytest.mark.parametrize("n, level", [(4, 0.05), (5, 0.05), (10, 0.01), (30, 0.001)])
def test_power_is_that_of_statsmodels(n, level):
    effect = smallest_effect(n, level)
    assert TTestPower().power(effect, n, level) == pytest.approx(0.8, abs=1e-4) and power(
        effect, n, level
    ) == pytest.approx(0.8, abs=1e-6)


def test_effect_size_is_unbiased():
    """Of a true effect of 1.5, from four differences each: 1.5 on average, where Cohen's d_z says 2.2 (J(3) =
    0.7236)."""
    random = np.random.default_rng(2)
    samples = random.normal(1.5, 1.0, size=(20000, 4))
    plain = samples.mean(1) / samples.std(1, ddof=1)
    ours = effect_size(samples[0]) / plain[0] * plain
    assert ours.mean() == pytest.approx(1.5, abs=0.03) and effect_size([1.0, 2.0]) is None


def test_identical_methods_are_rarely_told_apart():
    """1,000 comparisons of two methods that are one, five seeds each: 5 % false positives, within what a binomial
    allows one time in a thousand."""
    random = np.random.default_rng(4)
    low, high = stats.binom.ppf([0.0005, 0.9995], 1000, 0.05)
    values = random.normal(0.9, 0.01, size=(1000, 2, 5))
    found = sum(differences([_seeds(one)], _seeds(other))[0].verdict in (BETTER, WORSE) for one, other in values)
    assert low <= found <= high


def test_a_table_of_identical_methods_rarely_claims_anything():
    """1,000 tables of a baseline and nine rows: at most 5 % claim anything; 300 of three seeds and a metric in steps of
    1 / 400, where ties are common. Without correction it would be far more."""
    random = np.random.default_rng(5)
    for tables, seeds, step in ((1000, 5, None), (300, 3, 1 / 400)):
        claims = uncorrected = 0
        for values in random.normal(0.9, 0.01, size=(tables, 10, seeds)):
            values = values if step is None else np.round(values / step) * step
            found = differences([_seeds(row) for row in values[1:]], _seeds(values[0]))
            claims += any(one.verdict in (BETTER, WORSE) for one in found)
            uncorrected += any(one.p is not None and one.p < 0.05 for one in found)
        assert claims <= stats.binom.ppf(0.9995, tables, 0.05) < 0.15 * tables < uncorrected


def test_interval_of_one_and_of_equal_values():
    assert interval([0.5]).half_width is None and interval([0.5, 0.5]).half_width == 0.0


def test_the_power_is_that_of_scipys_noncentral_t():
    for n, level in ((2, 0.05), (5, 0.05 / 19), (12, 0.05), (100, 0.0005)):
        effect = smallest_effect(n, level)
        expected = stats.nct.sf(stats.t.isf(level / 2, n - 1), n - 1, effect * n**0.5)
        assert power(effect, n, level) == pytest.approx(expected, abs=1e-9)
        assert expected == pytest.approx(0.8, abs=1e-8)


def test_a_comparison_does_not_import_scipy_stats():
    """It takes longer than all the rest of ``kdlab compare``."""
    code = (
        "import sys; from kdlab.compare.statistics import differences; "
        "one, = differences([{1: 0.8, 2: 0.9, 3: 0.7}], {1: 0.7, 2: 0.85, 3: 0.75}); "
        "assert one.detectable; print({'scipy.stats', 'scipy.optimize', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
