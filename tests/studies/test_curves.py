"""curves.csv of a study: which epochs it has, and that its rows are those of the study."""

from dataclasses import replace

import pytest

from kdlab.studies import curves

from .synthetic import study


def test_an_epoch_that_not_all_seeds_have_is_left_out():
    text = curves.as_csv({"a": [{1: 0.25, 2: 0.5, 3: 0.75}, {2: 1.0, 3: 0.25}], "b": [{1: 0.5}]})
    assert text.splitlines() == [
        "row,epoch,mean,low,high,n",
        "a,2,0.75,0.5,1.0,2",
        "a,3,0.5,0.25,0.75,2",
        "b,1,0.5,0.5,0.5,1",
    ]


def test_rows_of_steps_have_a_column_of_steps(tmp_path):
    text = curves.as_csv({"a": [{50: 0.25, 100: 0.5}]}, "step")
    assert text.splitlines() == ["row,step,mean,low,high,n", "a,50,0.25,0.25,0.25,1", "a,100,0.5,0.5,0.5,1"]
    one = replace(study(["a"]), folder=tmp_path, curve_rows=("a",))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "curves.csv").write_text(text)
    assert curves.check(one, finished={"a"}) == []
    (tmp_path / "results" / "curves.csv").write_text(text.replace("step", "batch"))
    assert "does not begin with the columns" in curves.check(one, finished={"a"})[0]


@pytest.mark.parametrize(
    "rows, problem",
    [
        (["a", "b"], None),
        (["b", "a"], "has the curves of b, a, and study.yaml names a, b"),
        (["a"], "has the curves of a, and study.yaml names a, b"),
        (["a", "b", "c"], "has the curves of a, b, c, and study.yaml names a, b"),
        ([], "has the curves of no row, and study.yaml names a, b"),
    ],
)
def test_its_rows_are_those_that_the_study_names(tmp_path, rows, problem):
    one = replace(study(["a", "b", "c"]), folder=tmp_path, curve_rows=("a", "b", "c"))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "curves.csv").write_text(curves.as_csv({name: [{1: 0.5}] for name in rows}))
    found = curves.check(one, finished={"a", "b"})
    assert found == [] if problem is None else len(found) == 1 and found[0].endswith(problem)
