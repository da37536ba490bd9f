"""A network that works on its inputs in place changes them for no other."""

import pytest
import torch
from torch import nn

import kdlab
from kdlab.errors import InputError
from kdlab.models.calling import call
from kdlab.runs.curve import MetricsFile


class Shifted(nn.Module):
    """Shifts its inputs in place, or not; always, in training alone, or from a pass on."""

    def __init__(self, inplace=True, training=False, late=False):
        super().__init__()
        self.inplace, self.only_training, self.late, self.linear = inplace, training, late, nn.Linear(4, 3)

    def forward(self, x):
        if self.inplace and not self.late and (self.training or not self.only_training):
            x -= 5
        else:
            x = x - 5
        return self.linear(x)


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("only_training", [True, False])
def test_the_inputs_stay_as_they_are(inplace, only_training):
    network = Shifted(inplace, only_training)
    for training in (False, True, True, False):
        for enabled in (False, True):
            x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
            before = x.clone()
            with torch.set_grad_enabled(enabled):
                answer = call(network.train(training), x)
            assert torch.equal(x, before) and torch.equal(answer, network.linear(before - 5))


def test_a_network_that_leaves_them_alone_gets_them_themselves():
    seen = []
    network = nn.Linear(4, 3)
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.ones(2, 4)
    for _ in range(3):
        call(network, x)
    assert [one is x for one in seen] == [False, True, True]


def test_under_inference_mode():
    network = Shifted()
    with torch.inference_mode():
        for _ in range(2):
            x = torch.zeros(2, 4)
            assert torch.equal(call(network, x), network.linear(torch.full((2, 4), -5.0))) and not x.any()


def test_what_begins_later_is_refused():
    network = Shifted(late=True)
    call(network, torch.zeros(2, 4))
    network.late = False
    with pytest.raises(InputError, match="Shifted changed its inputs in place, and did not in its first pass"):
        call(network, torch.zeros(2, 4))
    x = torch.zeros(2, 4)
    call(network, x)
    assert not x.any()


def test_the_teacher_sees_what_the_student_saw(workplace, taught):
    """A run with a student that shifts its inputs in place."""
    curves = []
    for inplace in ("true", "false"):
        run = kdlab.train(
            [
                "student=network",
                "student._target_=tests.strategies.networks.Shifting",
                f"+student.inplace={inplace}",
                "teacher=run",
                f"teacher.run={taught.path}",
                "data.fraction=0.1",
                "trainer.max_epochs=2",
                "progress=none",
                "trainer.accelerator=cpu",
            ]
        )
        curves.append(MetricsFile(run.metrics_file).load().rows)
    for one, other in zip(*curves, strict=True):
        assert one["train/loss_kd"] == pytest.approx(other["train/loss_kd"], rel=1e-5) and one[
            "val/nll"
        ] == pytest.approx(other["val/nll"], rel=1e-5)


class Added(nn.Module):
    """Adds two inputs; in place if told so."""

    def __init__(self, in_place: bool = False):
        super().__init__()
        self.in_place, self.seen = in_place, []

    def forward(self, first, second, scale=1.0):
        self.seen.append((first, second))
        return scale * (first.add_(second) if self.in_place else first + second)


def test_a_mapping_is_given_by_name():
    x = {"first": torch.ones(2), "second": torch.full((2,), 2.0), "scale": 2.0}
    network = Added()
    for _ in range(2):
        assert call(network, x).tolist() == [6.0, 6.0]
    assert [one is x["first"] for one, _ in network.seen] == [False, True]


def test_a_mapping_that_is_changed_stays_as_it_was():
    x = {"first": torch.ones(2), "second": torch.full((2,), 2.0)}
    network = Added(in_place=True)
    for _ in range(3):
        assert call(network, x).tolist() == [3.0, 3.0]
    assert x["first"].tolist() == [1.0, 1.0]
