"""Ensured runs: teachers are trained once, found again, locked, measured."""

import threading

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.errors import RunFailed
from kdlab.runs.run import find_runs

SMALL = ["trainer.max_epochs=1", "progress=none", 'teacher.overrides=["trainer.max_epochs=4"]']


def test_a_sweep_over_seeds_shares_its_teacher(workplace, capsys):
    runs = [kdlab.train([*SMALL, f"seed={seed}"]) for seed in (1, 2)]
    out = capsys.readouterr().out
    assert out.count("teacher: training teacher/digits (seed 1)") == 1
    assert len(list(find_runs(["runs/teachers"]))) == 1
    teachers = [run.record["teacher"] for run in runs]
    assert teachers[0] == teachers[1]
    assert out.count(f"accuracy {teachers[0]['validation_accuracy']:.4f} on validation") == 2
    assert teachers[0]["runs"][0]["metrics"]["test/accuracy"] > 0.9
    assert not torch.equal(next(runs[0].student.parameters()), next(runs[1].student.parameters()))


def test_a_second_process_waits_for_the_first(workplace):
    overrides = ["strategy=supervised", "trainer.max_epochs=3", "progress=none"]
    from kdlab.config.compose import compose
    from kdlab.training.ensure import ensure

    config, said = compose(overrides), []
    worker = threading.Thread(target=ensure, args=(config, said.append))
    from kdlab.runs.run import RunStore

    run = RunStore("runs").run(config)
    holder = run.lock()
    holder.acquire()
    worker.start()
    worker.join(timeout=3)
    assert worker.is_alive() and any("waiting" in line for line in said)
    holder.release()
    worker.join(timeout=60)
    assert run.finished


def test_a_failure_is_recorded_and_gone_on_from(workplace, monkeypatch):
    from kdlab.strategies.base import Strategy

    step = Strategy.training_step

    def failing(self, batch, index):
        if self.current_epoch == 1:
            raise RuntimeError("out of luck")
        return step(self, batch, index)

    overrides = ["strategy=supervised", "trainer.max_epochs=2", "progress=none"]
    monkeypatch.setattr(Strategy, "training_step", failing)
    with pytest.raises(RunFailed, match="out of luck"):
        kdlab.train(overrides)
    run = next(find_runs(["runs"]))
    assert run.status == "failed" and "out of luck" in (run.path / "error.txt").read_text()
    assert "RuntimeError: out of luck" in run.record["error"]
    run.update(durations={"wall_seconds": 1000.0})
    with pytest.raises(RunFailed, match="out of luck"):
        kdlab.train(overrides)
    assert 1000 < run.record["durations"]["wall_seconds"] < 2000
    run.update(durations={"wall_seconds": 5000.0})
    monkeypatch.setattr(Strategy, "training_step", step)
    again = kdlab.train(overrides)
    assert 5000 < again.record["durations"]["wall_seconds"] < 6000, "with the seconds before the failure"
    assert again.finished and again.record["error"] is None and len(again.record["resumed"]) == 2
    assert not (run.path / "error.txt").exists()


def test_an_interrupt_is_recorded(workplace, monkeypatch):
    from kdlab.strategies.base import Strategy

    def stopped(self, batch, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(Strategy, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        kdlab.train(["strategy=supervised", "trainer.max_epochs=2", "progress=none"])
    assert next(find_runs(["runs"])).status == "interrupted"


def test_every_form_of_a_teacher(workplace, taught, monkeypatch):
    """A run, a checkpoint file within one, a checkpoint outside with its network, a model by name, an ensemble: the
    same answers."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outside = workplace / "teacher.safetensors"
    from safetensors.torch import save_file

    save_file(taught.student.state_dict(), outside)
    network = (
        "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8], hidden: [256, 256], dropout: 0.3}"
    )
    member = f"{{run: {taught.path}}}"
    forms = {
        "run": ["teacher=run", f"teacher.run={taught.path}"],
        "file": ["teacher=checkpoint", f"teacher.checkpoint={taught.checkpoint('last')}"],
        "outside": ["teacher=checkpoint", f"teacher.checkpoint={outside}", network],
        "ensemble": [
            "teacher=ensemble",
            "~teacher.members.first",
            "~teacher.members.second",
            "~teacher.members.third",
            f"+teacher.members.a={member}",
            f"+teacher.members.b={member}",
        ],
    }
    weights = {}
    for name, overrides in forms.items():
        run = kdlab.train(["trainer.max_epochs=1", "progress=none", f"name={name}", *overrides])
        weights[name] = torch.cat([value.flatten() for value in run.student.parameters()])
        assert run.record["teacher"]["validation_accuracy"] == pytest.approx(taught.metrics["val/accuracy"])
    for name in ("file", "outside"):
        assert torch.equal(weights[name], weights["run"]), name
    assert torch.allclose(weights["ensemble"], weights["run"], atol=1e-5)


def test_a_hugging_face_model_in_a_folder_is_a_teacher(workplace):
    """Untrained, so it is refused for being no better than chance: after it was found, loaded and measured."""
    from transformers import ResNetConfig, ResNetForImageClassification

    from kdlab.errors import InputError

    torch.manual_seed(0)
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=10)
    ResNetForImageClassification(config).save_pretrained(workplace / "saved")
    with pytest.raises(InputError, match="no better than chance"):
        kdlab.train(["teacher=huggingface", "teacher.model=saved", "progress=none"])


def test_a_teacher_that_saw_the_held_out_part_is_named(workplace, taught, capsys):
    kdlab.train(
        ["teacher=run", f"teacher.run={taught.path}", "data.split_seed=5", "trainer.max_epochs=1", "progress=none"]
    )
    assert "warning: its data.split_seed differ" in capsys.readouterr().out


def test_so_is_one_from_the_checkpoint_file_of_such_a_run(taught):
    from kdlab.config.references import teacher_reference
    from kdlab.training.teacher_record import _warn_of_other_split

    heard, given = [], ["teacher=checkpoint", f"teacher.checkpoint={taught.checkpoint('best')}"]
    for more in ([], ["data.split_seed=5"]):
        assert heard == []
        config = compose([*given, *more])
        _warn_of_other_split(config, teacher_reference(config), heard.append)
    assert len(heard) == 1 and "its data.split_seed differ from the student's" in heard[0]


def test_without_validation_there_is_no_best(workplace):
    run = kdlab.train(
        ["strategy=supervised", "trainer.max_epochs=3", "+trainer.check_val_every_n_epoch=2", "progress=none"]
    )
    assert run.metrics["best_epoch"] == 2
    run = kdlab.train(
        ["strategy=supervised", "trainer.max_epochs=1", "+trainer.check_val_every_n_epoch=2", "progress=none"]
    )
    assert "test/accuracy" in run.metrics and not any(name.endswith("_best") for name in run.metrics)


def test_a_teacher_that_another_process_finishes_meanwhile(workplace, monkeypatch):
    """Looked for and not found, then there: the untrained network that stood in for it must not teach."""
    from kdlab.training import ensure as module

    assembled, calls = module.assembled, []

    def meanwhile(config):
        parts = assembled(config)
        if config["teacher"] is not None:
            calls.append(len(parts.untrained))
            if len(calls) == 1:
                kdlab.train(["experiment=teacher/digits", "trainer.max_epochs=4", "progress=none"])
        return parts

    monkeypatch.setattr(module, "assembled", meanwhile)
    run = kdlab.train(SMALL)
    assert calls == [1, 0] and run.record["teacher"]["validation_accuracy"] > 0.9


def test_a_diverged_run_fails(workplace):
    with pytest.raises(RunFailed, match="diverged in epoch 1.*optimizer.lr"):
        kdlab.train(["strategy=supervised", "trainer.max_epochs=2", "optimizer.lr=1e30", "progress=none"])
    assert next(find_runs(["runs"])).status == "failed"


def test_a_full_disk_is_a_failed_run_and_not_a_traceback(workplace, monkeypatch):
    """The record cannot be written either; the last finished epoch stays, and the same call goes on."""
    import os as system

    from kdlab.runs import files

    overrides = ["strategy=supervised", "trainer.max_epochs=3", "progress=none"]
    fsync, full = system.fsync, []

    def no_space(descriptor):
        if full or list(workplace.glob("runs/*/*/checkpoints/last.ckpt")):
            full.append(1)
            raise OSError(28, "No space left on device")
        return fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(RunFailed, match="No space left on device.*Nothing could be written"):
        kdlab.train(overrides)
    monkeypatch.setattr(files.os, "fsync", fsync)
    run = kdlab.train(overrides)
    assert run.finished and len(run.record["resumed"]) == 1


def test_numbers_that_json_does_not_have(tmp_path):
    import json

    from kdlab.runs.files import write_json

    write_json(tmp_path / "x.json", {"a": [float("nan"), 1.0], "b": float("inf")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.0], "b": None}


def test_another_precision_than_the_config_names_is_said(workplace):
    """Lightning turns mixed float16 into mixed bfloat16 on a CPU; its own warning is among those that kdlab
    silences."""
    from kdlab.config.compose import compose
    from kdlab.training.execute import say_precision

    lines = []
    for precision in ("16-mixed", "16", "bf16-mixed", "32-true"):
        say_precision(
            compose(["strategy=supervised", f"trainer.precision={precision}", "trainer.accelerator=cpu"]), lines.append
        )
    assert [line.partition(":")[0] for line in lines] == ["trainer.precision=16-mixed", "trainer.precision=16"]
    assert all("trainer.precision=bf16-mixed" in line for line in lines)
