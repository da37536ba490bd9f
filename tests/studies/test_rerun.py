"""A rerun compared with git: a right one passes, a method that has stopped working does not."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdlab.studies.reading import read
from kdlab.studies.records import RERUN, read_records, tasks_of
from kdlab.studies.rerun import LEAST_LEFT, Again, claims, objections, reruns
from kdlab.studies.study import all_studies

from .synthetic import expect, records, study

ALONE = [0.850, 0.856, 0.852, 0.858, 0.854]
KD = [0.858, 0.863, 0.861, 0.865, 0.861]


def _studied(name="logit_methods"):
    one = read(name)
    return one, read_records(one.results)


def _replaced(git, row, by, table="logits"):
    """Records in which a row's runs have the numbers of another row's."""
    others = {record["seed"]: record for record in git if [table, by] in record["rows"]}
    return [
        {**record, **{key: others[record["seed"]][key] for key in ("metrics", "class_recall")}}
        if [table, row] in record["rows"]
        else record
        for record in git
    ]


def test_what_is_in_git_agrees_with_itself():
    for name, folder in all_studies():
        made = read_records(folder / "results")
        one = read(name).with_headlines(tasks_of(made))
        assert {found.verdict for found in reruns(one, made, made)} <= {"the same"} and objections(
            one, made, made
        ) == 0, name


def test_right_reruns_on_another_processor_agree():
    """Those that are kept in git, whichever side is called the rerun."""
    kept = 0
    for name, folder in all_studies():
        git, again = read_records(folder / "results"), read_records(folder / "results", RERUN)
        if again:
            one = read(name).with_headlines(tasks_of(git))
            kept += 1
            assert objections(one, again, git) == objections(one, git, again) == 0, name
    assert kept >= 3


@pytest.mark.parametrize("row", ["KD", "DKD", "NKD", "DIST", "KD of standardised logits"])
def test_a_method_that_does_what_the_student_does_alone_is_seen(row):
    """On the same machine, where all else is the same to the bit; and on another, where nothing is."""
    one, git = _studied()
    replaced = _replaced(git, row, "student alone")
    assert [found.row for found in reruns(one, replaced, git) if found.verdict != "the same"] == [row]
    lost = [found for found in claims(one, replaced, git) if not found.agrees]
    assert lost and lost[0].verdict == "NOT found again (0 % of the effect)" and lost[0].row == row
    again = _replaced(read_records(one.results, RERUN), row, "student alone")
    assert objections(one, again, git) and objections(one, git, again), "whichever side has stopped"


@pytest.mark.parametrize("broken, code", [(False, 0), (True, 1)])
def test_reproduce_exits_with_one(kdlab, monkeypatch, broken, code):
    """logit_methods with the student's five records in the place of KD's: the row is beyond its tolerance, and the
    claim is not found again."""
    one, git = _studied()
    here = _replaced(git, "KD", "student alone") if broken else git
    monkeypatch.setattr("kdlab.studies.training.train", lambda *_: {})
    monkeypatch.setattr("kdlab.studies.results.write", lambda *_: (here, []))
    found, out, err = kdlab("reproduce", "logit_methods")
    assert found == code, out + err
    [kd] = [one for one in reruns(one, here, git) if one.row == "KD"]
    assert kd.within != broken and ("NOT found again" in " ".join(out.split())) == broken


def test_a_row_must_be_within_its_tolerance_and_as_other_seeds_differ():
    one = study(["a"], levels=[expect("a", value=0.85, tolerance=0.01)])
    bare = study(["a"])

    def moved(by, scatter=0.0):
        return records(a=[value + by + scatter * (-1) ** place for place, value in enumerate(ALONE)])

    def agrees(study, here):
        [found] = reruns(study, here, records(a=ALONE))
        return found.agrees, found.verdict

    assert agrees(one, moved(0.0)) == (True, "the same")
    assert agrees(bare, records(a=ALONE[::-1])) == (True, "as other seeds differ (+0.0000, p = 1.000)"), (
        "other seeds of the same mean"
    )
    assert agrees(one, moved(0.001)) == (True, "within 0.01, as other seeds differ (+0.0010, p = 0.631)")
    assert agrees(one, moved(0.008)) == (False, "within 0.01, NOT as other seeds differ (+0.0080, p = 0.004)")
    assert agrees(one, moved(0.011, 0.02)) == (False, "NOT within 0.01, as other seeds differ (+0.0150, p = 0.157)")
    assert agrees(bare, moved(0.008)) == (False, "NOT as other seeds differ (+0.0080, p = 0.004)")
    assert agrees(bare, records(a=[0.9] * 5)) == (True, "differs by +0.0460; no test"), (
        "what does not scatter is no sample of seeds"
    )
    assert agrees(one, records(a=[0.9] * 5)) == (False, "NOT within 0.01 (+0.0460)")
    # a row of one run has its tolerance alone
    assert [found.agrees for found in reruns(one, records(a=[0.859]), records(a=[0.85]))] == [True]
    assert [found.agrees for found in reruns(one, records(a=[0.861]), records(a=[0.85]))] == [False]


def test_rows_that_are_the_same_are_no_comparisons():
    """Where one row of three is another, it is corrected for nothing; a run of two tables is one comparison."""
    git = records(a=ALONE, b=KD, c=[value + 0.1 for value in ALONE])
    here = [
        {**record, "metrics": {"test/accuracy": record["metrics"]["test/accuracy"] + 0.006}}
        if record["group"] == "a"
        else record
        for record in git
    ]
    one = study(["a", "b", "c"])
    [alone] = reruns(study(["a"]), here, git)
    assert [found.p for found in reruns(one, here, git)] == [alone.p, None, None]
    twice = replace(one, tables=(one.tables[0], replace(one.tables[0], name="again")))
    both, theirs = (
        [{**record, "rows": [["t", record["group"]], ["again", record["group"]]]} for record in made]
        for made in (here, git)
    )
    assert [found.p for found in reruns(twice, both, theirs)] == 2 * [alone.p, None, None]


def test_a_claim_is_gone_where_little_is_left_and_seeds_do_not_explain_it():
    one = study(["alone", "kd"], [expect("kd", above="alone")], baseline="alone")
    git = records(alone=ALONE, kd=KD)

    def found(gains, alone=ALONE):
        [claim] = claims(one, records(alone=alone, kd=[a + b for a, b in zip(alone, gains)]), git)
        return claim.agrees, round(claim.left, 2)

    assert found([0.007, 0.005, 0.006, 0.004, 0.006]) == (True, 0.74), "smaller"
    assert found([0.004, -0.002, 0.003, 0.001, 0.002]) == (False, 0.21), "next to nothing"
    assert found([-0.008, -0.007, -0.009, -0.007, -0.007])[0] is False, "the contrary"
    assert found([0.03, -0.03, 0.02, -0.01, -0.005]) == (True, 0.13), (
        "seeds that scatter so much tell nothing against it"
    )
    assert found([0.0] * 5) == (False, 0.0), "a row that is another once more"
    [claim] = claims(one, git, records(alone=ALONE, kd=ALONE))
    assert not claim.agrees, "what only the rerun finds"
    assert claims(one, records(alone=ALONE, kd=ALONE), records(alone=ALONE, kd=ALONE)) == [], (
        "what is told nowhere is no claim"
    )
    assert (
        not Again("", "", "", "", LEAST_LEFT - 0.01).agrees
        and Again("", "", "", "", LEAST_LEFT).agrees
        and Again("", "", "", "", 0.0, 0.5).agrees
    )


def test_a_claim_for_less_is_turned():
    one = study(["alone", "kd"], [expect("alone", below="kd")])
    git = records(alone=ALONE, kd=KD)
    assert [found.agrees for found in claims(one, git, git)] == [True]
    assert [found.agrees for found in claims(one, records(alone=KD, kd=ALONE), git)] == [False]


def test_how_often_a_right_rerun_is_objected_to():
    """60 right reruns, and 25 in which KD has stopped: seeds that share four fifths of their scatter with git, as they
    do in git on average."""
    path = Path(__file__).parents[2] / "experiments" / "reruns" / "false_alarms.py"
    spec = importlib.util.spec_from_file_location("false_alarms", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    one, git = _studied()
    model, random = script.Model(one, git, shared=0.8, teacher=0.0), np.random.default_rng(0)
    right, *_, strict = script.measured(model, 60, random)
    stopped, *_ = script.measured(model, 25, random, ("logits", "KD"))
    assert right <= 0.08 < strict and stopped >= 0.85, "3 % and 94 % of many draws"
