"""Runs with several networks, in the table, in ``kdlab runs show`` and in ``kdlab evaluate``."""

import csv
import io
import json

import pytest

from kdlab.compare import comparison
from kdlab.runs.run import find_runs


def _write(folder, seed, kept, rule="validation", **networks):
    path = folder / f"online-{seed}"
    path.mkdir()
    config = {
        "seed": seed,
        "choices": {"strategy": "online"},
        "loss": {"ce": {"weight": 1.0}},
        "teacher": None,
        "student": {},
        "data": {},
        "paths": {},
    }
    named = {
        name: {"test/accuracy": accuracy, "test/accuracy_best": accuracy + 0.01} for name, accuracy in networks.items()
    }
    record = {
        "status": "finished",
        "hash": str(seed),
        "group": "g",
        "metrics": named[kept],
        "parameters": 10,
        "durations": {"train_seconds": 1.0},
        "weights": {"ce": 1.0},
        "uses_teacher": False,
        "taught": True,
        "teacher": None,
        "networks": named,
        "network_parameters": {"student": 10, "peer2": 30},
        "kept": {"rule": rule, "last": {"network": kept, "module": kept}},
    }
    (path / "run.json").write_text(json.dumps(record))
    (path / "config.yaml").write_text(json.dumps(config))


@pytest.fixture
def two(tmp_path):
    _write(tmp_path, 1, "student", student=0.8, peer2=0.7, ensemble=0.85)
    _write(tmp_path, 2, "peer2", student=0.6, peer2=0.72, ensemble=0.87)
    return tmp_path


def test_every_network_has_its_row_below_the_variant(two):
    rows = comparison(list(find_runs([two]))).rows
    assert [(row.role, row.label) for row in rows] == [
        ("variant", "online ce"),
        ("network", "online ce · student"),
        ("network", "online ce · peer2"),
        ("network", "online ce · ensemble"),
    ]
    assert [row.last.mean for row in rows] == pytest.approx([0.76, 0.7, 0.71, 0.86]), (
        "the variant's are those of the network that each run kept"
    )
    assert [row.best.mean for row in rows] == pytest.approx([0.77, 0.71, 0.72, 0.87])
    assert [row.last.n for row in rows] == [2, 2, 2, 2] and [row.parameters for row in rows] == [10, 10, 30, None]
    assert [row.seconds for row in rows] == [1.0, None, None, None]


def test_the_row_says_what_is_kept(two, kdlab):
    assert [row.kept for row in comparison(list(find_runs([two]))).rows] == [
        "validation: student 1, peer2 1",
        "",
        "",
        "",
    ]
    code, out, _ = kdlab("compare", two)
    assert code == 0 and "(kept: validation: student 1, peer2 1)" in " ".join(out.split())
    assert (
        "| network | · peer2 |  | 0.7100 ± 0.1271 | 0.7200 ± 0.1271 | 2 | 30 |  |" in (two / "compare.md").read_text()
    )
    rows = list(csv.DictReader(io.StringIO((two / "compare.csv").read_text())))
    assert [row["kept"] for row in rows] == ["validation: student 1, peer2 1", "", "", ""] and float(
        rows[3]["last_mean"]
    ) == pytest.approx(0.86)


@pytest.mark.parametrize(
    "rule, kept, said",
    [("student", "student", "student"), ("peer2", "peer2", "peer2"), ("validation", "student", "validation: student")],
)
def test_what_is_kept_is_told(tmp_path, rule, kept, said):
    _write(tmp_path, 1, kept, rule, student=0.8, peer2=0.7)
    assert comparison(list(find_runs([tmp_path]))).rows[0].kept == said


def test_retention_is_held_against_the_teacher_of_the_others(two):
    teacher = {"name": "t", "parameters": 5, "test": {"accuracy": 0.9}, "runs": []}
    path = two / "offline"
    path.mkdir()
    (path / "run.json").write_text(
        json.dumps(
            {
                "status": "finished",
                "hash": "o",
                "group": "o",
                "metrics": {"test/accuracy": 0.81},
                "durations": {},
                "uses_teacher": True,
                "taught": True,
                "teacher": teacher,
            }
        )
    )
    (path / "config.yaml").write_text(
        json.dumps(
            {
                "seed": 1,
                "choices": {"strategy": "offline"},
                "loss": {"kd": {}},
                "teacher": {},
                "student": {},
                "data": {},
                "paths": {},
            }
        )
    )
    rows = {row.label: row for row in comparison(list(find_runs([two]))).rows}
    assert rows["offline kd"].retention == pytest.approx(0.9) and rows[
        "online ce · ensemble"
    ].retention == pytest.approx(0.86 / 0.9)


def test_a_real_run(kdlab, workplace):
    arguments = ["strategy=online", "strategy.keep=validation", "trainer.max_epochs=1", "progress=none"]
    code, out, err = kdlab("train", *arguments)
    assert code == 0, err
    [run] = find_runs(["runs"])
    networks, kept = run.record["networks"], run.record["kept"]["last"]["network"]
    [other] = set(networks) - {kept}
    assert f"; kept: {kept}, the best on validation; {other} {networks[other]['test/accuracy']:.4f}" in out
    rows = comparison([run]).rows
    assert [row.role for row in rows] == ["variant", "network", "network"] and rows[0].kept == f"validation: {kept}"
    assert [row.parameters for row in rows] == [2410, 2410, 2410]
    assert rows[0].last.mean == networks[kept]["test/accuracy"] == run.metrics["test/accuracy"]
    shown = kdlab("runs", "show", run.path)[1]
    assert f"kept of last: {kept}, the best on validation" in shown
    assert any(line.split()[:2] == [other, f"{networks[other]['test/accuracy']:.4f}"] for line in shown.splitlines())
    for name in networks:
        assert f"accuracy  {networks[name]['test/accuracy']:.4f}" in kdlab("evaluate", run.path, "--network", name)[1]
    code, _, err = kdlab("evaluate", run.path, "--network", "per2")
    assert code == 2 and "keeps no predictions of 'per2'" in err and "(it has " in err
    code, _, err = kdlab("evaluate", run.path, "data.batch_size=8", "--network", other)
    assert code == 2 and "cannot be combined with overrides" in err
