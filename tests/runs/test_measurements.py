"""kdlab measure: what it writes beside a run, and what it says."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from kdlab import train
from kdlab.measure import inference_bytes
from kdlab.runs import measurements
from kdlab.runs.run import Run
from kdlab.training import measuring

SHORT = ["data.fraction=0.2", "trainer.max_epochs=1", "progress=none"]
QUICK = ["--seconds", "0.02"]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, taught):
    return train(
        ["teacher=run", f"teacher.run={taught.path}", *SHORT, f"paths.runs={tmp_path_factory.mktemp('students')}"]
    )


@pytest.fixture
def distilled(workplace, trained_once):
    """A run whose teacher has one hidden layer more."""
    return Run(shutil.copytree(trained_once.path, Path("runs", "quickstart", trained_once.path.name)))


def test_a_run_is_measured(kdlab, distilled, taught, monkeypatch):
    monkeypatch.setattr("kdlab.data.Data.test_dataloader", None)  # test is not touched
    code, out, err = kdlab("measure", distilled.path, "--batches", "64,1,8", *QUICK)
    assert code == 0, err
    found = distilled.measurements
    assert found == json.loads((distilled.path / "measurements.json").read_text())
    assert list(found["batches"]) == ["1", "8", "64"]
    for one in found["batches"].values():
        assert 0 < one["latency_ms"] <= one["latency_ms_p90"] and one["samples_per_second"] > 0 and one["calls"] >= 10
    assert {"processor", "cores", "system", "torch", "device"} == set(found["machine"]) and found["machine"][
        "device"
    ] == "cpu"
    assert (found["threads"], found["network"], found["in_turns_with"]) == (1, "student", 0)
    assert found["peak_inference_batch"] == 64
    assert found["peak_inference_bytes"] == 4 * (distilled.record["parameters"] + 64 * 64 + 2 * 64 * 32)

    assert set(found["cka"]) == {"stage1", "embedding"} and set(found["cka_matrix"]["stage1"]) == {
        "stage1",
        "stage2",
        "embedding",
    }
    assert found["cka"]["embedding"] == found["cka_matrix"]["stage1"]["stage2"] and all(
        0.3 < value < 1 for value in found["cka"].values()
    )
    assert found["cka_samples"] == 287 and not list(distilled.path.rglob("*.part"))

    scalars = measurements.scalars(found)
    assert (
        scalars["latency_ms"] == found["batches"]["1"]["latency_ms"]
        and scalars["samples_per_second"] == found["batches"]["64"]["samples_per_second"]
    )
    assert scalars["cka"] == pytest.approx(sum(found["cka"].values()) / 2, abs=1e-6)
    assert f"{scalars['cka']:.3f}" in out and measurements.machine_name(found) in out


def test_a_student_that_is_its_teacher_has_its_features(workplace, taught):
    run = train(
        [
            "initial=run",
            f"student.initial.run={taught.path}",
            "student=mlp_wide",
            "optimizer.lr=0",
            "teacher=run",
            f"teacher.run={taught.path}",
            *SHORT,
        ]
    )
    measuring.measure_runs([run], [1], 0.01)
    assert run.measurements["cka"] == pytest.approx({"stage1": 1, "stage2": 1, "embedding": 1})


def test_measured_again_it_has_the_new_numbers(kdlab, distilled, monkeypatch):
    assert kdlab("measure", distilled.path, *QUICK)[0] == 0
    monkeypatch.setattr("kdlab.runs.record.hardware", lambda: {"processor": "another", "cores": 7, "system": "other"})
    assert kdlab("measure", distilled.path, "--batches", "4", *QUICK)[0] == 0
    found = distilled.measurements
    assert (
        list(found["batches"]) == ["4"]
        and found["machine"]["processor"] == "another"
        and set(found["cka"]) == {"stage1", "embedding"}
    )
    assert "latency_ms" not in measurements.scalars(found) and measurements.scalars(found)["samples_per_second"] > 0


def test_several_runs_in_turns_without_a_teacher(kdlab, workplace):
    runs = [train(["strategy=supervised", f"seed={seed}", *SHORT]) for seed in (1, 2)]
    assert Run(runs[0].path).measurements == {} and measurements.scalars({}) == {}
    code, out, err = kdlab("measure", "runs", *QUICK)
    assert code == 0 and err == "" and "no CKA" not in out
    for run in runs:
        assert run.measurements["in_turns_with"] == 1 and "cka" not in run.measurements
        assert run.measurements["peak_inference_bytes"] == inference_bytes(run.student, torch.zeros(64, 1, 8, 8))


@pytest.mark.parametrize(
    "content",
    [
        '{"batches": {"1": {"latency_ms"',
        "[]",
        "{}",
        '{"machine": {}, "batches": {"1": {"latency_ms": "fast"}}}',
        '{"machine": {}, "batches": {"1": 3}}',
        '{"machine": {}, "batches": {"one": {"latency_ms": 3}}}',
        '{"machine": {}, "batches": {}, "cka": [1]}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_file_counts_for_nothing_and_is_told_of(tmp_path, content):
    file = tmp_path / "measurements.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    found, line = measurements.read(tmp_path)
    assert found == {} == Run(tmp_path).measurements
    assert line.startswith(f"{file} cannot be read as measurements (") and f"kdlab measure {tmp_path}" in line


def test_a_teacher_is_found_from_another_folder_and_where_it_is_gone_it_costs_the_alignment_alone(
    kdlab, workplace, monkeypatch
):
    run = Run(workplace / train(["teacher=trained", 'teacher.overrides=["trainer.max_epochs=3"]', *SHORT]).path)
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    assert kdlab("measure", run.path, *QUICK)[0] == 0 and set(run.measurements["cka"]) == {"stage1", "embedding"}
    (teacher,) = (workplace / "runs" / "teachers").glob("supervised*")
    teacher.rename(workplace / "away")
    code, out, err = kdlab("measure", run.path, *QUICK)
    assert code == 0 and "cka" not in run.measurements and "batches" in run.measurements
    assert (
        f"no CKA: {run.path}: the run of its teacher, supervised-ce-mlp_wide-s1, was not found finished in runs\n"
        in out
    )


def test_several_teachers_have_no_features(distilled):
    distilled.config["teacher"] = {"members": {"a": distilled.config["teacher"], "b": distilled.config["teacher"]}}
    said = []
    measured, failed = measuring.measure_runs([distilled], [1], 0.01, say=said.append)
    assert [run for run, _ in measured] == [distilled] and failed == []
    assert "it has several teachers" in said[0] and len(said) == 1 and "cka" not in distilled.measurements


def test_a_run_that_cannot_be_measured_does_not_keep_the_others_from_it(kdlab, workplace):
    good, bad, begun = [train(["strategy=supervised", f"seed={seed}", *SHORT]) for seed in (1, 2, 3)]
    bad.checkpoint("last").write_bytes(b"no checkpoint")
    begun.update(status="running")
    code, out, err = kdlab("measure", "runs", *QUICK)
    assert code == 1 and good.measurements and not bad.measurements and not begun.measurements
    assert (
        f"not measured: {bad.path}: {bad.checkpoint('last')} cannot be read" in out
        and f"not measured: {begun.path} (running)" in out
    )


def _unwritable(monkeypatch, number):
    def refused(dir):
        raise OSError(number, os.strerror(number), f"{dir}/tmp123")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    monkeypatch.setattr(measuring, "write_json", lambda path, value: refused(path.parent))


def test_a_full_disk_is_found_before_anything_is_timed(kdlab, distilled, monkeypatch):
    _unwritable(monkeypatch, errno.ENOSPC)
    monkeypatch.setattr(
        measuring, "timed_in_turns", lambda calls, *_, **__: {} if not calls else pytest.fail("it was timed")
    )
    code, out, err = kdlab("measure", distilled.path, *QUICK)
    assert code == 2 and "no run could be measured" in err
    assert f"not measured: {distilled.path}: {distilled.path}: No space left on device" in err


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_runs_that_are_read_only_are_measured_all_the_same(kdlab, distilled, monkeypatch, number):
    _unwritable(monkeypatch, number)
    code, out, err = kdlab("measure", distilled.path, *QUICK)
    assert code == 0 and err == ""
    head, row, *rest = out.splitlines()
    assert head.split()[0] == "run" and row.split()[0] == str(distilled.path)
    assert len(row.split()) == 9, "three numbers for each batch size, peak and CKA"
    assert rest[-1] == f"could not be saved in {distilled.path}: read-only ({os.strerror(number)})"
    assert not distilled.measurements


def test_too_few_samples_for_an_alignment_are_counted(kdlab, workplace):
    few = ["data.validation=0.00332", 'teacher.overrides=["trainer.max_epochs=1"]', "data.batch_size=64"]
    run = train(["teacher=trained", *few, *SHORT])
    code, out, err = kdlab("measure", run.path, *QUICK)
    assert code == 0 and "cka" not in run.measurements
    assert f"no CKA: {run.path}: it needs 4 samples of validation, and there are 3\n" in out
