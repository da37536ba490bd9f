"""Groups, intervals and tables, on records written by hand."""

import csv
import io
import json

import numpy as np
import pytest
from scipy import stats

from kdlab.compare import comparison, groups, interval
from kdlab.errors import InputError
from kdlab.runs.run import find_runs

TEACHER = {
    "name": "teacher/digits (seed 1)",
    "parameters": 5000,
    "test": {"accuracy": 0.9},
    "runs": [{"path": "gone", "hash": "t", "metrics": {"test/accuracy": 0.9, "test/accuracy_best": 0.91}}],
}


def _write(
    folder,
    name,
    *,
    strategy="offline",
    temperature=4.0,
    seed=1,
    accuracy=0.8,
    status="finished",
    teacher=TEACHER,
    parameters=100,
    group=None,
):
    path = folder / name
    path.mkdir(parents=True)
    loss = (
        {"ce": {"weight": 1.0}}
        if strategy == "supervised"
        else {"ce": {"weight": 0.1}, "kd": {"weight": 0.9, "temperature": temperature}}
    )
    config = {
        "seed": seed,
        "choices": {"strategy": strategy, "student": "mlp", "data": "digits"},
        "loss": loss,
        "teacher": None,
        "student": {"hidden": [4]},
        "data": {"batch_size": 4},
        "paths": {},
    }
    record = {
        "status": status,
        "hash": name,
        "group": group or f"{strategy}-{temperature}",
        "metrics": {},
        "parameters": parameters,
        "durations": {"train_seconds": 2.0 * seed},
        "weights": {key: node["weight"] for key, node in loss.items()},
        "uses_teacher": strategy != "supervised",
        "teacher": None if strategy == "supervised" else teacher,
    }
    if status == "finished":
        record["metrics"] = {"test/accuracy": accuracy, "test/accuracy_best": accuracy + 0.01}
    (path / "run.json").write_text(json.dumps(record))
    (path / "config.yaml").write_text(json.dumps(config))
    return path


@pytest.fixture
def folder(tmp_path):
    for seed, accuracy in ((1, 0.80), (2, 0.82), (3, 0.84)):
        _write(tmp_path, f"kd4-{seed}", seed=seed, accuracy=accuracy)
        _write(tmp_path, f"kd8-{seed}", seed=seed, accuracy=accuracy + 0.02, temperature=8.0)
    _write(tmp_path, "plain", strategy="supervised", accuracy=0.7)
    _write(tmp_path, "failed", temperature=8.0, seed=4, status="failed")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text('{"status": "fini')
    return tmp_path


def test_interval_is_students_t():
    values = np.array([0.71, 0.69, 0.74, 0.70, 0.73])
    found = interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_groups_are_over_seeds(folder):
    found, left_out = groups(find_runs([folder]))
    assert {group.label: len(group.runs) for group in found} == {
        "offline ce+kd  kd.temperature=4": 3,
        "offline ce+kd  kd.temperature=8": 3,
        "supervised ce": 1,
    }
    assert [len(group.unfinished) for group in found if "8" in group.label] == [1]
    assert len(left_out) == 1 and "torn" in left_out[0]


def test_the_choice_of_a_group_stands_for_what_is_in_its_node(tmp_path):
    """Until two groups are told apart by nothing else."""
    for name, mixing, node in (
        ("a", "none", None),
        ("b", "mixup", {"alpha": 0.2}),
        ("c", "mixup", {"alpha": 1.0}),
        ("d", None, "no such key"),
    ):
        path = _write(tmp_path, name, group=name)
        config = json.loads((path / "config.yaml").read_text())
        if mixing is not None:
            config["choices"]["mixing"], config["data"]["mixing"] = mixing, node
        (path / "config.yaml").write_text(json.dumps(config))
    found, _ = groups(find_runs([tmp_path]))
    assert sorted(group.label for group in found) == [
        "offline ce+kd",
        "offline ce+kd  mixing=mixup  data.mixing.alpha=0.2",
        "offline ce+kd  mixing=mixup  data.mixing.alpha=1",
        "offline ce+kd  mixing=none",
    ]


def test_table(folder):
    table = comparison(list(find_runs([folder])))
    assert [row.role for row in table.rows] == ["teacher", "student baseline", "variant", "variant"]
    row = table.rows[2]
    assert row.last.mean == pytest.approx(0.82) and row.best.mean == pytest.approx(0.83) and row.last.n == 3
    assert row.retention == pytest.approx(0.82 / 0.9) and row.parameters == 100 and row.seconds == pytest.approx(4.0)
    assert row.last.half_width == pytest.approx(stats.t.ppf(0.975, 2) * 0.02 / np.sqrt(3))
    assert table.rows[0].last.mean == 0.9 and table.rows[0].label == "teacher/digits (seed 1)"
    assert table.rows[1].retention == pytest.approx(0.7 / 0.9), (
        "the baseline is held against the teacher that all share"
    )
    assert any("failed" in note for note in table.notes) and any("torn" in note for note in table.notes)


def test_csv_and_markdown_say_the_same(folder, kdlab):
    code, out, err = kdlab("compare", folder)
    assert code == 0 and "kd.temperature=8" in out and "0.8200 ± 0.0497" in out
    rows = list(csv.DictReader(io.StringIO((folder / "compare.csv").read_text())))
    assert (
        float(rows[3]["last_mean"]) == pytest.approx(0.84)
        and rows[3]["weights"] == "ce=0.1 kd=0.9"
        and rows[3]["n"] == "3"
    )
    text = (folder / "compare.md").read_text()
    assert (
        "| variant | offline ce+kd  kd.temperature=8 | ce=0.1 kd=0.9 | 0.8400 ± 0.0497 | 0.8500 ± 0.0497 | 3 | +0.1200 "
        "| too few seeds to tell | 93.3% | 100 | 4.0 |" in text
    )
    assert "not in the table" in text


def test_nothing_to_compare(kdlab, workplace, tmp_path):
    assert kdlab("compare", "nowhere")[0] == 2
    (workplace / "empty").mkdir()
    assert "no runs in empty" in kdlab("compare", "empty")[2]
    _write(workplace / "begun", "one", status="running")
    code, out, err = kdlab("compare", "begun")
    assert code == 2 and "no finished run" in err


def test_an_unknown_metric_names_the_known(folder):
    with pytest.raises(InputError, match="they have accuracy"):
        comparison(list(find_runs([folder])), "f1")


def test_a_run_that_is_there_twice_counts_once(tmp_path):
    _write(tmp_path / "a", "same")
    _write(tmp_path / "b", "same")
    table = comparison(list(find_runs([tmp_path])))
    assert [row.last.n for row in table.rows if row.role == "variant"] == [1]
    assert any("counted once" in note for note in table.notes)


def test_two_teachers_of_one_name_are_two_rows(tmp_path):
    other = {**TEACHER, "test": {"accuracy": 0.7}, "runs": [{**TEACHER["runs"][0], "hash": "u"}]}
    _write(tmp_path, "one")
    _write(tmp_path, "two", temperature=8.0, teacher=other)
    rows = [row for row in comparison(list(find_runs([tmp_path]))).rows if row.role == "teacher"]
    assert sorted(row.last.mean for row in rows) == [0.7, 0.9] and len({row.label for row in rows}) == 2


def test_teachers_that_differ_in_the_seed_alone_are_one_row(tmp_path):
    for seed, accuracy in ((1, 0.9), (2, 0.7)):
        teacher = {
            **TEACHER,
            "name": f"offline-ce-mlp-s{seed}",
            "test": {"accuracy": accuracy},
            "runs": [{**TEACHER["runs"][0], "hash": f"t{seed}"}],
        }
        _write(tmp_path, f"run{seed}", seed=seed, teacher=teacher)
    _write(tmp_path, "small", seed=3, teacher={**TEACHER, "name": "offline-ce-mlp-s3", "parameters": 7, "runs": []})
    rows = [
        (row.label, row.last.n, round(row.last.mean, 4), row.parameters)
        for row in comparison(list(find_runs([tmp_path]))).rows
        if row.role == "teacher"
    ]
    assert rows == [("offline-ce-mlp", 2, 0.8, 5000), ("offline-ce-mlp-s3", 1, 0.9, 7)]


def test_a_teacher_without_a_run_has_its_row(tmp_path):
    _write(
        tmp_path,
        "one",
        teacher={"name": "microsoft/resnet-18", "parameters": 7, "test": {"accuracy": 0.95}, "runs": []},
    )
    table = comparison(list(find_runs([tmp_path])))
    assert table.rows[0].label == "microsoft/resnet-18" and table.rows[0].last.mean == 0.95
    assert table.rows[1].retention == pytest.approx(0.8 / 0.95)


def test_a_teacher_in_the_folder_is_called_one(tmp_path):
    path = _write(tmp_path, "t", strategy="supervised", accuracy=0.9)
    (path / "config.yaml").write_text(
        json.dumps({**json.loads((path / "config.yaml").read_text()), "student": {"hidden": [64]}})
    )
    _write(tmp_path, "one")
    rows = comparison(list(find_runs([tmp_path]))).rows
    assert [(row.role, row.last.mean) for row in rows] == [("teacher", 0.9), ("variant", 0.8)]


def test_students_are_named_by_what_tells_students_apart(tmp_path):
    """What only their teacher has different, here its data and its width, is in no student's name."""
    for name, changes in (
        ("t", {"data": {"batch_size": 8}, "student": {"hidden": [64]}}),
        ("alone", {}),
        ("one", {}),
        ("two", {}),
    ):
        path = _write(
            tmp_path,
            name,
            strategy="offline" if name in ("one", "two") else "supervised",
            temperature=8.0 if name == "two" else 4.0,
            group=name,
        )
        (path / "config.yaml").write_text(json.dumps({**json.loads((path / "config.yaml").read_text()), **changes}))
    rows = comparison(list(find_runs([tmp_path]))).rows
    assert [(row.role, row.label) for row in rows] == [
        ("teacher", "supervised ce  student.hidden=[64]  data.batch_size=8"),
        ("student baseline", "supervised ce"),
        ("variant", "offline ce+kd  kd.temperature=4"),
        ("variant", "offline ce+kd  kd.temperature=8"),
    ]


def test_a_baseline_on_other_data_is_held_against_nothing(tmp_path):
    _write(tmp_path, "one")
    path = _write(tmp_path, "elsewhere", strategy="supervised")
    config = json.loads((path / "config.yaml").read_text())
    (path / "config.yaml").write_text(json.dumps({**config, "choices": {**config["choices"], "data": "fashion_mnist"}}))
    row = next(row for row in comparison(list(find_runs([tmp_path]))).rows if row.role == "student baseline")
    assert row.retention is None


def test_real_runs(kdlab, workplace, taught):
    """Labels of schedules, roles, and the teacher's own score, from runs that were trained."""
    common = ["trainer.max_epochs=1", "progress=none", "teacher=run", f"teacher.run={taught.path}"]
    for extra in (
        ["seed=1"],
        ["seed=2"],
        ["loss.kd.weight={schedule: linear, start: 0, end: 0.9, epochs: 1}"],
        ["loss.kd.weight=0"],
        ["loss.kd.weight={schedule: linear, start: 0, end: 0.5, epochs: 1}"],
    ):
        assert kdlab("train", *common, *extra)[0] == 0
    table = comparison(list(find_runs(["runs"])))
    assert [row.role for row in table.rows] == ["teacher", "student baseline", "variant", "variant", "variant"]
    assert len({row.label for row in table.rows}) == 5
    assert sorted(row.last.n for row in table.rows) == [1, 1, 1, 1, 2]
    assert table.rows[0].last.mean == pytest.approx(taught.metrics["test/accuracy"])
    variant = table.rows[-1]
    assert variant.retention == pytest.approx(variant.last.mean / taught.metrics["test/accuracy"])
