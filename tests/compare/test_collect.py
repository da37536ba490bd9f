"""Whatever lies in a folder of runs: it is compared or listed, never dropped, and read once."""

import json
from pathlib import Path

import pytest
import yaml
from synthetic import write_runs

from kdlab.compare import comparison, groups, table_of
from kdlab.runs.run import find_runs
from kdlab.runs.schema import FORMAT, problem


def _changed(path, **values):
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**record, **values}))


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-80])


DAMAGE = {
    "a truncated record": (lambda path: _truncate(path / "run.json"), "cannot be read"),
    "an empty record": (lambda path: (path / "run.json").write_text(""), "cannot be read"),
    "a list for a record": (lambda path: (path / "run.json").write_text("[1]"), "is not a record of kdlab"),
    "another version's": (lambda path: _changed(path, format=FORMAT + 1), f"format {FORMAT + 1}"),
    "a truncated config": (lambda path: (path / "config.yaml").write_text("name: [a"), "config.yaml cannot be read"),
    "no config": (lambda path: (path / "config.yaml").unlink(), "config.yaml cannot be read"),
    "a metric that is a word": (
        lambda path: _changed(path, metrics={"test/accuracy": "high"}),
        "metrics.test/accuracy is 'high', not a number",
    ),
    "a seed that is a list": (lambda path: _changed(path, seed=[1]), "seed is [1], not a number"),
    "durations that are a number": (lambda path: _changed(path, durations=3), "is not a record of kdlab"),
    "a teacher that is a word": (lambda path: _changed(path, teacher="wide"), "teacher is 'wide'"),
    "networks without metrics": (lambda path: _changed(path, networks={"peer2": 0.9}), "networks.peer2 is 0.9"),
    "code that is a number": (lambda path: _changed(path, code=3), "code is 3, and should hold names"),
    "hardware that is a number": (lambda path: _changed(path, hardware=3), "hardware is 3"),
    "GPUs that are a number": (lambda path: _changed(path, hardware={"gpus": 3}), "hardware.gpus is 3"),
    "memory of a list": (lambda path: _changed(path, peak_memory_of=[]), "peak_memory_of is [], and should be a text"),
    "overrides that are a number": (lambda path: _changed(path, overrides=3), "overrides is 3, and should be a list"),
    "choices that are none": (
        lambda path: (path / "config.yaml").write_text(
            (path / "config.yaml").read_text().rpartition("choices:")[0] + "choices: 3"
        ),
        "choices is 3",
    ),
    "a strategy that is a list": (
        lambda path: (path / "config.yaml").write_text(
            (path / "config.yaml").read_text().replace("strategy: offline,", "strategy: [],")
        ),
        "choices is {",
    ),
    "running": (lambda path: _changed(path, status="running", metrics={}), "killed, or running on another machine"),
    "failed": (
        lambda path: _changed(path, status="failed", error="ValueError: no\nmore", metrics={}),
        "failed: ValueError: no",
    ),
    "interrupted": (lambda path: _changed(path, status="interrupted", metrics={}), "(interrupted"),
    "pruned": (lambda path: _changed(path, status="pruned", metrics={}), "(pruned"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_not_compared_is_listed_with_its_reason(tmp_path, what):
    paths = write_runs(tmp_path, variants=2, seeds=3)
    damage, said = DAMAGE[what]
    damage(paths[4])  # the second variant's second seed
    table = comparison(find_runs([tmp_path]))
    assert [row.last.n for row in table.rows] == [1, 3, 2]
    [line] = [line for line in table.notes if paths[4].name in line]
    assert said in line and "\n" not in line
    assert "seed 2, which other rows have, is missing in: offline ce+kd  kd.temperature=2" in table.notes
    for text in (table.csv(), table.markdown(), table.latex()):
        assert "kd.temperature=2" in text


def test_a_run_that_is_being_trained_is_told_from_one_that_was_killed(tmp_path):
    path = write_runs(tmp_path, variants=1, seeds=2)[1]
    _changed(path, status="running", metrics={})
    [run] = find_runs([path])
    with run.lock():
        [group], _ = groups(find_runs([tmp_path]))
    assert group.unfinished == [f"{path} (running)"]
    [group], _ = groups(find_runs([tmp_path]))
    assert group.unfinished == [f"{path} (killed, or running on another machine)"]


def test_comparing_leaves_no_trace(tmp_path):
    _changed(write_runs(tmp_path, variants=1, seeds=2)[0], status="running")
    before = sorted(tmp_path.rglob("*"))
    comparison(find_runs([tmp_path]))
    assert sorted(tmp_path.rglob("*")) == before


def test_every_file_is_read_once(tmp_path, monkeypatch):
    write_runs(tmp_path, variants=10, seeds=5)
    read, original = [], Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, *args, **kwargs: read.append(self) or original(self, *args, **kwargs)
    )
    table = comparison(find_runs([tmp_path]), baseline="kd.temperature=10")
    assert len(table.rows) == 11 and table.comparisons == 9
    assert (
        len([path for path in read if path.name in ("run.json", "config.yaml")])
        == len(set(read) - {path for path in read if path.name == "measurements.json"})
        == 100
    )


def test_an_older_record_without_seed_has_that_of_its_config(tmp_path):
    for path in write_runs(tmp_path, variants=1, seeds=3):
        record = json.loads((path / "run.json").read_text())
        del record["seed"]
        (path / "run.json").write_text(json.dumps(record))
    [group], _ = groups(find_runs([tmp_path]))
    assert sorted(table_of([group]).rows[1].values) == [1, 2, 3]


def test_an_earlier_generation_of_the_same_network_is_no_teacher(tmp_path):
    """The student alone stays the baseline where runs like tf_kd learn from it; a run that taught another network, or
    on other data, is a teacher."""
    first, second = write_runs(tmp_path, variants=2, seeds=1)
    _changed(first, uses_teacher=False, taught=False, teacher=None)
    _changed(second, teacher={"name": "itself", "runs": [{"hash": first.name[-16:]}]})
    config = yaml.safe_load((second / "config.yaml").read_text())
    for key, change, role in (
        ("student", {}, "student baseline"),
        ("student", {"hidden": [8]}, "teacher"),
        ("data", {"fraction": 0.5}, "teacher"),
    ):
        (second / "config.yaml").write_text(yaml.safe_dump({**config, key: {**config[key], **change}}))
        assert [group.role for group in groups(find_runs([tmp_path]))[0]] == [role, "variant"]


def test_a_run_that_taught_another_network_too_is_a_teacher(tmp_path):
    """One of its learners is its own next generation, the other one a smaller network."""
    first, second, third = write_runs(tmp_path, variants=3, seeds=1)
    _changed(first, uses_teacher=False, taught=False, teacher=None)
    for learner in (second, third):
        _changed(learner, teacher={"name": "itself", "runs": [{"hash": first.name[-16:]}]})
    config = yaml.safe_load((third / "config.yaml").read_text())
    (third / "config.yaml").write_text(yaml.safe_dump({**config, "student": {**config["student"], "hidden": [8]}}))
    assert [group.role for group in groups(find_runs([tmp_path]))[0]] == ["teacher", "variant", "variant"]


def test_a_class_is_named_where_it_is_all_that_tells_two_rows_apart(tmp_path):
    """As where one was put into a group's choice: ``student._target_=my.Net``."""
    first, second = write_runs(tmp_path, variants=2, seeds=1)
    config = yaml.safe_load((first / "config.yaml").read_text())
    (second / "config.yaml").write_text(
        yaml.safe_dump({**config, "student": {**config["student"], "_target_": "my.Net"}})
    )
    assert [group.label for group in groups(find_runs([tmp_path]))[0]] == [
        "offline ce+kd  student._target_=kdlab.models.MLP",
        "offline ce+kd  student._target_=my.Net",
    ]


def test_peers_are_named(tmp_path):
    first, second = write_runs(tmp_path, variants=2, seeds=1)
    config = yaml.safe_load((first / "config.yaml").read_text())
    for path, peers in (
        (first, 2),
        (second, {"wide": {"_target_": "kdlab.models.MLP", "hidden": [256]}, "deep": {"_target_": "kdlab.models.MLP"}}),
    ):
        (path / "config.yaml").write_text(
            yaml.safe_dump(
                {**config, "strategy": {"_target_": "kdlab.strategies.Online", "peers": peers}}, sort_keys=False
            )
        )
    assert [group.label for group in groups(find_runs([tmp_path]))[0]] == [
        "offline ce+kd  strategy.peers=2",
        "offline ce+kd  strategy.peers=wide+deep",
    ]


def test_records_of_kdlab_are_sound():
    assert (
        problem(
            {
                "metrics": {"test/nll": None},
                "durations": {},
                "teacher": None,
                "networks": {},
                "weights": {"kd": "scheduled"},
            }
        )
        == ""
    )
    assert "teacher.members.kd.test" in problem(
        {"teacher": {"name": "several", "members": {"kd": {"name": "one", "test": {"accuracy": "?"}}}}}
    )


def test_teachers_that_a_name_does_not_tell_apart_are_told_by_whom_they_taught(tmp_path):
    """Two groups over three seeds, whose assistants, one a seed, have the names of each other's."""
    from kdlab.compare.rows import absent_teachers

    for number, path in enumerate(write_runs(tmp_path, variants=2, seeds=3)):
        variant, seed = divmod(number, 3)
        teacher = {
            "name": f"assistant-mlp-s{seed + 1}",
            "parameters": 100,
            "test": {"accuracy": 0.9},
            "runs": [{"hash": f"{variant}{seed}"}],
        }
        _changed(path, teacher=teacher)
    found, _ = groups(find_runs([tmp_path]))
    rows = {label: [teacher["runs"][0]["hash"] for teacher in teachers] for label, teachers in absent_teachers(found)}
    assert rows == {
        f"assistant-mlp, teacher of {group.label}": [f"{number}{seed}" for seed in range(3)]
        for number, group in enumerate(found)
    }


def test_a_metric_that_is_not_finite_is_absent():
    from kdlab.compare import records

    assert records.tested({"metrics": {"test/nll": float("nan")}}, "nll") is None
    assert records.tested({"metrics": {"test/nll": 0.5}}, "nll") == 0.5
