"""The schema of run.json: what is written is what it says, and one check finds what is damaged."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from kdlab.errors import InputError
from kdlab.runs.run import Run
from kdlab.runs.schema import KINDS, REQUIRED, RunRecord, TeacherRecord, problem

ROOT = Path(__file__).parents[2]
LEAST = {"hash": "a", "group": "b", "status": "finished"}

#: of each kind, a value that is not of it
WRONG = {
    "text": 3,
    "number": "3",
    "flag": "true",
    "list": {"a": 1},
    "names": ["a"],
    "numbers by name": {"a": "1"},
    "metrics by network": {"peer2": 0.9},
    "network of each checkpoint": {"last": "student"},
    "teacher": {"test": {}},
    "teachers by name": {"kd": "wide"},
    "list of runs": [{"path": "x"}],
    "code": {"commit": 3},
    "hardware": {"gpus": "H100"},
    "task": {"name": "mine"},
}


def entries(kind):
    return {one.name: one for one in fields(kind)}


# -- the check ---------------------------------------------------------------------------------------------------------


def test_every_kind_has_a_wrong_value():
    assert set(WRONG) == set(KINDS)


@pytest.mark.parametrize("name", entries(RunRecord))
def test_an_entry_of_another_type_is_found_and_named(name):
    kind = entries(RunRecord)[name].metadata["kind"]
    assert problem({**LEAST, name: WRONG[kind]}).startswith(name)


@pytest.mark.parametrize("name", [name for name in entries(TeacherRecord) if name != "validation"])
def test_an_entry_of_a_teacher_is_found_too(name):
    teacher = {"name": "t", name: WRONG[entries(TeacherRecord)[name].metadata["kind"]]}
    for record in ({"teacher": teacher}, {"teacher": {"name": "several", "members": {"kd": teacher}}}):
        assert problem(record).startswith("teacher") and problem({"teacher": {"name": "t"}}) == ""


@pytest.mark.parametrize("name", entries(RunRecord))
def test_null_is_a_value_of_some_entries_only(name):
    assert bool(problem({**LEAST, name: None})) == (
        name in ("format", "hash", "group", "status", "metrics", "durations")
    )


def test_what_must_be_there():
    assert REQUIRED == ("hash", "group", "status") and problem({}, REQUIRED) == "hash is missing"
    for name in REQUIRED:
        record = {key: value for key, value in LEAST.items() if key != name}
        assert problem(record, REQUIRED) == f"{name} is missing"
        with pytest.raises(InputError, match=f"{name} is missing"):
            RunRecord.read(record)
    with pytest.raises(InputError, match="it holds no names"):
        RunRecord.read([LEAST])


def test_numbers_that_are_not_finite_are_null_and_true_is_no_number():
    assert problem({"metrics": {"test/nll": None}}) == ""
    assert problem({"metrics": {"test/nll": True}}) == "metrics.test/nll is True, not a number"


# -- the typed form ----------------------------------------------------------------------------------------------------


def test_absent_and_null_entries_have_their_defaults():
    record = RunRecord.read({**LEAST, "kept": None, "networks": None, "teacher": None, "from a later version": 1})
    assert (record.hash, record.format, record.kept, record.networks, record.teacher) == ("a", 1, {}, {}, None)
    assert (record.kept_network("best"), record.kept_module(), record.rule) == ("student", "student", "student")
    kept = {"rule": "validation", "last": {"network": "peer2", "module": "peers.peer2"}}
    record = RunRecord.read({**LEAST, "kept": kept})
    assert (record.kept_network(), record.kept_module(), record.rule) == ("peer2", "peers.peer2", "validation")
    assert record.kept_network("best") == "student"


def test_a_teacher_is_typed_with_its_members_and_scores():
    one = {
        "name": "one",
        "validation_accuracy": 0.9,
        "test": {"accuracy": 0.8},
        "parameters": 5,
        "runs": [{"hash": "h"}],
    }
    teacher = RunRecord.read(
        {**LEAST, "teacher": {"name": "several", "terms": {"kd": "a"}, "members": {"a": one}, "parameters": None}}
    ).teacher
    member = teacher.members["a"]
    assert (teacher.terms, teacher.parameters, teacher.runs, teacher.test) == ({"kd": "a"}, None, [], {})
    assert (member.validation, member.test, member.runs) == ({"accuracy": 0.9}, {"accuracy": 0.8}, [{"hash": "h"}])


# -- what is written ---------------------------------------------------------------------------------------------------


def test_a_finished_run_holds_the_entries_of_the_schema_and_no_others(taught):
    assert set(taught.record) == set(entries(RunRecord)) - {"made_by"} and problem(taught.record, REQUIRED) == ""
    record = taught.read()
    assert record.task.as_record() == taught.record["task"]
    for name in entries(RunRecord):
        if name not in ("teacher", "task", "made_by") and taught.record[name] is not None:
            assert getattr(record, name) == taught.record[name], name


def test_a_run_that_is_not_finished_lacks_the_entries_of_the_end(taught, tmp_path):
    names = list(entries(RunRecord))
    end = names[names.index("flops") :]
    assert end == [
        "flops",
        "checkpoint_bytes",
        "kept",
        "networks",
        "network_parameters",
        "peak_memory_bytes",
        "peak_memory_of",
    ]
    begun = {name: value for name, value in taught.record.items() if name not in end}
    (tmp_path / "run.json").write_text(json.dumps({**begun, "status": "running"}))
    assert Run(tmp_path).read().status == "running" and Run(tmp_path).kept("last")["network"] == "student"


def test_records_in_git_are_sound():
    lines = [
        line for file in sorted(ROOT.glob("experiments/*/results/*.jsonl")) for line in file.open(encoding="utf-8")
    ]
    assert len(lines) > 500
    for line in lines:
        record = json.loads(line)
        assert problem(record, REQUIRED) == "", record["hash"]
        assert RunRecord.read(record).metrics == record["metrics"]


@pytest.mark.parametrize("kind", [RunRecord, TeacherRecord])
def test_the_table_of_the_readme_is_the_schema(kind):
    text = (ROOT / "kdlab" / "runs" / "README.md").read_text(encoding="utf-8")
    heading = {RunRecord: "## run.json", TeacherRecord: "### The teacher's entry"}[kind]
    section = re.split(r"\n##+ ", text.partition(f"{heading}\n")[2])[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{name}` | {one.metadata['kind']} | {one.metadata['meaning']} |" for name, one in entries(kind).items()
    ]
