"""Snapshots of the student that teach it later."""

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.runs.curve import MetricsFile
from kdlab.strategies import PreviousCheckpoint
from tests.strategies.tiny import batch_of, ce, kd, linear, made

SHORT = ["data.fraction=0.2", "scheduler=none", "progress=none"]


def state_of(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def test_what_the_snapshot_said_teaches():
    batch = batch_of(6)
    strategy = made(
        PreviousCheckpoint, linear(), {"ce": CrossEntropy(), "kd": HintonKD(2.0)}, {"ce": 0.5, "kd": 2.0}, batch
    )
    before = strategy.student[0].weight.detach().clone()
    strategy.snapshots += 1
    torch.nn.init.constant_(strategy.student[0].weight, 0.25)
    now = strategy.student[0].weight.detach()
    labels = 0.5 * ce(batch.inputs @ now.T, batch.target)
    # known at the start of the next epoch
    torch.testing.assert_close(strategy.distill(batch).loss.total.detach(), labels)
    strategy._teaches = True
    expected = labels + 2.0 * kd(batch.inputs @ now.T, batch.inputs @ before.T, 2.0)
    torch.testing.assert_close(strategy.distill(batch).loss.total.detach(), expected)


def test_every_second_epoch_from_the_first(workplace):
    """The snapshot is the student of that epoch, bit for bit, and is in the checkpoint."""
    two, three, four = (
        kdlab.train(["strategy=previous_checkpoint", "strategy.every=2", f"trainer.max_epochs={epochs}", *SHORT])
        for epochs in (2, 3, 4)
    )
    students, snapshots = (
        [
            {name.removeprefix(prefix): value for name, value in state_of(run).items() if name.startswith(prefix)}
            for run in (two, three, four)
        ]
        for prefix in ("student.", "snapshot.network.")
    )
    for snapshot, student in ((1, 1), (2, 1)):
        assert all(torch.equal(value, students[student][name]) for name, value in snapshots[snapshot].items())
    assert [state_of(run)["snapshots"].item() for run in (two, three, four)] == [1, 2, 2]
    assert not torch.equal(snapshots[0]["classifier.weight"], students[0]["classifier.weight"])
    assert not torch.equal(snapshots[0]["classifier.weight"], snapshots[1]["classifier.weight"])


def test_labels_alone_before_the_first(workplace):
    """To the digit what the student learns alone, with the same weight of the labels."""
    run = kdlab.train(["strategy=previous_checkpoint", "strategy.start=2", "trainer.max_epochs=3", *SHORT])
    alone = kdlab.train(["strategy=supervised", "loss.ce.weight=0.5", "trainer.max_epochs=3", *SHORT])
    rows, expected = (MetricsFile(one.metrics_file).load().rows for one in (run, alone))
    assert ["train/loss_kd" in row for row in rows] == [False, False, True]
    assert [row["train/loss"] for row in rows[:2]] == [row["train/loss"] for row in expected[:2]]
    assert [row["train/loss_ce"] for row in rows[:2]] == [row["train/loss_ce"] for row in expected[:2]]


@pytest.mark.parametrize(
    "extra, message",
    [
        (["strategy.every=0"], "every must be a whole number of at least 1"),
        (["strategy.start=0"], "start must be a whole number of at least 1"),
        (["teacher=trained"], "the student is its own teacher"),
    ],
)
def test_what_does_not_fit_is_refused(workplace, extra, message):
    with pytest.raises(InputError, match=message):
        kdlab.train(["strategy=previous_checkpoint", *SHORT, *extra])
