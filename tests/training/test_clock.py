"""The clock of optimiser steps: how long a training is, where its rows end, and what its schedules count."""

import re

import pytest
import torch

import kdlab
from kdlab.compare import groups
from kdlab.compare.figures import gather
from kdlab.config.compose import compose
from kdlab.errors import InputError, RunFailed
from kdlab.runs.curve import MetricsFile
from kdlab.runs.identity import run_hash
from kdlab.runs.run import find_runs
from kdlab.training.assemble import assembled

# 10 batches an epoch
SHORT = [
    "data.batch_size=40",
    "data.fraction=0.35",
    "student.hidden=[8]",
    "student.dropout=0.3",
    "data.augment.crop_padding=1",
    "trainer.accelerator=cpu",
    "progress=none",
]
ALONE = ["strategy=supervised", *SHORT]
STEPS = ["trainer.max_epochs=null", "trainer.max_steps=24", "trainer.every_n_train_steps=4"]
HERE = "tests.training.enders"


def rows(run):
    return MetricsFile(run.metrics_file).load().rows


def steps(run):
    return [int(row["step"]) for row in rows(run)]


def content(run, which="last"):
    return torch.load(run.checkpoint(which), weights_only=True)


def equal(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


# -- length and rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides, found",
    [
        (["trainer.max_epochs=null", "trainer.max_steps=24"], [(0, 10), (1, 20), (2, 24)]),
        (["trainer.max_epochs=null", "trainer.max_steps=7"], [(0, 7)]),
        (["trainer.max_epochs=2", "trainer.max_steps=24"], [(0, 10), (1, 20)]),
        (["trainer.max_steps=20"], [(0, 10), (1, 20)]),
        (STEPS, [(0, 4), (0, 8), (1, 12), (1, 16), (1, 20), (2, 24)]),
        ([*STEPS, "trainer.every_n_train_steps=9"], [(0, 9), (1, 18), (2, 24)]),
        ([*STEPS, "trainer.every_n_train_steps=100"], [(2, 24)]),
        (["trainer.max_epochs=2", "trainer.every_n_train_steps=15"], [(1, 15), (1, 20)]),
        ([*STEPS, "trainer.accumulate_grad_batches=3"], [(0, 4), (1, 8), (2, 12), (3, 16), (4, 20), (5, 24)]),
        ([*STEPS, "trainer.accumulate_grad_batches=3", "trainer.every_n_train_steps=5"][-2:] + STEPS[:1]
         + ["trainer.max_steps=11"], [(1, 5), (2, 10), (2, 11)]),
        ([*STEPS, "+trainer.limit_train_batches=3"], [(1, 4), (2, 8), (3, 12), (5, 16), (6, 20), (7, 24)]),
        ([*STEPS, "+trainer.limit_val_batches=0"], [(0, 4), (0, 8), (1, 12), (1, 16), (1, 20), (2, 24)]),
    ],
)  # fmt: skip
def test_rows_end_where_they_should(workplace, overrides, found):
    run = kdlab.train([*ALONE, *overrides])
    assert run.finished and [(int(row["epoch"]), int(row["step"])) for row in rows(run)] == found
    validated = "+trainer.limit_val_batches=0" not in overrides
    assert all(("val/accuracy" in row) == validated for row in rows(run))
    assert content(run)["global_step"] == found[-1][1]


def test_a_row_holds_what_its_own_steps_measured(workplace, monkeypatch):
    from kdlab.strategies.base import Strategy

    heard, step = [], Strategy.training_step

    def training_step(self, batch, index):
        heard.append(step(self, batch, index))
        return heard[-1]

    monkeypatch.setattr(Strategy, "training_step", training_step)
    run = kdlab.train([*ALONE, *STEPS, "trainer.every_n_train_steps=9"])
    losses = torch.stack(heard).detach()
    for row, part in zip(rows(run), (losses[:9], losses[9:18], losses[18:])):
        assert row["train/loss"] == pytest.approx(part.mean().item(), rel=1e-5)
    assert sum(row["seconds"] for row in rows(run)) == pytest.approx(run.record["durations"]["train_seconds"])


def test_validation_does_not_change_what_is_learned(workplace):
    """The same training with a row an epoch, and with rows of 4 and of 7 steps; dropout draws the same numbers."""
    length = ["trainer.max_epochs=null", "trainer.max_steps=24"]
    runs = [
        kdlab.train([*ALONE, *length, *([f"trainer.every_n_train_steps={every}"] if every else [])])
        for every in (None, 4, 7)
    ]
    assert len({run.record["hash"] for run in runs}) == 3
    weights = [content(run)["state_dict"] for run in runs]
    assert equal(weights[0], weights[1]) and equal(weights[0], weights[2])
    assert rows(runs[0])[-1]["val/nll"] == rows(runs[1])[-1]["val/nll"] == rows(runs[2])[-1]["val/nll"]
    # step 20 is the end of an epoch, and of a row of four steps
    assert rows(runs[0])[1]["val/nll"] == rows(runs[1])[4]["val/nll"]


def test_the_best_of_all_rows_is_kept(workplace, kdlab):
    import kdlab as api

    code, out, err = kdlab("train", *ALONE, *STEPS, "progress=lines")
    assert code == 0, err
    run = next(find_runs(["runs"]))
    best = max(rows(run), key=lambda row: row["val/accuracy"])
    assert run.metrics["best_step"] == best["step"] and run.metrics["best_epoch"] == best["epoch"] + 1
    assert content(run, "best")["global_step"] == best["step"]
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    assert [line.split("  ")[0] for line in lines] == [f"step {done}/24" for done in (4, 8, 12, 16, 20, 24)]
    assert "(last step)" in out and f"(best on validation, step {int(best['step'])})" in out
    code, out, err = kdlab("runs")
    assert "24 steps" in out
    code, out, err = kdlab("train", *ALONE, *STEPS, "progress=bar", "name=bar")
    assert code == 0 and "Epoch 2/2" in out, "the last of three, which Lightning counts from 0"
    # of epochs that steps end, the number of all
    code, out, err = kdlab("train", *ALONE, *STEPS[:2], "progress=lines", "name=epochs")
    assert "epoch 1/3 (step 10/24)  " in out and "epoch 3/3 (step 24/24)  " in out and "(last epoch)" in out
    assert api.train([*ALONE, *STEPS]).path == run.path


def test_curves_of_steps_and_epochs_meet_over_steps(workplace):
    """Learning curves of a comparison: over epochs; over steps as soon as one run has rows of steps."""
    kdlab.train([*ALONE, "trainer.max_epochs=2"])
    assert drawn("runs").get_xlabel() == "epoch"
    kdlab.train([*ALONE, "trainer.max_epochs=2", "trainer.every_n_train_steps=4", "optimizer.lr=0.02"])
    axes = drawn("runs")
    assert axes.get_xlabel() == "step"
    assert sorted(line.get_xdata().tolist() for line in axes.lines) == [[4, 8, 12, 16, 20], [10, 20]]


def drawn(folder):
    found, _ = groups(find_runs([folder]))
    ((_, figure),) = gather._learning_curves(gather.Rows(found, "accuracy", None))
    return figure.axes[0]


def test_early_stopping_waits_for_rows(workplace):
    stop = (
        "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: MONITOR, mode: max, "
        "patience: 2, min_delta: 100}"
    )
    for monitor in ("val/accuracy", "train/loss"):
        run = kdlab.train([*ALONE, *STEPS, stop.replace("MONITOR", monitor)])
        assert run.finished and steps(run) == [4, 8, 12]
        assert content(run)["callbacks"]["kdlab.Recorder"]["stopped"]
        run.update(status="running")
        assert steps(kdlab.train([*ALONE, *STEPS, stop.replace("MONITOR", monitor)])) == [4, 8, 12]


def test_max_time_ends_with_a_row(workplace):
    run = kdlab.train([*ALONE, *STEPS, "+trainer.max_time={hours: 1}", f"+callbacks.x={{_target_: {HERE}.Late}}"])
    assert run.finished and steps(run) == [4, 8, 12] and all("val/nll" in row for row in rows(run))


#: no score is ever good enough, so each that is followed lowers the rate
PLATEAU = [
    "scheduler=none",
    "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
    "+scheduler.interval=epoch",
    "+scheduler.patience=0",
    "+scheduler.threshold=1000",
    "+scheduler.mode=max",
    "+scheduler.threshold_mode=abs",
    "optimizer.lr=0.01",
]


def test_a_rate_that_waits_for_a_metric_follows_rows(workplace):
    run = kdlab.train([*ALONE, *STEPS, *PLATEAU])
    assert [row["learning_rate"] for row in rows(run)] == pytest.approx([0.01 * 0.1**n for n in range(6)], rel=1e-4)


def test_an_epoch_without_validation_does_not_move_a_rate_that_waits_for_a_metric(workplace):
    """Epochs end after 10, 20, 30 and so on, rows after 14, 28, 42 and 56 steps: the first epoch ends before any
    validation."""
    run = kdlab.train([*ALONE, *STEPS, *PLATEAU, "trainer.every_n_train_steps=14", "trainer.max_steps=56"])
    assert run.finished and steps(run) == [14, 28, 42, 56]
    assert [row["learning_rate"] for row in rows(run)] == pytest.approx([0.01, 1e-3, 1e-4, 1e-5], rel=1e-4)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            [
                "trainer.every_n_train_steps=10",
                f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_validation_start}}",
            ],
            "step 10 has no validation",
        ),
        (
            [f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_train_epoch_start, after: 1}}"],
            "the training ended after 10 of 24 steps",
        ),
        (["+loss.x={_target_: " + HERE + ".EndingLoss, after: 14}"], "epoch 2 has 3 of its 10 training batches"),
    ],
)
def test_what_ends_early_is_no_result(workplace, overrides, message):
    with pytest.raises(RunFailed, match=message):
        kdlab.train([*ALONE, *STEPS, f"+callbacks.swallow={{_target_: {HERE}.Swallowing}}", *overrides])


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides, interval, last",
    [
        (["trainer.max_epochs=null", "trainer.max_steps=24"], "step", 24),
        (["trainer.max_epochs=null", "trainer.max_steps=24"], "epoch", 3),
        (["trainer.max_steps=24"], "step", 24),
        (["trainer.max_steps=24"], "epoch", 3),
        (["trainer.max_epochs=2", "trainer.max_steps=24"], "step", 20),
        (["trainer.max_epochs=2", "trainer.max_steps=24"], "epoch", 2),
        (["trainer.max_steps=9", "trainer.accumulate_grad_batches=3"], "epoch", 3),
        (["trainer.max_steps=9", "trainer.accumulate_grad_batches=3"], "step", 9),
        (["trainer.max_steps=9", "trainer.accumulate_grad_batches=3", "+trainer.limit_train_batches=4"], "epoch", 5),
        (STEPS, "step", 24),
    ],
)
def test_the_horizon_of_a_learning_rate(workplace, overrides, interval, last):
    run = kdlab.train([*ALONE, *overrides, f"scheduler.interval={interval}"])
    (schedule,) = content(run)["lr_schedulers"]
    assert schedule["T_max"] == last
    if interval == "step":
        assert schedule["last_epoch"] == last and rows(run)[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


def test_a_loss_schedule_in_steps_follows_the_optimiser(workplace, monkeypatch, taught):
    from kdlab.strategies.base import Strategy

    found, step = [], Strategy.training_step

    def training_step(self, batch, index):
        found.append((self.trainer.global_step, self.objective.terms["kd"].temperature, self.objective.weights["kd"]))
        return step(self, batch, index)

    monkeypatch.setattr(Strategy, "training_step", training_step)
    kdlab.train(
        [
            *SHORT,
            "teacher=run",
            f"teacher.run={taught.path}",
            "trainer.max_epochs=null",
            "trainer.max_steps=12",
            "trainer.accumulate_grad_batches=3",
            "loss.kd.temperature={schedule: linear, start: 8, end: 2, steps: 10}",
            "loss.kd.weight={schedule: stop, value: 0.9, steps: 6}",
        ]
    )
    assert [done for done, *_ in found][:11] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4]  # 10 batches are 4 steps
    for done, temperature, weight in found:
        assert temperature == pytest.approx(8 - 6 * min(done, 10) / 10) and weight == (0.9 if done < 6 else 0.0)


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED = {
    "no end": (["trainer.max_epochs=null"], "without trainer.max_steps the training has no end"),
    "no end but time": (["trainer.max_epochs=null", "+trainer.max_time={hours: 1}"], "has no end"),
    "no steps": (["trainer.max_steps=0"], "trainer.max_steps must be a whole number of at least 1, or -1"),
    "half a step": (["trainer.max_steps=2.5"], "trainer.max_steps must be a whole number"),
    "rows of no steps": (["trainer.every_n_train_steps=0"], "trainer.every_n_train_steps must be a whole number"),
    "two intervals": (
        [*STEPS, "+trainer.val_check_interval=10"],
        "trainer.val_check_interval=10: trainer.every_n_train_steps=4 says already when to validate",
    ),
    "two intervals, epochs": (
        [*STEPS, "+trainer.check_val_every_n_epoch=2"],
        "trainer.check_val_every_n_epoch=2: trainer.every_n_train_steps=4 says already",
    ),
    "milestones": (
        [*STEPS, "scheduler=multistep", "scheduler.interval=step"],
        "none of them comes before trainer.max_steps=24",
    ),
    "two lengths": (
        ["loss.ce.weight={schedule: linear, start: 0, end: 1, epochs: 2, steps: 3}"],
        "a schedule has one length",
    ),
    "no length": (["loss.ce.weight={schedule: linear, start: 0, end: 1, steps: 0}"], "loss.ce.weight.steps must be"),
    "length of a constant": (["loss.ce.weight={schedule: constant, value: 1, steps: 2}"], "no argument 'steps'"),
    "unknown length": (
        ["loss.ce.weight={schedule: linear, start: 0, end: 1, epochs: null}"],
        "loss.ce.weight.epochs has no value",
    ),
    "a schedule over all epochs": (
        ["strategy=ps_kd", *STEPS],
        r"example in optimiser steps: \+loss.soft_cross_entropy.weight.steps=24",
    ),
    "a schedule over a part of them": (["strategy=one", *STEPS], r"\+loss.one_kl.weight.steps=24"),
    "a strategy that forgets": (
        [f"strategy._target_={HERE}.Forgetful", *STEPS],
        r"on_train_epoch_start of Forgetful again. Define inside_epoch\(\)",
    ),
    "a snapshot that never teaches": (
        ["strategy=previous_checkpoint", "strategy.start=3", *STEPS],
        "a training of 3 epochs ends before",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_early(kdlab, workplace, what):
    overrides, message = REFUSED[what]
    given = overrides if overrides[0].startswith("strategy=") else ["strategy=supervised", *overrides]
    code, out, err = kdlab("train", *SHORT, *given)
    assert code == 2 and re.search(message, err) and "Traceback" not in err, err
    assert not (workplace / "runs").exists()


def test_the_cures_are_accepted(workplace):
    kdlab.train(["strategy=ps_kd", *SHORT, *STEPS, "+loss.soft_cross_entropy.weight.steps=24"])
    config = compose(["strategy=one", *STEPS, "+loss.one_kl.weight.steps=24"])
    assert config["loss"]["one_kl"]["weight"]["steps"] == 24


def test_configs_of_epochs_keep_their_hash():
    plain = compose([])
    assert "max_steps" not in plain["trainer"] and "every_n_train_steps" not in plain["trainer"]
    given = compose(["trainer.max_steps=-1", "trainer.every_n_train_steps=null"])
    assert run_hash(given) == run_hash(plain)
    others = [["trainer.max_steps=9"], ["trainer.every_n_train_steps=9"]]
    assert len({run_hash(compose(other)) for other in [[], *others]}) == 3


def test_the_strategy_is_told_how_long_it_is():
    for overrides, epochs in ((STEPS[:2], 3), (["trainer.max_epochs=2", "trainer.max_steps=24"], 2), ([], 40)):
        assert assembled(compose([*ALONE, *overrides])).strategy.epochs == epochs
    with pytest.raises(InputError, match="a training of 3 epochs"):
        assembled(compose(["strategy=previous_checkpoint", "strategy.start=3", *SHORT, *STEPS]))
