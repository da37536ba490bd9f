"""What a finished run records of its last and of its best epoch."""

import pytest
import torch
from torch import nn

from kdlab import train
from kdlab.data import Digits
from kdlab.errors import RunFailed
from kdlab.losses.base import Loss
from kdlab.runs.checkpoints import read_checkpoint
from kdlab.runs.curve import MetricsFile
from kdlab.strategies.base import Strategy
from kdlab.training.evaluation import evaluate
from kdlab.training.execute import fit

UNLEARN = [
    "+loss.unlearn={_target_: tests.training.test_results.Unlearn, weight: 1.0}",
    "data.fraction=0.5",
    "trainer.max_epochs=4",
    "optimizer.lr=0.01",
    "scheduler=none",
    "progress=none",
]


class Unlearn(Loss):
    """From the third epoch on it teaches each digit's successor, with a weight that cross-entropy cannot balance: the
    second epoch is the best."""

    needs_teacher, needs_target = False, True

    def forward(self, student, teacher, batch):
        wrong = nn.functional.cross_entropy(student.logits, (batch.target + 1) % 10, reduction="none")
        return wrong * (100.0 if batch.epoch > 1 else 0.0)


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory):
    return train(["strategy=supervised", *UNLEARN, f"paths.runs={tmp_path_factory.mktemp('unlearned')}"])


@pytest.fixture(scope="module")
def test_split():
    data = Digits()
    data.setup()
    (batch,) = data.test_dataloader()
    return batch


@pytest.mark.parametrize("which", ["last", "best"])
def test_a_student_begins_with_the_one_that_is_asked_for(unlearned, workplace, which):
    run = train(
        [
            "strategy=supervised",
            "initial=run",
            f"student.initial.run={unlearned.path}",
            f"student.initial.which={which}",
            "data.fraction=0.2",
            "trainer.max_epochs=1",
            "optimizer.lr=1e-12",
            "progress=none",
        ]
    )
    weights = [nn.utils.parameters_to_vector(one.parameters()) for one in (run.student, unlearned.network(which))]
    torch.testing.assert_close(*weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("interrupted", [False, True])
def test_of_epochs_that_are_equally_good_the_first_is_the_best(workplace, monkeypatch, interrupted):
    """In the record and in the checkpoint, also of a run that is gone on with. Nothing is learned at such a rate."""
    overrides = [
        "strategy=supervised",
        "data.fraction=0.2",
        "student.hidden=[8]",
        "trainer.max_epochs=3",
        "optimizer.lr=1e-12",
        "scheduler=none",
        "progress=none",
    ]
    if interrupted:

        def training_step(self, batch, index):
            if self.current_epoch == 1:
                raise KeyboardInterrupt
            return step(self, batch, index)

        step = Strategy.training_step
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Strategy, "training_step", training_step)
            train(overrides)
    run = train(overrides)
    assert bool(run.record["resumed"]) == interrupted
    assert len({row["val/accuracy"] for row in MetricsFile(run.metrics_file).load().rows}) == 1
    assert run.metrics["best_epoch"] == 1 and read_checkpoint(run.checkpoint("best"))["epoch"] == 0


@pytest.mark.parametrize("which, suffix", [("last", ""), ("best", "_best")])
def test_metrics_and_predictions_are_those_of_the_checkpoint(unlearned, test_split, which, suffix):
    with torch.no_grad():
        logits = unlearned.network(which)(test_split.inputs)
    torch.testing.assert_close(unlearned.predictions()[which], logits, rtol=1e-4, atol=1e-4)
    accuracy = (logits.argmax(1) == test_split.target).double().mean().item()
    assert unlearned.metrics[f"test/accuracy{suffix}"] == pytest.approx(accuracy)
    nll = nn.functional.cross_entropy(logits, test_split.target).item()
    assert unlearned.metrics[f"test/nll{suffix}"] == pytest.approx(nll, rel=1e-4)


def test_the_best_epoch_is_not_the_last(unlearned):
    said, metrics = unlearned.predictions(), unlearned.metrics
    assert metrics["best_epoch"] == 2 and (said["best"] - said["last"]).abs().max() > 1
    assert metrics["test/accuracy_best"] > metrics["test/accuracy"] + 0.2
    curve = MetricsFile(unlearned.metrics_file).load().rows
    assert metrics["val/accuracy_best"] == curve[1]["val/accuracy"] == max(row["val/accuracy"] for row in curve)
    assert metrics["val/accuracy"] == curve[3]["val/accuracy"] and metrics["train/loss"] == curve[3]["train/loss"]
    weights = [
        read_checkpoint(unlearned.checkpoint(which))["state_dict"]["student.classifier.weight"]
        for which in ("last", "best")
    ]
    assert (weights[0] - weights[1]).abs().max() > 0.1


def test_the_best_teaches_where_it_is_asked_for(unlearned, workplace):
    run = train(
        [
            "teacher=run",
            f"teacher.run={unlearned.path}",
            "teacher.which=best",
            "data.fraction=0.2",
            "student.hidden=[8]",
            "trainer.max_epochs=1",
            "progress=none",
        ]
    )
    tested = run.record["teacher"]["test"]["accuracy"]
    assert tested == pytest.approx(unlearned.metrics["test/accuracy_best"], abs=1e-6)
    assert tested > unlearned.metrics["test/accuracy"] + 0.2


def test_the_other_networks_have_their_own_best(workplace, test_split):
    """Of peers and ensembles, too, the best checkpoint's metrics are of its weights."""
    run = train(["strategy=online", *UNLEARN])
    said, networks = run.predictions(), run.record["networks"]
    assert run.metrics["best_epoch"] == 2
    curve = MetricsFile(run.metrics_file).load().rows
    for name, prefix in (("student", ""), ("peer2", ".peer2")):
        for which, suffix in (("last", ""), ("best", "_best")):
            found = (said[f"{which}{prefix}"].argmax(1) == test_split.target).double().mean().item()
            assert networks[name][f"test/accuracy{suffix}"] == pytest.approx(found)
        assert networks[name]["test/accuracy_best"] > networks[name]["test/accuracy"] + 0.2
        validated = [curve[epoch][f"val/accuracy_{name}"] for epoch in (3, 1)]
        assert [networks[name][f"val/accuracy{suffix}"] for suffix in ("", "_best")] == validated
        assert networks[name]["val/accuracy_best"] > networks[name]["val/accuracy"] + 0.2
        state = read_checkpoint(run.checkpoint("best"))["state_dict"]
        network = run.network("best")
        network.load_state_dict(
            {
                key.removeprefix("student." if name == "student" else "peers.peer2."): value
                for key, value in state.items()
                if key.startswith("student." if name == "student" else "peers.peer2.")
            }
        )
        with torch.no_grad():
            torch.testing.assert_close(said[f"best{prefix}"], network(test_split.inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
def test_a_best_epoch_that_is_the_last_is_evaluated_once(workplace, monkeypatch, linked):
    asked = []

    def counted(answers, *arguments, **options):
        asked.append(sorted(answers))
        return evaluate(answers, *arguments, **options)

    monkeypatch.setattr("kdlab.training.results.evaluate", counted)
    if not linked:  # a file system without links
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    run = train(["strategy=supervised", "data.fraction=0.2", "trainer.max_epochs=1", "progress=none"])
    assert asked == [["student"]] * (1 if linked else 2)
    metrics, predictions = run.metrics, run.predictions()
    assert metrics["test/accuracy"] == metrics["test/accuracy_best"] and metrics["best_epoch"] == 1
    assert predictions["last"].shape == (359, 10) and torch.equal(predictions["last"], predictions["best"])
    assert run.kept("best") == run.kept("last")


def test_a_best_checkpoint_that_is_missing_is_named(workplace, monkeypatch):
    def lost(config, run, *arguments):
        fit(config, run, *arguments)
        run.checkpoint("best").unlink()

    monkeypatch.setattr("kdlab.training.ensure.fit", lost)
    with pytest.raises(RunFailed, match=r"there is no checkpoint .*best\.ckpt"):
        train(["strategy=supervised", "data.fraction=0.2", "trainer.max_epochs=1", "progress=none"])
