"""Loggers beside metrics.csv, tied to the run."""

import pytest

import kdlab
from kdlab.runs.curve import MetricsFile

SMALL = ["strategy=supervised", "trainer.max_epochs=2", "progress=none"]


def test_tensorboard_writes_into_the_run(workplace):
    run = kdlab.train([*SMALL, "logger=tensorboard"])
    (events,) = (run.path / "tensorboard").glob("events.*")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve = EventAccumulator(str(events))
    curve.Reload()
    assert (
        len(curve.Scalars("val/accuracy")) == 2
        and curve.Scalars("val/accuracy")[-1].value == run.metrics["val/accuracy"]
    )


@pytest.mark.slow
def test_wandb_is_offline_and_named_by_the_run(workplace, monkeypatch):
    """Without an account; the run's hash is its id, so that a resumed run goes on in the same place."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(workplace))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = kdlab.train([*SMALL, "logger=wandb"])
    (folder,) = (run.path / "wandb").glob("offline-run-*")
    assert folder.name.endswith(run.hash) and any(folder.glob("*.wandb"))
    import wandb

    assert wandb.run is None, "it is closed, so that the next run of this process does not write into it"


def test_a_logger_does_not_change_the_result(workplace):
    """To the bit, on one machine with one build."""
    import torch

    plain, logged = kdlab.train(SMALL), kdlab.train([*SMALL, "logger=tensorboard", "name=logged"])
    assert plain.hash == logged.hash
    assert all(torch.equal(one, other) for one, other in zip(plain.student.parameters(), logged.student.parameters()))


def test_a_logger_gets_every_row_of_steps(workplace):
    """Also those between the steps that Lightning logs."""
    clock = ["trainer.max_epochs=null", "trainer.max_steps=24", "trainer.every_n_train_steps=7"]
    run = kdlab.train(["strategy=supervised", *clock, "progress=none", "logger=tensorboard"])
    (events,) = (run.path / "tensorboard").glob("events.*")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve = EventAccumulator(str(events))
    curve.Reload()
    found = MetricsFile(run.metrics_file).load().rows
    for name in ("train/loss", "val/accuracy"):
        assert [(one.step + 1, one.value) for one in curve.Scalars(name)] == [
            (row["step"], pytest.approx(row[name], rel=1e-6)) for row in found
        ]
