import pytest
import torch
from torch import nn

from kdlab.models import MLP
from kdlab.models.writes import Writes


def drawn(make):
    with Writes() as writes:
        network = make()
    return writes.drawn(network)


def test_a_fresh_network_is_drawn_and_the_same_as_without():
    torch.manual_seed(3)
    with Writes() as writes:
        network = MLP(10, [1, 8, 8], [4])
    torch.manual_seed(3)
    assert all(
        torch.equal(value, other) for value, other in zip(network.parameters(), MLP(10, [1, 8, 8], [4]).parameters())
    )
    assert {"stage1.linear.weight", "classifier.weight"} <= set(writes.drawn(network))


@pytest.mark.parametrize(
    "initialise",
    [
        lambda w: nn.init.normal_(w, std=0.1),
        nn.init.kaiming_normal_,
        nn.init.xavier_uniform_,
        lambda w: nn.init.trunc_normal_(w, std=0.02),
        lambda w: w.data.uniform_(-1, 1),
        lambda w: w.data.normal_().mul_(0.1).clamp_(-1, 1),
    ],
)
def test_every_way_of_drawing(initialise):
    def make():
        layer = nn.Linear(4, 3)
        nn.init.constant_(layer.weight, 1.0)
        assert initialise(layer.weight) is not None
        return layer

    assert "weight" in drawn(make)


class Trained(nn.Linear):
    def __init__(self, fill):
        super().__init__(4, 3)
        fill(self)


def _step(layer):
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2, 4)).sum().backward()
    optimizer.step()


ONES = {"weight": torch.ones(3, 4), "bias": torch.ones(3)}


@pytest.mark.parametrize(
    "fill",
    [
        lambda layer: layer.load_state_dict(ONES),
        lambda layer: layer.load_state_dict(ONES, assign=True),
        _step,
        lambda layer: [value.data.copy_(ONES[name]) for name, value in layer.named_parameters()],
        lambda layer: [setattr(value, "data", ONES[name]) for name, value in layer.named_parameters()],
        lambda layer: [setattr(layer, name, nn.Parameter(value)) for name, value in ONES.items()],
        lambda layer: [value.data.zero_() for value in layer.parameters()],
    ],
)
def test_what_is_loaded_or_trained_is_not_drawn(fill):
    assert drawn(lambda: Trained(fill)) == []


def test_a_head_that_is_put_on_afterwards_is_drawn():
    def make():
        network = nn.Sequential(Trained(lambda layer: layer.load_state_dict(ONES)), nn.Linear(3, 1000))
        network[1].load_state_dict({"weight": torch.ones(1000, 3), "bias": torch.ones(1000)})
        network[1] = nn.Linear(3, 4)
        return network

    assert drawn(make) == ["1.weight", "1.bias"]


def test_zeros_in_one_row_leave_the_others_drawn():
    assert drawn(lambda: nn.Embedding(5, 3, padding_idx=0)) == ["weight"]


def test_what_nothing_was_copied_into():
    with Writes() as writes:
        network = nn.BatchNorm1d(2)
        network.load_state_dict({"weight": torch.ones(2)}, strict=False)
    assert writes.not_copied(network) == ["bias", "running_mean", "running_var"]
