"""A run that is killed inside an epoch continues there, to the same bits: with rows of epochs, and of optimiser steps.
Bits are compared within one machine and build."""

import os
import signal

import pytest

import kdlab
from kdlab.data.images.digits import Digits
from kdlab.errors import RunFailed
from kdlab.runs.run import find_runs
from tests.training.test_clock import HERE, SHORT, STEPS, content, equal, rows

TIMES = ("seconds", "train/teacher_share")


def untimed(run):
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows(run)]


def job(folder, overrides, moment, log=None):
    """Run in a child, which kills itself before the batch of ``moment`` (epoch, batch). It notes its batches in a
    file."""
    os.chdir(folder)
    from kdlab.strategies.base import Strategy

    step = Strategy.training_step

    def training_step(self, batch, index):
        if "teachers" not in self.trainer.default_root_dir:
            if (self.current_epoch, index) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            if log is not None and self.global_rank == 0:
                with open(log, "a") as file:
                    file.write(f"{self.current_epoch} {index} {int(batch.index[0])}\n")
        return step(self, batch, index)

    Strategy.training_step = training_step
    kdlab.train(overrides)


def killed_and_undisturbed(tmp_path, forked, overrides, moment, begins):
    """The run that was killed and started again, and the undisturbed one. The second start begins at the batch
    ``begins``, and sees what the undisturbed run saw there."""
    folders = [tmp_path / name for name in ("killed", "whole")]
    seen = []
    for folder, moments in zip(folders, ([moment, None], [None])):
        folder.mkdir()
        for number, at in enumerate(moments):
            log = folder / f"{number}.txt"
            process = forked(job, folder, overrides, at, log)
            process.join()
            assert process.exitcode == (0 if at is None else -signal.SIGKILL)
        seen.append([tuple(map(int, line.split())) for line in log.read_text().splitlines()])
    resumed, whole = seen
    assert resumed[0][:2] == begins and resumed == whole[-len(resumed) :]
    return [next(find_runs([folder / "runs" / "quickstart"])) for folder in folders]


def same(run, other):
    assert run.record["resumed"] and not other.record["resumed"]
    for which in ("last", "best"):
        ours, theirs = content(run, which), content(other, which)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert equal(ours[part], theirs[part]), (which, part)
    assert untimed(run) == untimed(other)
    assert run.metrics == other.metrics and equal(run.predictions(), other.predictions())


FEW = ['teacher.overrides=["trainer.max_epochs=1"]']
KILLED = {
    "offline": (
        [*FEW, *STEPS, "scheduler=onecycle", "loss.kd.temperature={schedule: linear, start: 8, end: 2, steps: 20}"],
        (1, 5),
        (1, 2),
    ),
    "a cohort": (["strategy=online", *STEPS], (1, 5), (1, 2)),
    "an own order": (["strategy=cs_kd", *STEPS], (1, 5), (1, 2)),
    "the last batch": (["strategy=dlb", *STEPS], (1, 5), (1, 2)),
    "accumulation": (
        ["strategy=supervised", *STEPS, "trainer.accumulate_grad_batches=3", "trainer.every_n_train_steps=3"],
        (1, 8),
        (1, 6),
    ),
    "epochs": (["strategy=supervised", "trainer.max_epochs=3"], (1, 5), (1, 0)),
    "epochs that steps end": (["strategy=supervised", *STEPS[:2]], (1, 5), (1, 0)),
}
MORE = {
    "an average": (["strategy=ema", *STEPS], (1, 5), (1, 2)),
    "a table": (["strategy=ps_kd", "trainer.max_epochs=3", STEPS[2]], (1, 5), (1, 2)),
    "a snapshot": (["strategy=previous_checkpoint", *STEPS], (2, 1), (2, 0)),
    "a snapshot, inside": (["strategy=previous_checkpoint", *STEPS], (1, 8), (1, 6)),
    "turns and averages": (
        ["strategy=online", "strategy.update=alternating", "strategy.decay=0.9", *STEPS],
        (1, 5),
        (1, 2),
    ),
    "averaged weights": (["strategy=supervised", "callbacks=ema", *STEPS], (1, 5), (1, 2)),
    "a row a step": (["strategy=supervised", *STEPS, "trainer.every_n_train_steps=1"], (1, 5), (1, 5)),
    "no validation": (["strategy=supervised", *STEPS, "+trainer.limit_val_batches=0"], (1, 5), (1, 2)),
    "rows that end with epochs": (
        ["strategy=supervised", "trainer.max_epochs=3", "trainer.every_n_train_steps=10"],
        (1, 5),
        (1, 0),
    ),
    "a rate that waits": (
        [
            "strategy=supervised",
            *STEPS,
            "scheduler=none",
            "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
            "+scheduler.interval=epoch",
            "+scheduler.patience=0",
            "+scheduler.threshold=0.5",
        ],
        (1, 5),
        (1, 2),
    ),
}


@pytest.mark.parametrize("what", [*KILLED, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_killed_inside_an_epoch_it_ends_with_the_same_bits(tmp_path, forked, what):
    overrides, moment, begins = {**KILLED, **MORE}[what]
    run, whole = killed_and_undisturbed(tmp_path, forked, [*SHORT, *overrides], moment, begins)
    if what == "no validation":
        assert equal(content(run)["state_dict"], content(whole)["state_dict"]) and untimed(run) == untimed(whole)
    else:
        same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["supervised", "dlb"])
def test_two_processes_resume_inside_an_epoch(tmp_path, forked, strategy):
    """Each has random numbers, and a last batch, of its own."""
    overrides = [*SHORT, f"strategy={strategy}", *STEPS, "trainer.devices=2", "trainer.strategy=ddp"]
    runs = []
    for name, moments in (("killed", [13, None]), ("whole", [None])):
        (tmp_path / name).mkdir()
        for at in moments:
            process = forked(ranked, tmp_path / name, overrides, at)
            process.join()
            assert process.exitcode == (0 if at is None else 1)
        runs.append(next(find_runs([tmp_path / name / "runs" / "quickstart"])))
    assert len(content(runs[0])["callbacks"]["kdlab.Recorder"]["rows"]) == 6
    same(*runs)


def ranked(folder, overrides, dies):
    """Run in a child. In its ranks a callback ends a process once ``dies`` steps are done."""
    os.chdir(folder)
    (folder / "dies").write_text(str(dies or 1000))
    try:
        kdlab.train([*overrides, f"+callbacks.x={{_target_: {HERE}.Dying}}"])
    except RunFailed:
        raise SystemExit(1) from None


@pytest.mark.parametrize("data", ["tests.training.enders.Deaf", "kdlab.data.images.digits.Digits"])
def test_data_that_begin_again_fail_the_run(workplace, data):
    """A loader that does not leave out the batches that are done: the run must not learn from them twice."""
    overrides = ["strategy=supervised", *SHORT, *STEPS, f"data._target_={data}"]
    stopped = "+callbacks.x={_target_: tests.training.enders.EndingCallback, hook: on_train_batch_end, after: 15}"
    with pytest.raises(RunFailed, match="the fuse is blown"):
        kdlab.train([*overrides, stopped])
    if data.startswith("tests"):
        with pytest.raises(RunFailed, match=r"do not continue with batch 3.*fresh=true"):
            kdlab.train([*overrides, stopped])
    else:
        run = kdlab.train([*overrides, stopped])
        assert run.finished and run.record["resumed"]


def test_batches_that_are_done_are_not_loaded(monkeypatch):
    data = Digits(batch_size=40)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(3)
    whole = [batch.index for batch in loader]
    asked, views_of = [], type(loader).views_of
    monkeypatch.setattr(type(loader), "views_of", lambda *given: asked.append(1) or views_of(*given))
    loader.sampler.skip(30)
    rest = [batch.index for batch in loader]
    assert len(rest) == len(whole) - 30 == len(asked) and equal(rest, whole[30:])
    loader.sampler.set_epoch(4)
    assert len(list(loader)) == len(whole), "the next epoch is whole again"
