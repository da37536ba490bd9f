"""Claims and levels: what they are tested with, and that a claim never contradicts its table."""

import math
from dataclasses import replace

import pytest
from scipy import stats

from kdlab.studies import tables
from kdlab.studies.expectations import (
    AGAINST,
    BY_SIGN,
    HOLDS,
    MISSES,
    UNKNOWN,
    Finding,
    block,
    findings,
    levels,
    levels_block,
)
from kdlab.studies.reading import read
from kdlab.studies.records import read_records, tasks_of
from kdlab.studies.study import Expectation, all_studies

from .synthetic import expect, records, study

ALONE = [0.80, 0.81, 0.79, 0.80, 0.82]
LITTLE, MUCH, LESS = (
    [value + by for value, by in zip(ALONE, gains)]
    for gains in (
        (0.010, -0.002, 0.012, 0.003, 0.004),
        (0.020, 0.024, 0.019, 0.021, 0.022),
        (-0.020, -0.024, -0.019, -0.021, -0.022),
    )
)


@pytest.mark.parametrize("off, verdict", [(0.5, HOLDS), (1.0, HOLDS), (1.5, MISSES), (-1.0, HOLDS), (-1.5, MISSES)])
def test_a_value_holds_within_its_tolerance(off, verdict):
    one = study(
        ["a"],
        [expect("a", value=0.8 + 0.01 * off, tolerance=0.01)],
        [expect("a", value=0.8 + 0.01 * off, tolerance=0.01)],
    )
    for found in (findings(one, records(a=[0.79, 0.81])), levels(one, records(a=[0.79, 0.81]))):
        assert [finding.verdict for finding in found] == [verdict]


def test_a_claim_has_the_p_of_its_table():
    """Against the baseline, on the table's metric: whatever is corrected there is corrected here."""
    made = records(alone=ALONE, little=LITTLE, much=MUCH, less=LESS)
    one = study(
        ["alone", "little", "much", "less"],
        [
            expect("little", above="alone"),
            expect("much", above="alone"),
            expect("less", above="alone"),
            expect("alone", below="much"),
            expect("alone", above="much", by=0.01),
        ],
        baseline="alone",
    )
    [little, much, less, turned, by] = findings(one, made)
    shown = {row.label: row.difference for row in tables.table(one.tables[0], made).rows}
    assert [(found.p, found.comparisons) for found in (little, much, less, turned)] == [
        (shown[name].p_adjusted, 3) for name in ("little", "much", "less", "much")
    ]
    assert [found.verdict for found in (little, much, less, turned, by)] == [BY_SIGN, HOLDS, MISSES, HOLDS, MISSES]
    alone = stats.ttest_rel(LITTLE, ALONE).pvalue
    assert alone < 0.1 and little.p == pytest.approx(alone), "Holm's last step"
    assert (by.p, by.comparisons) == (
        pytest.approx(stats.ttest_1samp([a - b for a, b in zip(ALONE, MUCH)], 0.01).pvalue),
        1,
    ), "a difference of more than nothing"


def test_other_claims_are_one_family():
    """By hand: three comparisons that no table shows, one of them claimed twice."""
    made = records(alone=ALONE, little=LITTLE, much=MUCH, less=LESS)
    one = study(
        ["alone", "little", "much", "less"],
        [
            expect("much", above="little"),
            expect("little", above="less"),
            expect("little", below="much"),
            expect("much", above="less"),
        ],
    )
    found = findings(one, made)
    p = [stats.ttest_rel(*pair).pvalue for pair in ((MUCH, LITTLE), (LITTLE, LESS), (MUCH, LESS))]
    by_rank = sorted(p)
    corrected = {
        value: max(min(1, by_rank[other] * (3 - other)) for other in range(rank + 1))
        for rank, value in enumerate(by_rank)
    }
    assert [finding.p for finding in found] == pytest.approx([corrected[value] for value in (p[0], p[1], p[0], p[2])])
    assert {finding.comparisons for finding in found} == {3} and {finding.verdict for finding in found} == {HOLDS}


def test_what_holds_by_itself_and_not_after_the_correction():
    """p = 0.04 of one comparison, beside nine that are nothing."""
    gain = [0.011, 0.001, 0.008, 0.002, 0.009]
    p = stats.ttest_1samp(gain, 0).pvalue
    nothing = {
        f"n{number}": [value + (0.001 if (number + place) % 2 else -0.001) for place, value in enumerate(ALONE)]
        for number in range(9)
    }
    made = records(alone=ALONE, better=[a + b for a, b in zip(ALONE, gain)], **nothing)
    one = study(["alone", "better", *nothing], [expect("better", above="alone")], baseline="alone")
    assert 0.02 < p < 0.05
    [found] = findings(one, made)
    assert found.verdict == BY_SIGN and found.comparisons > 1 and found.p > 0.05
    [found] = findings(study(["alone", "better"], [expect("better", above="alone")], baseline="alone"), made)
    assert (found.verdict, found.p, found.comparisons) == (HOLDS, pytest.approx(p), 1)


def test_against_one_run_and_against_other_seeds():
    made = records(teacher=[0.9], alone=ALONE)
    [above, below, by] = findings(
        study(
            ["teacher", "alone"],
            [
                expect("teacher", above="alone"),
                expect("alone", below="teacher"),
                expect("teacher", above="alone", by=0.1),
            ],
        ),
        made,
    )
    p = stats.ttest_1samp(ALONE, 0.9).pvalue
    assert (
        "+0.0960 ± 0.0142 (n = 5), against one run" == above.found
        and "-0.0960 ± 0.0142 (n = 5), against one run" == below.found
    )
    assert above.p == below.p and above.p == pytest.approx(2 * p), (
        "two comparisons: more than nothing, and more than 0.1"
    )
    assert [found.verdict for found in (above, below, by)] == [HOLDS, HOLDS, AGAINST]
    others = [{**record, "seed": record["seed"] + 10} for record in records(other=MUCH)]
    [found] = findings(study(["other", "alone"], [expect("other", above="alone")]), [*made, *others])
    half = math.hypot(*(stats.sem(values) * stats.t.ppf(0.975, 4) for values in (MUCH, ALONE)))
    assert found.found == f"+0.0212 ± {half:.4f} (n = 5), against other seeds"
    assert found.p == pytest.approx(stats.ttest_ind(MUCH, ALONE, equal_var=False).pvalue)
    assert found.verdict == HOLDS and found.excess == pytest.approx(0.0212)


def test_one_seed_and_equal_differences_are_no_test():
    [one] = findings(study(["a", "b"], [expect("a", above="b")]), records(a=[0.9], b=[0.8]))
    assert (one.verdict, one.p, one.test) == (BY_SIGN, None, "")
    [equal] = findings(study(["a", "b"], [expect("a", above="b")]), records(a=[0.75, 1.0], b=[0.5, 0.75]))
    assert (equal.verdict, equal.p) == (BY_SIGN, None)
    [same] = findings(study(["a", "b"], [expect("a", above="b")], baseline="b"), records(a=ALONE, b=ALONE))
    assert same.verdict == AGAINST and same.excess == 0
    [missing] = findings(study(["a", "b"], [expect("a", above="b")]), records(a=[0.9]))
    assert missing.verdict == UNKNOWN and not missing.accepted and missing.contradicted


def test_a_run_that_did_not_finish_counts_nothing():
    """Even where its record has metrics, as one that was interrupted at its end."""
    made = [{**record, "status": "failed"} if record["seed"] == 2 else record for record in records(a=[0.8, 0.1])]
    [found] = findings(study(["a"], [expect("a", value=0.8, tolerance=0.001)]), made)
    assert (found.verdict, found.found) == (HOLDS, "0.8000 (n = 1)")


def test_what_is_shown():
    text = block([Finding(expect("a", above="b", claim="one | two"), "more", "+0.1", HOLDS, 0.00001, 4)])
    assert "| one \\| two | a | more | +0.1 | <0.001 (4) | holds |" in text and "corrected by Holm's method" in text
    assert "corrected" not in block([Finding(expect("a", value=1.0, tolerance=0.1), "1", "1", HOLDS)])
    text = levels_block([Finding(expect("a", value=1.0, tolerance=0.1), "accuracy 1.0", "0.98", HOLDS)])
    assert (
        text.startswith("**Regression checks.** Not claims of a paper")
        and "| t | a | accuracy 1.0 | 0.98 | holds |" in text
    )


def test_no_claim_of_a_study_contradicts_its_table():
    """Of every study in git: better and worse in a table are what holds and what does not among the claims about the
    same difference."""
    compared = 0
    for name, _ in all_studies():
        one = read(name)
        made = read_records(one.results)
        one = one.with_headlines(tasks_of(made))
        for found in findings(one, made) if made else ():
            table = one.table(found.expectation.table)
            claim = found.expectation
            if (
                claim.above is None
                or claim.above != table.baseline
                or claim.by
                or claim.metric not in (None, table.metric)
            ):
                continue
            [verdict] = {
                row.difference.verdict
                for row in tables.table(table, made).rows
                if row.label == claim.row and row.difference
            } or {None}
            if verdict is not None:
                compared += 1
                assert (found.verdict == HOLDS, found.verdict == MISSES) == (verdict == "better", verdict == "worse"), (
                    name,
                    found,
                )
    assert compared > 20


def test_a_sign_that_cannot_be_told_speaks_against_nothing():
    def found(verdict, explained=""):
        one = Finding(Expectation("a", "b", above="c", explained=explained), "", "", verdict)
        return one.accepted, one.contradicted

    assert [found(verdict) for verdict in (HOLDS, BY_SIGN, AGAINST, MISSES, UNKNOWN)] == [
        (True, False),
        (True, False),
        (False, False),
        (False, True),
        (False, True),
    ], "what is in git explains it all the same"
    assert [found(verdict, "too short") for verdict in (AGAINST, MISSES, UNKNOWN)] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_levels_are_no_claims():
    one = read("logit_methods")
    assert (
        {claim.value for claim in one.expected} == {None}
        and all(level.claim == "" for level in one.levels)
        and len(one.levels) == 4
    )
    moved = replace(one, levels=tuple(replace(level, value=level.value + 0.02) for level in one.levels))
    assert {found.verdict for found in levels(moved, read_records(one.results))} == {MISSES}
