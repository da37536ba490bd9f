"""DLB: the last batch again."""

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.strategies import LastBatch
from kdlab.strategies.base import Strategy
from tests.strategies.tiny import RATE, batch_of, ce, kd, linear, made, take_step

SHORT = ["strategy=dlb", "data.fraction=0.2", "progress=none"]


def tiny(batch):
    return made(LastBatch, linear(), {"ce": CrossEntropy(), "kd": HintonKD(3.0)}, {"ce": 1.0, "kd": 0.7}, batch)


@pytest.mark.parametrize("normaliser", [True, False])
def test_two_steps_by_hand(normaliser):
    """The second batch is shorter: the cross-entropy is the mean over all rows of both."""
    first, second = batch_of(6, seed=1, views=2), batch_of(4, seed=2, views=2, first=6)
    if normaliser:
        first, second = first.replace(normaliser=6.0), second.replace(normaliser=4.0)
    strategy = tiny(first)
    weight = strategy.student[0].weight.detach().clone().requires_grad_()
    said = first.inputs @ weight.T
    loss = ce(said, first.target)
    torch.testing.assert_close(take_step(strategy, first).total.detach(), loss.detach())
    weight = (weight - RATE * torch.autograd.grad(loss, weight)[0]).detach().requires_grad_()
    again, now = first.further_views[0] @ weight.T, second.inputs @ weight.T
    loss = ce(torch.cat([again, now]), torch.cat([first.target, second.target])) + 0.7 * kd(again, said.detach(), 3.0)
    torch.testing.assert_close(take_step(strategy, second).total.detach(), loss.detach())
    torch.testing.assert_close(strategy.student[0].weight, weight - RATE * torch.autograd.grad(loss, weight)[0])


def test_the_last_batch_is_a_batch_and_no_optimiser_step():
    batches = [batch_of(4, seed=seed, views=2, first=4 * seed) for seed in range(3)]
    strategy = tiny(batches[0])
    for batch in batches:
        take_step(strategy, batch, stepped=False)
        carried, recorded = strategy._last
        assert torch.equal(carried.index, batch.index) and torch.equal(carried.inputs, batch.further_views[0])
        assert not recorded.logits.requires_grad


def test_nothing_is_carried_into_an_epoch(workplace, monkeypatch):
    """The first step of each is one of cross-entropy alone, and the checkpoint holds no more than the student."""
    parts = []
    step = Strategy.training_step

    def training_step(self, batch, index):
        total = step(self, batch, index)
        parts.append((index, sorted(self._step.loss.parts)))
        return total

    monkeypatch.setattr(Strategy, "training_step", training_step)
    run = kdlab.train([*SHORT, "trainer.max_epochs=2"])
    assert parts == [(index, ["ce"] if index == 0 else ["ce", "kd"]) for index in range(7)] * 2
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    assert all(name.startswith("student.") for name in state)


def test_features_of_the_last_batch_teach(workplace):
    run = kdlab.train(
        [
            *SHORT,
            "trainer.max_epochs=1",
            "loss=[ce,hint]",
            "loss.hint.student_tap=stage1",
            "loss.hint.teacher_tap=stage1",
        ]
    )
    assert 0 < run.metrics["train/loss_hint"] < 10


@pytest.mark.parametrize(
    "extra, message",
    [
        (["loss=[ce,multi_level]"], "loss.multi_level: it compares two views"),
        (["teacher=trained"], "the student is its own teacher"),
    ],
)
def test_what_does_not_fit_is_refused(workplace, extra, message):
    with pytest.raises(InputError, match=message):
        kdlab.train([*SHORT, *extra])
