"""The mean teacher, step by step."""

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.strategies import MeanTeacher
from tests.strategies.tiny import RATE, batch_of, ce, kd, linear, made, take_step

TERMS, WEIGHTS = lambda: {"ce": CrossEntropy(), "kd": HintonKD(2.0)}, {"ce": 0.5, "kd": 2.0}
SHORT = ["strategy=ema", "data.fraction=0.2", "trainer.max_epochs=2", "progress=none"]


@pytest.mark.parametrize("views", ["same", "different"])
def test_two_steps_by_hand(views):
    batch = batch_of(6, views=2)
    strategy = made(MeanTeacher, linear(), TERMS(), WEIGHTS, batch, decay=0.6, views=views)
    other = batch.further_views[0] if views == "different" else batch.inputs
    weight = strategy.student[0].weight.detach().clone().requires_grad_()
    average = weight.detach().clone()
    for mixed in (0.5, 0.4):  # 1 / (t + 1) at step t = 1, then 1 - decay
        loss = 0.5 * ce(batch.inputs @ weight.T, batch.target) + 2.0 * kd(
            batch.inputs @ weight.T, other @ average.T, 2.0
        )
        (gradient,) = torch.autograd.grad(loss, weight)
        torch.testing.assert_close(take_step(strategy, batch).total.detach(), loss.detach())
        weight = (weight - RATE * gradient).detach().requires_grad_()
        average = (1 - mixed) * average + mixed * weight.detach()
        torch.testing.assert_close(strategy.student[0].weight, weight)
        torch.testing.assert_close(strategy.average.network[0].weight, average)


def test_it_follows_optimiser_steps_and_not_batches():
    batch = batch_of(6, views=2)
    strategy = made(MeanTeacher, linear(), TERMS(), WEIGHTS, batch)
    before = strategy.average.network[0].weight.clone()
    take_step(strategy, batch, stepped=False)
    assert torch.equal(strategy.average.network[0].weight, before) and strategy.average.steps == 0
    take_step(strategy, batch)
    assert not torch.equal(strategy.average.network[0].weight, before) and strategy.average.steps == 1


def test_the_average_is_kept_and_both_are_reported(workplace):
    run = kdlab.train([*SHORT, "strategy.keep=average"])
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    kept = run.student.state_dict()
    assert all(torch.equal(value, state[f"average.network.{name}"]) for name, value in kept.items())
    assert not all(torch.equal(value, state[f"student.{name}"]) for name, value in kept.items())
    assert set(run.record["networks"]) == {"student", "average"} and run.record["kept"]["last"]["network"] == "average"
    assert run.metrics["test/accuracy"] == run.record["networks"]["average"]["test/accuracy"]
    assert state["average.steps"] == 2 * 7  # 231 samples in batches of 32, twice


def test_the_average_moves_in_half_precision(workplace):
    run = kdlab.train([*SHORT, "trainer.precision=bf16-true", "strategy.decay=0.99"])
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    name = "network.classifier.weight"
    assert (
        state[f"average.{name}"].dtype == torch.float32 and state["student.classifier.weight"].dtype == torch.bfloat16
    )
    assert not torch.equal(state[f"average.{name}"], state[f"average.{name}"].bfloat16().float())


def test_features_of_the_average_teach(workplace):
    run = kdlab.train([*SHORT, "loss=[ce,hint]", "loss.hint.student_tap=stage1", "loss.hint.teacher_tap=stage1"])
    assert 0 < run.metrics["train/loss_hint"] < 10
    assert any("connector" in name for name in torch.load(run.checkpoint("last"), weights_only=True)["state_dict"])


@pytest.mark.parametrize(
    "extra, message",
    [
        (["strategy.decay=1.5"], "decay must be between 0 and 1, got 1.5"),
        (["strategy.keep=averages"], "strategy.keep"),
        (["loss=[ce,multi_level]"], "strategy.views=same"),
        (["teacher=trained"], "the student is its own teacher.*teacher=none"),
    ],
)
def test_what_does_not_fit_is_refused(workplace, extra, message):
    with pytest.raises(InputError, match=message):
        kdlab.train([*SHORT, *extra])
    assert not (workplace / "runs" / "quickstart").exists()
