"""Runs that are trained together: each has the files of a run alone, and is resumed and fails by itself."""

import os
import signal

import pytest
import torch

from kdlab.config.compose import compose, own_hydra
from kdlab.errors import RunFailed
from kdlab.runs.curve import MetricsFile
from kdlab.runs.run import Run, RunStore
from kdlab.training import trial as trials
from kdlab.training.ensure import ensure
from kdlab.training.ensure_stacked import ensure_stacked
from kdlab.training.stack import Stack
from kdlab.training.trial import ROUNDS

MACHINES = ("seconds", "train/teacher_share")  # columns that no two runs share


@pytest.fixture(scope="module")
def configs(taught):
    """Temperature, learning rate and seed differ; the second has no teacher at work."""
    with own_hydra():
        base = compose(
            [
                "teacher=run",
                f"teacher.run={taught.path}",
                "teacher.cache=fixed",
                "trainer.max_epochs=4",
                "data.fraction=0.2",
                "progress=none",
            ]
        )
    made = []
    for temperature, weight, rate, seed in (
        (2.0, 0.9, 0.01, 1),
        (4.0, 0.0, 0.01, 1),
        (4.0, 0.5, 0.02, 2),
        (8.0, 1.0, 0.01, 2),
    ):
        kd = {**base["loss"]["kd"], "temperature": temperature, "weight": weight}
        loss = {"ce": {**base["loss"]["ce"], "weight": 1 - weight}, "kd": kd}
        made.append({**base, "seed": seed, "loss": loss, "optimizer": {**base["optimizer"], "lr": rate}})
    return made


def at(configs, folder):
    return [{**config, "paths": {**config["paths"], "runs": str(folder)}} for config in configs]


def stacked(configs, observes=None, **options):
    """Train configs together; returns the exception of each, by number, and the trial."""
    ends = {}
    trial = ensure_stacked(
        configs, observes or [None] * len(configs), ends.__setitem__, lambda line: None, always=True, **options
    )
    return ends, trial


def run_of(config):
    return RunStore(config["paths"]["runs"]).run(config)


def content(config, which="last"):
    return torch.load(run_of(config).checkpoint(which), weights_only=True)


def without_times(rows):
    return [{key: value for key, value in row.items() if key not in MACHINES} for row in rows]


def assert_same_run(one, other, tolerance=1e-5):
    """Equal up to rounding, and in form."""
    for which in ("last", "best"):
        mine, its = content(one, which), content(other, which)
        assert mine.keys() == its.keys()
        assert mine["loops"] == its["loops"] and mine["lr_schedulers"] == its["lr_schedulers"]
        assert mine["callbacks"].keys() == its["callbacks"].keys()
        for name, value in mine["state_dict"].items():
            torch.testing.assert_close(value, its["state_dict"][name], atol=tolerance, rtol=0)
        (mine,), (its,) = mine["optimizer_states"], its["optimizer_states"]
        assert mine["param_groups"] == its["param_groups"] and mine["state"].keys() == its["state"].keys()
        for number, state in mine["state"].items():
            assert [(name, value.dtype, value.shape) for name, value in state.items()] == [
                (name, value.dtype, value.shape) for name, value in its["state"][number].items()
            ]
    mine, its = run_of(one), run_of(other)
    assert mine.metrics == pytest.approx(its.metrics, abs=10 * tolerance) and mine.metrics.keys() == its.metrics.keys()
    rows = [without_times(MetricsFile(run.metrics_file).load().rows) for run in (mine, its)]
    assert [list(row) for row in rows[0]] == [list(row) for row in rows[1]]
    for row, expected in zip(*rows):
        assert row == pytest.approx(expected, abs=10 * tolerance)
    assert mine.record.keys() == its.record.keys() and mine.hash == its.hash
    assert mine.record["cache"]["mode"] == its.record["cache"]["mode"] == "fixed"
    assert sorted(os.listdir(mine.path)) == sorted(os.listdir(its.path))
    predictions = [run.predictions() for run in (mine, its)]
    assert predictions[0].keys() == predictions[1].keys()
    for name, value in predictions[0].items():
        torch.testing.assert_close(value, predictions[1][name], atol=100 * tolerance, rtol=0)


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory):
    """The same runs, one by one."""
    found = at(configs, tmp_path_factory.mktemp("alone"))
    for config in found:
        ensure(config, lambda line: None)
    return found


def test_a_stacked_run_has_the_files_of_a_run_alone(configs, alone, tmp_path):
    rows, found = [], at(configs, tmp_path)
    observes = [lambda *row, number=number: rows.append((number, *row)) for number in range(len(found))]
    ends, trial = stacked(found, observes)
    assert ends == dict.fromkeys(range(4)) and not trial.why_not and trial.error < 1e-5
    for one, other in zip(found, alone):
        assert_same_run(one, other)
        assert run_of(one).read().stacked["runs"] == 4 and run_of(other).read().stacked is None
    assert [(number, done, whole, unit) for number, done, whole, _, unit in rows] == [
        (number, epoch, 4, "epoch") for epoch in (1, 2, 3, 4) for number in range(4)
    ]
    first, second, alone_second = (
        MetricsFile(run_of(one).metrics_file).load().rows for one in (found[0], found[1], alone[1])
    )
    assert "train/loss_kd" not in alone_second[0] and alone_second[0]["train/teacher_share"] == 0
    # its batches are those of the first run, which asks the teacher
    assert all(row["train/teacher_share"] == 0 for row in second)
    assert all(row["train/teacher_share"] > 0 for row in first)
    again, trial = stacked(found)
    assert again == dict.fromkeys(range(4)) and trial.why_not == "fewer than two runs are left"


def _killed(configs):
    """The second run is killed after its second epoch, when the third and fourth have one."""

    def kill(finished, *row):
        if finished == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    stacked(configs, [None, kill, None, None])


@pytest.mark.slow
def test_a_killed_stack_is_resumed_by_any_way(configs, alone, tmp_path, forked):
    found = at(configs, tmp_path)
    process = forked(_killed, found)
    process.join(timeout=300)
    assert process.exitcode == -signal.SIGKILL
    assert [content(config)["epoch"] for config in found] == [1, 1, 0, 0]
    ensure(found[0], lambda line: None)  # alone; the others together, from several epochs
    ends, trial = stacked(found[1:])
    assert ends == dict.fromkeys(range(3)), ends
    for one, other in zip(found, alone):
        assert_same_run(one, other)
        assert len(run_of(one).read().resumed) == 1
        assert run_of(one).read().stacked["runs"] == (4 if one is found[0] else 3)


def test_runs_that_were_begun_alone_go_on_together(configs, alone, tmp_path):
    found = at(configs, tmp_path)

    def interrupt(finished, *row):
        if finished == 1:
            raise KeyboardInterrupt

    for config in found[:2]:
        with pytest.raises(KeyboardInterrupt):
            ensure(config, lambda line: None, observe=interrupt)
    with pytest.raises(KeyboardInterrupt):
        stacked(found, [None, None, interrupt, None])
    assert [run_of(config).status for config in found] == ["interrupted"] * 4
    # the first two joined when the others had done an epoch, and one of these had not saved it when it was stopped
    assert [run_of(config).checkpoint("last").exists() for config in found] == [True, True, True, False]
    steps = [content(config)["global_step"] if run_of(config).checkpoint("last").exists() else 0 for config in found]
    run_of(found[0]).update(stacked={"runs": 4, "times_faster": 2.0, "saved_seconds": 100.0})
    saved = [run_of(config).read().stacked["saved_seconds"] for config in found]
    ends, trial = stacked(found)
    assert ends == dict.fromkeys(range(4))
    for number, (one, other) in enumerate(zip(found, alone)):
        assert_same_run(one, other)
        more = trial.saved / 4 * (content(one)["global_step"] - steps[number])
        assert run_of(one).read().stacked["saved_seconds"] == pytest.approx(saved[number] + more)


@pytest.mark.parametrize("write", [1, 2])
def test_a_record_that_cannot_be_written_fails_its_run_alone(configs, tmp_path, monkeypatch, write):
    """At the beginning, and at the end."""
    found, writes, update = at(configs, tmp_path), [], Run.update

    def unwritable(self, **values):
        if "stacked" in values and self.hash == run_of(found[2]).hash:
            writes.append(values)
            if len(writes) == write:
                raise OSError(28, "No space left on device")
        return update(self, **values)

    monkeypatch.setattr(Run, "update", unwritable)
    ends, _ = stacked(found)
    assert "No space left on device" in str(ends.pop(2)) and ends == dict.fromkeys((0, 1, 3))
    assert [run_of(config).status for config in found] == ["finished", "finished", "failed", "finished"]


def test_runs_whose_common_training_fails_go_on_alone(configs, alone, tmp_path, monkeypatch):
    found, steps, step = at(configs, tmp_path), [], Stack.step

    def fails(self, given):
        steps.append(given)
        if len(steps) > ROUNDS + 1 + content(alone[0])["global_step"] // 4:  # in the second epoch
            raise RuntimeError("too much for one step.")
        return step(self, given)

    monkeypatch.setattr(Stack, "step", fails)
    ends, trial = stacked(found)
    assert ends == {} and trial.why_not == (
        "their common training failed (RuntimeError: too much for one step); each goes on alone, from its last "
        "finished epoch"
    )
    assert [run_of(config).status for config in found] == ["failed"] * 4
    assert [content(config)["epoch"] for config in found] == [0] * 4
    ensure(found[0], lambda line: None)
    assert_same_run(found[0], alone[0])


def test_an_interrupt_while_runs_are_begun(configs, tmp_path, monkeypatch):
    found, kept = at(configs, tmp_path), []

    def interrupted(run, parts, say):
        kept.append(run)
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("kdlab.training.ensure_stacked.keep_training_answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stacked(found)
    assert [run_of(config).status for config in found] == ["interrupted", "interrupted", "absent", "absent"]


def test_one_run_that_is_left_is_not_stacked(configs, tmp_path):
    found = at(configs[:2], tmp_path)
    with run_of(found[1]).lock().acquire(timeout=0):
        ends, trial = stacked(found)
    assert "another process is training" in str(ends.pop(1)) and ends == {}
    assert trial.why_not == "fewer than two runs could be begun" and run_of(found[0]).status == "absent"


def test_losses_that_a_trial_computed_in_turn_are_trained_in_turn(configs, tmp_path):
    """A mixture of both directions compares its weight with 0, which vmap cannot."""
    both = {"_target_": "kdlab.losses.SymmetricKL", "weight": 0.5}
    trainer = {**configs[0]["trainer"], "max_epochs": 1}
    made = [
        {**configs[0], "trainer": trainer, "loss": {**configs[0]["loss"], "both": {**both, "reverse_weight": weight}}}
        for weight in (0.2, 0.7)
    ]
    found, alone = at(made, tmp_path / "stacked"), at(made, tmp_path / "alone")
    ends, trial = stacked(found)
    assert ends == dict.fromkeys(range(2)) and not trial.together
    for one, other in zip(found, alone):
        ensure(other, lambda line: None)
        assert_same_run(one, other)


def test_a_run_that_diverges_fails_alone(configs, alone, tmp_path):
    found = at(configs, tmp_path)
    found[2] = {**found[2], "optimizer": {**found[2]["optimizer"], "lr": 1e30}}
    ends, _ = stacked(found)
    assert isinstance(ends.pop(2), RunFailed) and set(ends.values()) == {None} and len(ends) == 3
    failed = run_of(found[2])
    assert failed.status == "failed" and "the training diverged in epoch 1" in failed.record["error"]
    assert "FloatingPointError" in (failed.path / "error.txt").read_text()
    for number in ends:
        assert_same_run(found[number], alone[number])


def test_where_it_does_not_pay_nothing_is_begun(configs, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "LEAST", 1e6)
    found, ends = at(configs, tmp_path), {}
    trial = ensure_stacked(found, [None] * 4, ends.__setitem__, lambda line: None)
    assert "a step of 4 runs together is only" in trial.why_not and trial.faster > 0 and ends == {}
    assert not any(run_of(config).path.exists() for config in found)


def test_a_run_that_another_process_trains_is_left_out(configs, alone, tmp_path):
    found = at(configs, tmp_path)
    with run_of(found[1]).lock().acquire(timeout=0):
        ends, _ = stacked(found)
    assert "another process is training" in str(ends.pop(1)) and set(ends.values()) == {None}
    assert run_of(found[1]).status == "absent"
    assert run_of(found[0]).read().stacked["runs"] == 3
    assert_same_run(found[0], alone[0])


@pytest.mark.slow
def test_networks_with_statistics_keep_their_own(taught, tmp_path):
    """BatchNorm, momentum, a schedule of epochs, and a weight that stops; the teacher is asked in every step."""
    with own_hydra():
        base = compose(
            [
                "teacher=run",
                f"teacher.run={taught.path}",
                "student=cnn",
                "optimizer=sgd",
                "scheduler=multistep",
                "scheduler.milestones=[1,2]",
                "loss.kd.weight={schedule: stop, value: 0.9, epochs: 2}",
                "trainer.max_epochs=3",
                "data.fraction=0.2",
                "progress=none",
            ]
        )
    made = [
        {**base, "seed": seed, "optimizer": {**base["optimizer"], "weight_decay": decay}}
        for seed, decay in ((1, 0.0), (2, 0.01), (2, 0.1))
    ]
    found, alone = at(made, tmp_path / "stacked"), at(made, tmp_path / "alone")
    ends, trial = stacked(found)
    assert ends == dict.fromkeys(range(3)) and trial.together, trial
    for one, other in zip(found, alone):
        ensure(other, lambda line: None)
        mine, its = content(one), content(other)
        assert mine["loops"] == its["loops"] and mine["lr_schedulers"] == its["lr_schedulers"]
        statistics = [name for name in mine["state_dict"] if "running" in name or "tracked" in name]
        assert statistics
        for name, value in mine["state_dict"].items():
            torch.testing.assert_close(value, its["state_dict"][name], atol=2e-3, rtol=2e-3)
        assert int(mine["state_dict"]["student.stage1.1.num_batches_tracked"]) == mine["global_step"] > 0
        rows = [MetricsFile(run_of(config).metrics_file).load().rows for config in (one, other)]
        assert [list(row) for row in rows[0]] == [list(row) for row in rows[1]]
        assert [row["learning_rate"] for row in rows[0]] == [row["learning_rate"] for row in rows[1]]
        assert "train/loss_kd" in rows[0][1] and "train/loss_kd" not in rows[0][2]
        assert rows[0][1]["train/teacher_share"] > 0 == rows[0][2]["train/teacher_share"]
