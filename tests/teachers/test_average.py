"""Copies that follow a network."""

import copy

import pytest
import torch
from torch import nn

from kdlab.teachers.average import Average, Copy


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_weights_and_statistics_are_averaged_and_counts_copied():
    """At step t the decay is at most 1 - 1 / (t + 1): the plain mean of all weights so far, until it reaches its
    value."""
    net = network()
    average = Average(net, decay=0.6)
    seen = [copy.deepcopy(net.state_dict())]
    for step in range(3):
        net(torch.randn(5, 3))
        with torch.no_grad():
            net[0].weight += step + 1
        average.follow(net)
        seen.append(copy.deepcopy(net.state_dict()))
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        first_two = (seen[0][name] + seen[1][name]) / 2
        expected = 0.6 * (0.6 * first_two + 0.4 * seen[2][name]) + 0.4 * seen[3][name]
        torch.testing.assert_close(average.network.state_dict()[name], expected)
    assert average.network[1].num_batches_tracked == 3 and average.steps == 3


def test_the_second_step_is_the_mean_of_three():
    net = nn.Linear(1, 1, bias=False)
    average = Average(net, decay=0.99)
    weights = [net.weight.item()]
    for weight in (5.0, -1.0):
        nn.init.constant_(net.weight, weight)
        average.follow(net)
        weights.append(weight)
    assert average.network.weight.item() == pytest.approx(sum(weights) / 3)


def test_a_decay_of_one_or_zero():
    net = network()
    still, following = Average(net, 1.0), Average(net, 0.0)
    for average in (still, following):
        average.steps += 10**6
    before = net[0].weight.clone()
    nn.init.ones_(net[0].weight)
    still.follow(net)
    following.follow(net)
    torch.testing.assert_close(
        still.network[0].weight, (10**6 + 1) / (10**6 + 2) * before + net[0].weight / (10**6 + 2)
    )
    assert torch.equal(following.network[0].weight, net[0].weight)
    with pytest.raises(ValueError, match="decay must be between 0 and 1, got 1.5"):
        Average(net, 1.5)


def test_it_is_always_in_evaluation_mode_and_has_no_gradients():
    copied = Copy(network())
    nn.Sequential(copied).train()
    assert not any(module.training for module in copied.modules()) and not any(
        value.requires_grad for value in copied.parameters()
    )


def test_half_precision_does_not_stop_an_average():
    """A step of 1/100 of the difference is below the precision of bfloat16."""
    net = nn.Linear(4, 2, bias=False)
    nn.init.ones_(net.weight)
    average = Average(net, 0.99)
    average.steps += 1000
    both = nn.ModuleList([net, average]).to(torch.bfloat16)
    nn.init.constant_(net.weight, 1.125)
    for _ in range(3):
        average.follow(net)
    assert both[0].weight.dtype == torch.bfloat16 and average.network.weight.dtype == torch.float32
    assert average.network.weight[0, 0].item() == pytest.approx(1 + 0.125 * (1 - 0.99**3), abs=1e-6)
    assert average.network(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.float32
    assert average.double().network.weight.dtype == torch.float64


def test_to_take_is_to_become_equal():
    net = network()
    copied = Copy(net)
    net(torch.randn(5, 3))
    nn.init.ones_(net[0].weight)
    assert not torch.equal(copied.network[0].weight, net[0].weight)
    copied.take(net)
    assert all(torch.equal(value, copied.network.state_dict()[name]) for name, value in net.state_dict().items())


def test_weights_with_two_names_move_once():
    """As embeddings and head of a language model."""
    network = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 3, bias=False))
    network[1].weight = network[0].weight
    average = Average(network, decay=0.5)
    before = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight += 1.0
    average.follow(network)
    assert torch.allclose(average.network[0].weight, before + 0.5)
    assert average.network[0].weight is average.network[1].weight
