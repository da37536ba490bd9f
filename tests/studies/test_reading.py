"""study.yaml: what is read, what is refused, and how the message says so."""

import shutil
from pathlib import Path

import pytest

from kdlab.errors import InputError
from kdlab.studies.names import unknown_names
from kdlab.studies.reading import read
from kdlab.studies.study import all_studies, experiments_folders, find, refuse_ambiguous

GOOD = """
title: A study
scale: full
tables:
  first:
    title: Temperatures
    baseline: alone
    rows:
      "T = {loss.kd.temperature}, {loss.kd.weight}":
        overrides: ["loss.kd.temperature=2,4", "loss.kd.weight=0.5,0.9", "teacher.seed=2"]
        seeds: [1, 2]
      alone: {overrides: [strategy=supervised], seeds: [1, 2, 3]}
      raised: {overrides: [strategy=supervised], seeds: [2, 3, 4], bias: {3: 2}}
expected:
  - {table: first, row: alone, value: 0.9, tolerance: 0.01}
  - {table: first, row: "T = 4, 0.9", above: alone}
"""


@pytest.fixture
def study(workplace):
    def write(text: str, name: str = "mine"):
        folder = Path("experiments", name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.yaml").write_text(text, encoding="utf-8")
        return read(name)

    return write


def test_rows_sweeps_and_the_order_of_training(study):
    found = study(GOOD)
    (table,) = found.tables
    assert [row.name for row in table.rows] == [
        "T = 2, 0.5",
        "T = 2, 0.9",
        "T = 4, 0.5",
        "T = 4, 0.9",
        "alone",
        "raised",
    ]
    assert table.row("T = 4, 0.5").overrides == ("loss.kd.temperature=4", "loss.kd.weight=0.5", "teacher.seed=2")
    assert table.row("raised").bias == {3: 2.0} and table.metric == "accuracy"
    runs = found.run_overrides()
    assert len(runs) == 8 + 4, "a run of two rows is there once"
    assert runs[:3] == [("strategy=supervised", f"seed={seed}") for seed in (1, 2, 3)], "the baseline comes first"
    assert found.curve_rows == tuple(row.name for row in table.rows) and found.curve_metric == "val/accuracy"
    assert found.expected[1].above == "alone" and found.expected[1].by == 0.0


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("title: A study", "titel: A study", ["there is no key 'titel'; did you mean 'title'?", "title is missing"]),
        ("scale: full", "scale: 3", ["scale must be a text, got 3"]),
        ("seeds: [1, 2, 3]", "seeds: 3", ["tables.first.rows.alone: seeds must be a list of whole numbers", "got 3"]),
        ("seeds: [1, 2, 3]", "seeds: [1, 2, 2]", ["tables.first.rows.alone.seeds: 2 is there several times"]),
        ("seeds: [1, 2, 3]", "sedes: [1]", ["did you mean 'seeds'?"]),
        ("baseline: alone", "baseline: allone", ["tables.first.baseline: there is no 'allone'; did you mean 'alone'?"]),
        ("row: alone", "row: alnoe", ["expected, number 1: row: there is no 'alnoe'; did you mean 'alone'?"]),
        (
            "table: first, row: alone",
            "table: frist, row: alone",
            ["expected, number 1: table: there is no 'frist'; did you mean 'first'?"],
        ),
        ("above: alone", "above: alnoe", ["expected, number 2: above: there is no 'alnoe'"]),
        (", tolerance: 0.01", "", ["expected, number 1: a value needs a tolerance"]),
        (
            "above: alone",
            "claim: x",
            ["give exactly one of value, above and below as the expectation; there are none of them"],
        ),
        ("value: 0.9, tolerance: 0.01", "value: 0.9, tolerance: 0.01, by: 1", ["by has no effect with value"]),
        (
            "T = {loss.kd.temperature}, ",
            "",
            ["loss.kd.temperature=2,4 is a sweep", "write {loss.kd.temperature} into it"],
        ),
        ("{loss.kd.weight}", "{loss.kd.wieght}", ["the name has {loss.kd.wieght}, and no override is of that key"]),
        ("teacher.seed=2", "seed=2", ["seed=2: give the seeds with the key seeds"]),
        ("teacher.seed=2", "paths.runs=x", ["paths.runs=x: where and how a run is kept belongs in"]),
        ("teacher.seed=2", "student=glob(*)", ["a study names its choices one by one"]),
        ("teacher.seed=2", "teacher.seed", ["teacher.seed"]),
        ("raised:", "alone:", ["'alone' is here 2 times"]),
        ("raised:", '"T = 2, 0.5":', ["tables.first.rows: 'T = 2, 0.5' names several rows"]),
        ("bias: {3: 2}", "bias: {x: 2}", ["bias must be numbers by class, for example {3: 2.0}"]),
        (
            'row: "T = 4, 0.9", above',
            "row: alone, above",
            ["expected, number 2: above: the row cannot be above itself"],
        ),
        (
            "expected:",
            "curves: {rows: [alnoe]}\nexpected:",
            ["curves.rows: there is no 'alnoe'; did you mean 'alone'?"],
        ),
        (
            "expected:",
            "curves: {rows: [alone, raised, alone]}\nexpected:",
            ["curves.rows: 'alone' is there 2 times"],
        ),
        (
            "expected:",
            "curves: {table: frist}\nexpected:",
            ["curves.table: there is no 'frist'; did you mean 'first'?"],
        ),
        ("expected:", "expected: {}\nother:", ["expected must be a list", "there is no key 'other'"]),
        ("scale: full", "scale: [full", ["cannot be read: line"]),
    ],
)
def test_what_is_refused(study, old, new, words):
    assert old in GOOD
    with pytest.raises(InputError) as raised:
        study(GOOD.replace(old, new, 1))
    for word in words:
        assert word in str(raised.value), str(raised.value)
    assert "study.yaml" in str(raised.value)


ALONE = ("strategy=supervised",)


@pytest.mark.parametrize(
    "overrides, seeds, curves, kept",
    [
        ("strategy=supervised", "[1, 2, 3]", "{rows: [alone]}", ALONE),  # the same runs
        ("strategy=supervised", "[1, 2]", "{rows: [raised, alone]}", None),
        ("student=cnn", "[1, 2, 3]", "{rows: [alone]}", None),
        ("student=cnn", "[1, 2, 3]", "{table: first, rows: [alone]}", ALONE),
        ("student=cnn", "[1, 2, 3]", "{table: second, rows: [alone]}", ("student=cnn",)),
        ("student=cnn", "[1, 2, 3]", "{table: second}", ("student=cnn",)),
        ("student=cnn", "[1, 2, 3]", "{rows: [raised]}", ALONE),
        ("student=cnn", "[1, 2, 3]", "{metric: val/nll}", ALONE),  # the first table's
    ],
)
def test_a_name_in_curves_is_one_row(study, overrides, seeds, curves, kept):
    second = f"  second:\n    title: Again\n    rows:\n      alone: {{overrides: [{overrides}], seeds: {seeds}}}\n"
    text = GOOD.replace("expected:", f"{second}curves: {curves}\nexpected:", 1)
    if kept is not None:
        assert study(text).rows_of_curves()[-1].overrides == kept
        return
    with pytest.raises(InputError) as raised:
        study(text)
    assert str(raised.value) == (
        "experiments/mine/study.yaml: curves.rows: 'alone' names other runs in each of the "
        "tables first, second; choose a table, for example 'table: first' in curves"
    )


def test_several_problems_are_said_at_once(study):
    with pytest.raises(InputError) as raised:
        study(GOOD.replace("seeds: [1, 2, 3]", "seeds: x").replace("scale", "scael"))
    assert len(raised.value.problems) >= 3


def test_where_studies_are_found(study, tmp_path, monkeypatch):
    study(GOOD, "deeper/one")
    assert find("deeper/one")[0] == "deeper/one" and dict(all_studies())["deeper/one"] == Path("experiments/deeper/one")
    assert find("experiments/deeper/one")[0] == "deeper/one", "by its path it has the same name"
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "study.yaml").write_text(GOOD)
    assert find(str(other)) == ("elsewhere", other) and find(str(other / "study.yaml")) == ("elsewhere", other)
    with monkeypatch.context() as patch:
        (tmp_path / "here").mkdir()
        patch.chdir(tmp_path / "here")
        assert find("../elsewhere")[0].startswith("elsewhere-") and find("../elsewhere")[0] == find(str(other))[0], (
            "outside of here it is told by its path"
        )
    for path in ("a/st", "b/st", "deeper/one"):
        Path(path).mkdir(parents=True)
        Path(path, "study.yaml").write_text(GOOD)
    assert [find(path)[0] for path in ("a/st", "b/st/")] == ["a/st", "b/st"], (
        "of two folders of one name each has its own results"
    )
    with pytest.raises(
        InputError,
        match=r"'deeper/one' is a study in experiments/deeper/one and a folder here; name one of them by its path",
    ):
        refuse_ambiguous("deeper/one")
    refuse_ambiguous("a/st")
    refuse_ambiguous("experiments/deeper/one")
    assert find("deeper/one")[1] == Path("experiments/deeper/one"), "all studies are listed and checked all the same"
    assert find("experiments/deeper/one")[0] == "deeper/one" and find("./deeper/one/study.yaml")[0].startswith("one-")
    shutil.rmtree("deeper")
    with pytest.raises(InputError, match="there is no study 'deeper/noe'; did you mean 'deeper/one'"):
        find("deeper/noe")
    with pytest.raises(InputError, match="holds no study.yaml"):
        find(str(tmp_path))
    assert len(experiments_folders()) == 2, "the working folder's, and the checkout's"
    monkeypatch.setattr("kdlab.studies.study.experiments_folders", list)
    with pytest.raises(InputError, match="clone the repository"):
        find("hinton2015")


def test_the_study_of_the_readme(study):
    readme = (Path(__file__).parents[2] / "kdlab" / "studies" / "README.md").read_text(encoding="utf-8")
    found = study(readme.partition("```yaml\ntitle:")[2].partition("```")[0].join(["title:", ""]))
    assert [row.name for row in found.tables[0].rows] == ["alone", "T = 2", "T = 4"] and [
        one.above for one in found.expected
    ] == ["alone"]
    assert [(one.row, one.value) for one in found.levels] == [("alone", 0.95)]
    assert unknown_names(found, {(): {"data": {"classes": 10}}}) == []


@pytest.mark.parametrize(
    "old, new, words",
    [
        (
            "baseline: alone",
            "baseline: alone\n    metric: acuracy",
            "tables.first.metric: there is no 'acuracy'; did you mean 'accuracy'?",
        ),
        (
            "baseline: alone",
            "baseline: alone\n    further: [nll, class_10]",
            "tables.first.further: there is no 'class_10'",
        ),
        ("tolerance: 0.01", "tolerance: 0.01, metric: f1", "expected, number 1: metric: there is no 'f1'"),
        (
            "above: alone",
            "below: alone, metric: agreement",
            "expected, number 2: the runs of 'alone' have no teacher, and so no 'agreement'",
        ),
        (
            "baseline: alone",
            "baseline: alone\n    further: [kl_to_teacher]",
            "tables.first: no row's runs have a teacher, and so none has 'kl_to_teacher'",
        ),
        (
            "bias: {3: 2}",
            "bias: {30: 2}",
            "tables.first.rows.raised: bias: there is no class 30; the classes are 0 to 9",
        ),
        (
            "expected:",
            "curves: {metric: val/acuracy}\nexpected:",
            "curves.metric: there is no 'val/acuracy'; did you mean 'val/accuracy'?",
        ),
    ],
)
def test_what_no_run_can_have_is_found_before_training(study, old, new, words):
    assert old in GOOD
    found = study(GOOD.replace(old, new, 1))
    [problem] = unknown_names(
        found,
        {
            overrides: {
                "data": {"classes": 10},
                "teacher": None if "strategy=supervised" in overrides or "kl" in new else {},
            }
            for overrides in found.run_overrides()
        },
    )
    assert words in problem
