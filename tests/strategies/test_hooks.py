"""A strategy from outside the package: one class with one method, and the four hooks."""

import sys

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.strategies import Offline, Step, Strategy

SMALL = ["trainer.max_epochs=2", "progress=none", "+trainer.limit_train_batches=6"]


class TwoViews(Strategy):
    """Learns one view from another; counts its steps in a buffer; sees the largest labels first; adds a scale to the
    student's head."""

    views = 2
    orders: list = []
    seen: list = []

    def __init__(self, *, forbidden: bool = False, **base):
        super().__init__(**base)
        self.forbidden = forbidden
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def attach(self, probe):
        self.scale = torch.nn.Parameter(torch.ones(probe.classes))

    def sampler(self, target, rows):
        def order(epoch):
            type(self).orders.append(epoch)
            return rows[target[rows].argsort(descending=True, stable=True)]

        return order

    def distill(self, batch):
        type(self).seen.append(batch)
        student, other = self.observe(batch), self.observe(batch, view=1)
        student = student.replace(answer=student.logits * self.scale)
        return Step(self.compare(student, other.detach(), batch), {"student": student})

    def after_step(self, step, batch):
        self.steps += 1

    def validate_combination(self):
        return ["forbidden=true is forbidden"] if self.forbidden else []


@pytest.fixture
def outside(workplace, monkeypatch):
    """The class under a name that a config can give."""
    module = type(sys)("my_strategies")
    module.TwoViews = TwoViews
    TwoViews.__module__ = "my_strategies"
    monkeypatch.setitem(sys.modules, "my_strategies", module)
    TwoViews.orders, TwoViews.seen = [], []
    return ["strategy._target_=my_strategies.TwoViews", "teacher=none", "data.augment.crop_padding=1", *SMALL]


def test_a_strategy_with_every_hook(outside):
    run = kdlab.train(outside)
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    assert state["steps"] == 12, "after_step's state is in the checkpoint"
    assert not torch.equal(state["scale"], torch.ones(10)), "what attach adds is optimised and saved"
    assert TwoViews.orders == [0, 1]
    first = TwoViews.seen[1]  # before it came the probe
    assert first.target.tolist() == [9] * 32, "the sampler's order is used"
    assert not torch.equal(first.inputs, first.further_views[0]) and (first.split, first.epoch) == ("train", 0)
    assert TwoViews.seen[7].epoch == 1
    rows = run.metrics_file.read_text()
    assert "train/loss_kd" in rows


def test_a_forbidden_combination_is_refused(outside, workplace):
    with pytest.raises(InputError, match="forbidden=true is forbidden"):
        kdlab.train([*outside, "+strategy.forbidden=true"])
    assert not (workplace / "runs").exists()


def test_a_misspelled_argument_of_it_is_found(outside):
    with pytest.raises(InputError, match="did you mean 'forbidden'"):
        kdlab.train([*outside, "+strategy.forbiden=true"])


def test_the_base_asks_for_its_one_method(taught):
    with pytest.raises(NotImplementedError, match="must define distill"):
        Strategy.distill(Offline.__new__(Offline), None)
