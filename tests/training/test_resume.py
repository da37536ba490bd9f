"""A run that is killed and started again ends with the same weights, bit for bit. This is promised for one machine with
one build, not across them."""

import os
import signal

import pytest
import torch

from kdlab.runs.run import RunStore, find_runs

# everything that could carry hidden state: dropout, a schedule that moves every step, augmentation, clipping, a
# scheduled temperature
OVERRIDES = [
    "student=mlp",
    "student.hidden=[24,24]",
    "student.dropout=0.3",
    "scheduler=onecycle",
    "data.augment.crop_padding=1",
    "data.augment.flip=0.5",
    "+trainer.limit_train_batches=12",
    "trainer.max_epochs=4",
    "trainer.gradient_clip_val=1.0",
    "loss.kd.temperature={schedule: linear, start: 8, end: 2, epochs: 4}",
    "progress=none",
    'teacher.overrides=["trainer.max_epochs=2"]',
]


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _job(folder, overrides, moment):
    """Run in a child. ``moment`` names when it kills itself; None lets it live."""
    os.chdir(folder)
    import kdlab
    from kdlab.runs import checkpoints
    from kdlab.runs.curve import MetricsFile
    from kdlab.strategies.base import Strategy
    from kdlab.training import recording, results

    step = Strategy.training_step

    def killed_in_step(teacher: bool, epoch: int, batch: int):
        def training_step(self, data, index):
            if (self.teacher is None) == teacher and self.current_epoch == epoch and index == batch:
                _kill()
            return step(self, data, index)

        Strategy.training_step = training_step

    if moment == "teacher":
        killed_in_step(teacher=True, epoch=1, batch=3)
    elif moment == "middle of an epoch":
        killed_in_step(teacher=False, epoch=2, batch=5)
    elif moment == "writing a checkpoint":
        save = torch.save

        def torn(content, file):
            save(content, file)
            if content["epoch"] == 1 and "teachers" not in str(file.name):
                file.flush()
                os.truncate(file.name, os.path.getsize(file.name) // 2)
                _kill()

        checkpoints.torch.save = torn
    elif moment == "after the last epoch":
        found = recording.results
        recording.results = lambda config, run, parts, teacher: (
            found(config, run, parts, teacher) if config["teacher"] is None else _kill()
        )
    elif moment == "test":
        write = results.write_atomically
        results.write_atomically = lambda path, fill: write(path, fill) if "teachers" in str(path) else _kill()
    elif moment == "between row and checkpoint":
        write = MetricsFile.write

        def written(self):
            write(self)
            if len(self.rows) == 3 and "teachers" not in str(self.path):
                _kill()

        MetricsFile.write = written
    kdlab.train(overrides)


MOMENTS = [
    "teacher",
    "middle of an epoch",
    "writing a checkpoint",
    "between row and checkpoint",
    "after the last epoch",
    "test",
]


def _undisturbed(tmp_path_factory, forked, overrides, name):
    folder = tmp_path_factory.mktemp(name)
    process = forked(_job, folder, overrides, None)
    process.join()
    assert process.exitcode == 0
    return _student_run(folder)


def _student_run(folder):
    return next(run for run in find_runs([folder / "runs" / "quickstart"]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, forked):
    return _undisturbed(tmp_path_factory, forked, OVERRIDES, "undisturbed")


def _equal(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_equal, first, second))
    return first == second


def _same(run, other):
    for which in ("last", "best"):
        ours, theirs = (torch.load(one.checkpoint(which), weights_only=True) for one in (run, other))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert _equal(ours[part], theirs[part]), (which, part)
    assert _equal(run.predictions(), other.predictions())
    assert run.metrics == other.metrics
    curves = [one.metrics_file.read_text().splitlines() for one in (run, other)]
    assert len(curves[0]) == len(curves[1])


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(moment, marks=pytest.mark.slow)
        if moment not in ("middle of an epoch", "writing a checkpoint")
        else moment
        for moment in MOMENTS
    ],
)
def test_killed_and_started_again(tmp_path, forked, undisturbed, moment):
    process = forked(_job, tmp_path, OVERRIDES, moment)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process = forked(_job, tmp_path, OVERRIDES, None)
    process.join()
    assert process.exitcode == 0
    run = _student_run(tmp_path)
    assert run.finished and (moment == "teacher" or run.record["resumed"])
    _same(run, undisturbed)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["callbacks=ema"], marks=pytest.mark.slow),
        pytest.param(
            ["optimizer=sgd", "scheduler=multistep", "scheduler.milestones=[1,3]", "trainer.accumulate_grad_batches=2"],
            marks=pytest.mark.slow,
        ),
        ["trainer.precision=bf16-true", "callbacks=ema", "loss=[ce,kd,hint]", "loss.hint.student_tap=stage1"],
    ],
    ids=["ema", "accumulation", "bfloat16, ema and a connector"],
)
def test_other_state_resumes_too(tmp_path, tmp_path_factory, forked, extra):
    whole = _undisturbed(tmp_path_factory, forked, OVERRIDES + extra, "whole")
    process = forked(_job, tmp_path, OVERRIDES + extra, "middle of an epoch")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process = forked(_job, tmp_path, OVERRIDES + extra, None)
    process.join()
    _same(_student_run(tmp_path), whole)


def test_finished_is_not_run_again(workplace):
    import kdlab as package

    small = ["strategy=supervised", "trainer.max_epochs=1", "progress=none"]
    first = package.train(small)
    stamp = first.checkpoint("last").stat().st_mtime_ns
    again = package.train(["strategy=supervised", "trainer.max_epochs=1", "progress=none", "optimizer.lr=1e-2"])
    assert again.path == first.path and again.checkpoint("last").stat().st_mtime_ns == stamp
    package.train([*small, "fresh=true"])
    assert first.checkpoint("last").stat().st_mtime_ns != stamp
    assert len(RunStore("runs").runs()) == 1


def test_a_run_that_was_stopped_early_is_not_trained_on(workplace, monkeypatch):
    """Killed behind its last epoch, it must not make up for the epochs that early stopping spared."""
    import kdlab as package

    overrides = [
        "strategy=supervised",
        "trainer.max_epochs=9",
        "progress=none",
        (
            "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/accuracy, mode: max, "
            "patience: 1, min_delta: 0.5}"
        ),
    ]
    run = package.train(overrides)
    epochs = len(run.metrics_file.read_text().splitlines()) - 1
    assert epochs < 9
    weights = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    run.update(status="running")
    again = package.train(overrides)
    assert again.path == run.path and len(run.metrics_file.read_text().splitlines()) - 1 == epochs
    assert _equal(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"], weights)


def test_a_lost_curve_comes_back_from_the_checkpoint(workplace):
    import kdlab as package

    overrides = ["strategy=supervised", "trainer.max_epochs=2", "progress=none"]
    run = package.train(overrides)
    curve = run.metrics_file.read_text()
    for damage in ("", "epoch,step\nabc,1\n"):
        run.metrics_file.write_text(damage)
        run.update(status="running")
        assert package.train(overrides).metrics_file.read_text() == curve


def test_a_damaged_checkpoint_of_an_unfinished_run_says_what_to_do(workplace):
    import kdlab as package
    from kdlab.errors import InputError

    overrides = ["strategy=supervised", "trainer.max_epochs=2", "progress=none"]
    run = package.train(overrides)
    run.update(status="running")
    with open(run.checkpoint("last"), "r+b") as file:
        file.truncate(1000)
    with pytest.raises(InputError, match="last.ckpt cannot be read.*fresh=true"):
        package.train(overrides)
    assert package.train([*overrides, "fresh=true"]).finished
    run.update(status="running")
    run.checkpoint("last").write_bytes(b"torn")
    assert package.train([*overrides, "fresh=true"]).finished, "also where the damaged run was itself begun afresh"


def test_begun_afresh_and_killed_it_is_gone_on_with(tmp_path, forked):
    """Repeating the command must not begin from nothing each time."""
    overrides = [*OVERRIDES, "fresh=true"]
    for moment in ("middle of an epoch", None):
        process = forked(_job, tmp_path, overrides, moment)
        process.join()
    assert len(_student_run(tmp_path).record["resumed"]) == 1
