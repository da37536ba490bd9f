"""The direct step does what Lightning's own step does, in the same order, and gives way where it cannot."""

import pytest
import torch
from lightning.pytorch.trainer.connectors.logger_connector import _LoggerConnector

import kdlab
from kdlab.errors import RunFailed
from kdlab.runs.curve import MetricsFile
from kdlab.training import clock, direct_step
from tests.training import watchers
from tests.training.test_clock import equal

# 5 batches an epoch
SHORT = [
    "strategy=supervised",
    "teacher=none",
    "data.fraction=0.3",
    "data.batch_size=60",
    "student.hidden=[8]",
    "student.dropout=0.2",
    "data.augment.crop_padding=1",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "progress=none",
]
WATCHED = ["+callbacks.watcher._target_=tests.training.watchers.Watcher"]


def content(run):
    """What a run left, without times."""
    rows = [
        {key: value for key, value in row.items() if key not in ("seconds", "train/teacher_share")}
        for row in MetricsFile(run.metrics_file).load().rows
    ]
    checkpoint = torch.load(run.checkpoint("last"), weights_only=True)
    return rows, checkpoint["state_dict"], checkpoint["optimizer_states"], checkpoint["loops"]


def trained(monkeypatch, overrides, name, own_step):
    """A run, whether Lightning stepped it, and what the watcher saw."""
    watchers.CALLS.clear(), watchers.LOGGED.clear()
    steps = []
    with monkeypatch.context() as patch:
        if not own_step:
            patch.setattr(clock, "needs_lightning", lambda *arguments: "of the test")
        step = direct_step.DirectStep.__call__
        patch.setattr(direct_step.DirectStep, "__call__", lambda self, f: (steps.append(1), step(self, f))[1])
        run = kdlab.train([*SHORT, *overrides, f"name={name}"])
    return run, len(steps), list(watchers.CALLS), [dict(one) for one in watchers.LOGGED]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["optimizer=sgd", "optimizer.lr=0.1", "scheduler=none"],
        ["trainer.gradient_clip_val=0.5"],
        ["trainer.gradient_clip_val=0.1", "+trainer.gradient_clip_algorithm=value"],
        ["scheduler=onecycle"],
        ["trainer.max_epochs=null", "trainer.max_steps=9"],
        ["trainer.max_epochs=null", "trainer.max_steps=9", "trainer.every_n_train_steps=4"],
        ["+trainer.check_val_every_n_epoch=2"],
        ["trainer.precision=bf16-mixed"],
        ["callbacks=ema"],
        ["strategy=online", "loss=[ce,mutual_kl]"],
    ],
    ids=lambda overrides: ",".join(overrides) or "adamw",
)
def test_it_is_lightnings_step(workplace, monkeypatch, overrides):
    watched = [*overrides, *WATCHED]
    run, steps, calls, logged = trained(monkeypatch, watched, "direct", True)
    other, none, their_calls, their_logged = trained(monkeypatch, watched, "lightning", False)
    assert steps in (9, 10) and none == 0
    assert equal(content(run), content(other))
    assert len(calls) > 6 * steps and calls == their_calls
    assert len(logged) == steps and equal(logged, their_logged)


@pytest.mark.parametrize(
    "overrides, reason",
    [
        (["trainer.accumulate_grad_batches=2"], "it accumulates gradients"),
        (["trainer.precision=64-true"], "of its precision 64-true"),
        (["+trainer.profiler=simple"], "of its profiler"),
        (["optimizer._target_=tests.training.watchers.OwnSGD"], "of its optimiser OwnSGD"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lightning_steps_where_it_must(workplace, monkeypatch, overrides, reason):
    found = []
    usual = direct_step.needs_lightning
    monkeypatch.setattr(clock, "needs_lightning", lambda *both: (found.append(usual(*both)), found[-1])[1])
    run, steps, _, _ = trained(monkeypatch, overrides, "run", True)
    assert run.finished and steps == 0 and found == [reason, reason]


@pytest.mark.parametrize("name", [*direct_step._MODULE, *direct_step._TRANSFER, "training_step"])
def test_a_strategy_that_defines_what_it_would_not_call_gets_lightnings_step(monkeypatch, workplace, name):
    from kdlab.strategies import Supervised

    usual = getattr(Supervised, name)
    monkeypatch.setattr(Supervised, name, lambda self, *a, **k: usual(self, *a, **k), raising=False)
    run, steps, _, _ = trained(monkeypatch, [], "run", True)
    assert run.finished and steps == 0


def test_an_epoch_without_a_backward_pass_is_lightnings(workplace, monkeypatch):
    # as in the last epoch of StochasticWeightAveraging
    found, usual = [], direct_step.needs_lightning

    def last_epoch_has_none(trainer, module):
        trainer.fit_loop._skip_backward = trainer.current_epoch == 1
        found.append(usual(trainer, module))
        return found[-1]

    monkeypatch.setattr(clock, "needs_lightning", last_epoch_has_none)
    _, steps, _, _ = trained(monkeypatch, [], "run", True)
    assert steps == 5 and found == [None, "this epoch has no backward pass"]


def test_nothing_is_gathered_for_loggers_where_nothing_was_logged(workplace, monkeypatch):
    gathered = []
    monkeypatch.setattr(_LoggerConnector, "update_train_step_metrics", lambda self: gathered.append(1))
    _, steps, _, _ = trained(monkeypatch, [], "run", True)
    assert steps == 10 and not gathered  # not in the second epoch either: the end of the first has logged


def test_a_hook_that_ends_an_epoch_fails_the_run(workplace):
    with pytest.raises(RunFailed, match="on_train_batch_start returned -1, which ends an epoch early"):
        kdlab.train([*SHORT, "+callbacks.skipping._target_=tests.training.watchers.Skipping"])


def test_loggers_get_the_same_numbers(workplace, monkeypatch):
    logged = {}
    for name, own_step in (("direct", True), ("lightning", False)):
        more = [*WATCHED, "logger=tensorboard", "+trainer.log_every_n_steps=2"]
        run, steps, _, _ = trained(monkeypatch, more, name, own_step)
        assert steps == 10 * own_step
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        (folder,) = {path.parent for path in run.path.rglob("events.out.tfevents*")}
        events = EventAccumulator(str(folder)).Reload()
        logged[name] = {
            tag: [(one.step, one.value) for one in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]
            if tag != "train/teacher_share"
        }
    assert logged["direct"] == logged["lightning"]
    assert logged["direct"]["of_step_step"] == [(step, float(step % 5)) for step in (1, 3, 5, 7, 9)]
