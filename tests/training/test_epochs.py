"""An epoch that is not whole is never recorded: what a loop would take for its end fails the run."""

import math

import pytest

import kdlab
from kdlab.errors import EndedEarly, InputError, RunFailed, ended_early, to_user_error, told
from kdlab.runs.curve import MetricsFile
from kdlab.runs.run import find_runs
from kdlab.training.evaluation import all_batches
from tests.training import enders

HERE = "tests.training.enders"
# 10 batches an epoch, 2 of validation, 3 of test
DATA = ["data.batch_size=40", "data.fraction=0.35", "+data.evaluation_batch_size=150"]
SHORT = [
    "strategy=supervised",
    *DATA,
    "student.hidden=[8]",
    "trainer.max_epochs=3",
    "progress=none",
    "trainer.accelerator=cpu",
]
SCHEDULER = ["scheduler=none", f"scheduler._target_={HERE}.EndingScheduler", "+scheduler.interval=epoch"]


def curve(folder="."):
    run = next(find_runs([folder]))
    return [(row["step"], row.get("val/accuracy")) for row in MetricsFile(run.metrics_file).load().rows]


ENDS = {
    "a loss": [f"+loss.x={{_target_: {HERE}.EndingLoss}}"],
    "a loss, at a moment of an epoch's end": [f"+loss.x={{_target_: {HERE}.EndingLoss, after: 11}}"],
    "a network in training": [f"student._target_={HERE}.EndingNetwork"],
    "a network in validation": [
        f"student._target_={HERE}.EndingNetwork",
        "+student.training=false",
        "+student.after=3",
    ],
    "a callback in a step": [f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_train_batch_end}}"],
    "a callback at an epoch's begin": [
        f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_train_epoch_start, after: 1}}"
    ],
    "a callback at an epoch's end": [
        f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_train_epoch_end, after: 1}}"
    ],
    "a callback in validation": [f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_validation_batch_end}}"],
    "a callback at the end of validation": [
        f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_validation_epoch_end}}"
    ],
    "a callback at the start of validation": [
        f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_validation_start}}"
    ],
    "a callback before the optimiser": [
        f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_before_optimizer_step}}"
    ],
    "after_step": [f"strategy._target_={HERE}.EndingStrategy", "+strategy.method=after_step"],
    "after_validation": [f"strategy._target_={HERE}.EndingStrategy", "+strategy.method=after_validation"],
    "the optimiser": [f"strategy._target_={HERE}.EndingOptimizer"],
    "the scheduler": SCHEDULER,
    "the augmentation": [f"data.augment._target_={HERE}.EndingAugment"],
    "the mixing": [f"+data.mixing={{_target_: {HERE}.EndingMixing}}"],
}


@pytest.mark.parametrize("where", ENDS)
def test_stop_iteration_fails_the_run(workplace, where):
    with pytest.raises(
        RunFailed, match=r"StopIteration \(the fuse is blown\) was raised at .*enders\.py:\d+, in __call__"
    ):
        kdlab.train([*SHORT, *ENDS[where]])
    run = next(find_runs(["runs"]))
    assert run.status == "failed" and "enders.py" in (run.path / "error.txt").read_text()
    # what is recorded of it is whole
    assert [row for row in curve() if row[0] % 10 or row[1] is None or math.isnan(row[1])] == []


@pytest.mark.parametrize("error", ["StopAsyncIteration", "GeneratorExit"])
def test_others_that_end_loops_are_named_with_their_place(workplace, error):
    with pytest.raises(RunFailed, match=rf"{error} \(the fuse is blown\) was raised at .*enders\.py:\d+"):
        kdlab.train([*SHORT, f"+loss.x={{_target_: {HERE}.EndingLoss, error: {error}}}"])


def test_the_command_line_says_so_and_a_second_attempt_goes_on(kdlab, workplace):
    line = ("train", *SHORT, f"+loss.x={{_target_: {HERE}.EndingLoss, after: 16}}", "name=run")
    code, out, err = kdlab(*line)
    assert code == 1 and "StopIteration" in err and "enders.py" in err and "Traceback" not in err
    assert [step for step, _ in curve()] == [10]  # one step is rehearsed
    code, out, err = kdlab("runs")
    assert "failed" in out


@pytest.mark.parametrize("generator", [True, False])
@pytest.mark.parametrize(
    "split, since, message, epochs",
    [
        ("train", 1, "the train data ended after 9 of 10 batches", 1),
        ("validation", 0, "the validation data ended after 1 of 2 batches", 0),
        ("test", 0, "the test data ended after 2 of 3 batches", 3),
    ],
)
def test_data_that_end_early_fail_the_run(workplace, split, since, message, epochs, generator):
    overrides = [
        *SHORT,
        f"data._target_={HERE}.ShortDigits",
        f"+data.short={split}",
        f"+data.since={since}",
        f"+data.generator={generator}",
    ]
    with pytest.raises(RunFailed, match=message):
        kdlab.train(overrides)
    assert len(curve()) == epochs if epochs else not next(find_runs(["runs"])).metrics_file.exists()


def test_an_epoch_that_is_skipped_in_part_fails_the_run(workplace):
    with pytest.raises(RunFailed, match="on_train_batch_start returned -1"):
        kdlab.train([*SHORT, f"strategy._target_={HERE}.Skipping"])


@pytest.mark.parametrize(
    "overrides, message",
    [
        ([f"+loss.x={{_target_: {HERE}.EndingLoss, after: 14}}"], "epoch 2 has 3 of its 10 training batches"),
        (
            [f"student._target_={HERE}.EndingNetwork", "+student.training=false", "+student.after=4"],
            "the validation data ended after 1 of 2 batches",
        ),
        (
            [f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_validation_start}}"],
            "epoch 1 has no validation, although one was due",
        ),
        (
            [f"+callbacks.x={{_target_: {HERE}.EndingCallback, hook: on_train_epoch_start, after: 1}}"],
            "the training ended after 1 of 3 epochs",
        ),
    ],
)
def test_what_counts_finds_it_too_where_nothing_else_does(workplace, overrides, message):
    with pytest.raises(RunFailed, match=message):
        kdlab.train([*SHORT, f"+callbacks.swallow={{_target_: {HERE}.Swallowing}}", *overrides])


LEGITIMATE = {
    "limit_train_batches": (["+trainer.limit_train_batches=4"], [4, 8, 12], [1, 1, 1]),
    "a part of them": (["+trainer.limit_train_batches=0.5"], [5, 10, 15], [1, 1, 1]),
    "max_steps": (["trainer.max_steps=14"], [10, 14], [1, 1]),
    "max_time": (["+trainer.max_time={hours: 1}", f"+callbacks.x={{_target_: {HERE}.Late}}"], [10, 12], [1, 1]),
    "check_val_every_n_epoch": (["+trainer.check_val_every_n_epoch=2"], [10, 20, 30], [0, 1, 0]),
    "no validation": (["+trainer.limit_val_batches=0"], [10, 20, 30], [0, 0, 0]),
    "a part of validation": (["+trainer.limit_val_batches=1"], [10, 20, 30], [1, 1, 1]),
    "validation twice an epoch": (["+trainer.val_check_interval=0.5"], [10, 20, 30], [1, 1, 1]),
    "validation every 15 steps": (
        ["+trainer.val_check_interval=15", "+trainer.check_val_every_n_epoch=null"],
        [10, 20, 30],
        [0, 1, 1],
    ),
    "early stopping": (
        [
            "+callbacks.x={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/accuracy, mode: max, "
            "patience: 1, min_delta: 1}"
        ],
        [10, 20],
        [1, 1],
    ),
    "should_stop": ([f"+callbacks.x={{_target_: {HERE}.Stopping}}"], [10, 12], [1, 1]),
    "accumulated": (["trainer.accumulate_grad_batches=3"], [4, 8, 12], [1, 1, 1]),
    "averaged": (["callbacks=ema"], [10, 20, 30], [1, 1, 1]),
}


@pytest.mark.parametrize("what", LEGITIMATE)
def test_an_end_that_was_asked_for_is_no_fault(workplace, what):
    overrides, steps, validated = LEGITIMATE[what]
    run = kdlab.train([*SHORT, *overrides])
    assert run.finished
    rows = curve()
    assert [step for step, _ in rows] == steps and [int(score is not None) for _, score in rows] == validated


REFUSED = {
    "a loss": [f"+loss.x={{_target_: {HERE}.EndingLoss, after: 0}}"],
    "a network": [f"student._target_={HERE}.EndingNetwork", "+student.after=0", "+student.training=false"],
    "a strategy's attach": [f"strategy._target_={HERE}.EndingStrategy", "+strategy.method=attach"],
    "a strategy's sampler": [f"strategy._target_={HERE}.EndingStrategy", "+strategy.method=sampler"],
    "a strategy's checks": [f"strategy._target_={HERE}.EndingStrategy", "+strategy.method=validate_combination"],
    "a data set": [f"data._target_={HERE}.EndingRead"],
    "a scheduler": [*SCHEDULER, "+scheduler.after=0"],
}


@pytest.mark.parametrize("what", REFUSED)
def test_before_the_training_it_is_refused(kdlab, workplace, what):
    code, out, err = kdlab("train", *SHORT, *REFUSED[what])
    assert code == 2 and "StopIteration" in err and "enders.py" in err and "Traceback" not in err, err
    assert not (workplace / "runs").exists()


def test_an_exit_before_the_training_is_no_success(kdlab, workplace):
    """A network that ends the process: with the code 0, as if all were done."""
    code, out, err = kdlab("train", *SHORT, f"student._target_={HERE}.Leaving")
    assert code == 2 and "SystemExit" in err and "enders.py" in err, err


def test_a_teacher_that_ends_is_refused(kdlab, workplace):
    """In its last batch of validation."""
    code, out, err = kdlab(
        "train",
        *DATA,
        "progress=none",
        "teacher=none",
        f"+teacher={{_target_: {HERE}.EndingNetwork, "
        "classes: 10, shape: [1,8,8], hidden: [8], training: false, after: 3}",
    )
    assert code == 2 and "teacher: StopIteration" in err and "enders.py" in err, err
    assert not (workplace / "runs").exists()


def test_in_a_sweep_such_a_job_failed(kdlab, workplace):
    code, out, err = kdlab("train", "-m", *SHORT, f"+loss.x={{_target_: {HERE}.EndingLoss}}", "+loss.x.after=14,1000")
    assert code == 1 and "StopIteration" in out + err and "1 of the 2 jobs failed" in err, out + err


def test_evaluating_in_part_is_an_error(kdlab, workplace):
    import kdlab as api

    run = api.train(SHORT)
    code, out, err = kdlab("evaluate", run.path, f"data._target_={HERE}.ShortDigits", "+data.short=test")
    assert code == 1 and "the test data ended after 2 of 3 batches" in err, err
    assert list(all_batches([1, 2])) == [1, 2] and list(all_batches(iter([1, 2]))) == [1, 2]


def test_measuring_in_part_is_said(kdlab, workplace, taught, monkeypatch):
    import kdlab as api

    run = api.train(
        list(SHORT[3:])
        + [
            "trainer.max_epochs=1",
            "teacher=run",
            f"teacher.run={taught.path}",
            f"data._target_={HERE}.ShortDigits",
            "+data.short=none",
        ]
    )
    monkeypatch.setattr(enders.ShortLoader, "__iter__", lambda self: iter([]))
    code, out, err = kdlab("measure", run.path, "--seconds", "0.01")
    assert "the validation data ended after 0 of 2 batches" in out + err, out + err


def test_a_rank_that_ends_ends_the_run(workplace, forked):
    with pytest.raises(RunFailed, match=r"rank \d: StopIteration \(the fuse is blown\) was raised at .*enders\.py"):
        kdlab.train([*SHORT, f"+loss.x={{_target_: {HERE}.EndingLoss}}", "trainer.devices=2", "trainer.strategy=ddp"])
    assert next(find_runs(["runs"])).status == "failed" and [step for step, _ in curve()] == [10]


def test_what_python_makes_of_it_in_a_generator_is_known():
    with pytest.raises(RuntimeError, match="generator raised StopIteration") as found:
        enders.broken_generator()
    assert told(found.value).startswith("StopIteration was raised at") and "enders.py" in told(found.value)
    assert isinstance(to_user_error(found.value), EndedEarly) and ended_early(RuntimeError("generator")) is None
    assert not issubclass(EndedEarly, InputError)
