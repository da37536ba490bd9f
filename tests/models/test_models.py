import pytest
import torch
from torch import nn

from kdlab.models import CNN, MLP, CifarResNet
from kdlab.models.taps import Taps

NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("depth, widths, expected", [
    # RepDistiller's networks with 100 classes
    (20, NARROW, 278324), (32, NARROW, 472756), (56, NARROW, 861620), (110, NARROW, 1736564), (8, WIDE, 1233540), (32, WIDE, 7433860),
])
def test_parameters_of_the_cifar_resnets(depth, widths, expected):
    with torch.device("meta"):
        assert count(CifarResNet(100, depth, widths)) == expected


def test_the_depth_counts_convolutions_and_the_classifier():
    for depth in (8, 20, 44):
        with torch.device("meta"):
            modules = list(CifarResNet(10, depth).modules())
        # the 1 x 1 convolutions of the shortcuts are not counted
        layers = [m for m in modules if isinstance(m, nn.Linear) or isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        assert len(layers) == depth


def test_parameters_of_the_small_networks():
    assert count(MLP(3, (1, 2, 2), hidden=(5, 6))) == (4 * 5 + 5) + (5 * 6 + 6) + (6 * 3 + 3)
    assert count(CNN(3, (1, 8, 8), widths=(4, 6))) == (9 * 1 * 4 + 8) + (9 * 4 * 6 + 12) + (6 * 3 + 3)


ZOO = [
    (lambda: MLP(7, (3, 8, 8), hidden=(9, 5), dropout=0.5), (3, 8, 8), [(9,), (5,)], (5,)),
    (lambda: CNN(7, (3, 8, 8), widths=(4, 6, 8), dropout=0.5), (3, 8, 8), [(4, 8, 8), (6, 4, 4), (8, 2, 2)], (8,)),
    (lambda: CifarResNet(7, 8, (4, 4, 6, 8)), (3, 32, 32), [(4, 32, 32), (6, 16, 16), (8, 8, 8)], (8,)),
    (lambda: CifarResNet(7, 14, (4, 6, 8, 10), channels=1), (1, 28, 28), [(6, 28, 28), (8, 14, 14), (10, 7, 7)], (10,)),
]


@pytest.mark.parametrize("make, shape, stages, embedding", ZOO)
def test_every_network_of_the_zoo_has_its_stages_and_its_embedding_as_taps(make, shape, stages, embedding):
    torch.manual_seed(0)
    network = make().eval()
    names = [f"stage{number}" for number in range(1, len(stages) + 1)]
    with Taps(network, [*names, "embedding"]) as features:
        logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert [tuple(features[name].shape[1:]) for name in names] == stages
    assert all(features[name].min() >= 0 for name in names), "a stage is tapped behind its ReLU"
    assert features["embedding"].shape[1:] == embedding
    assert torch.equal(network.classifier(features["embedding"]), logits)


@pytest.mark.parametrize("make, shape, stages, embedding", ZOO)
def test_every_parameter_learns(make, shape, stages, embedding):
    torch.manual_seed(0)
    network = make()
    network(torch.randn(16, *shape)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None or parameter.grad.abs().sum() == 0] == []


def test_the_tap_of_a_pooled_map_is_its_mean():
    network = CifarResNet(3, 8, (4, 4, 6, 8)).eval()
    with Taps(network, ["stage3", "embedding"]) as features:
        network(torch.randn(2, 3, 16, 16))
    assert torch.allclose(features["embedding"], features["stage3"].mean((2, 3)), atol=1e-6)


def test_dropout_lies_between_the_last_stage_and_the_embedding():
    torch.manual_seed(0)
    network = MLP(3, (50,), hidden=(200,), dropout=0.5)
    with Taps(network, ["stage1", "embedding"]) as features:
        network(torch.randn(4, 50))
    dropped = (features["embedding"] == 0) & (features["stage1"] > 0)
    alive = features["stage1"] > 0
    assert 0.3 < dropped.sum() / alive.sum() < 0.7
    kept = alive & ~dropped
    assert torch.equal(features["embedding"][kept], 2 * features["stage1"][kept])


def test_input_dropout_drops_inputs():
    torch.manual_seed(0)
    network = MLP(3, (1000,), hidden=(1,), input_dropout=0.25)
    with Taps(network, ["input_dropout"]) as features:
        network(torch.ones(1, 10, 100))
    assert (features["input_dropout"] == 0).float().mean().item() == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("make, words", [
    (lambda: CifarResNet(10, 21), "6n"),
    (lambda: CifarResNet(10, 2), "6n"),
    (lambda: CifarResNet(10, 20, widths=(16, 32, 64)), "widths"),
    (lambda: MLP(10, (4,), hidden=()), "hidden"),
    (lambda: CNN(10, (1, 8, 8), widths=()), "widths"),
    (lambda: CNN(10, (1, 2, 8), widths=(4, 4, 4)), r"\(1, 2, 8\)"),
])
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_smallest_input_of_a_cnn():
    assert CNN(10, (1, 4, 4), widths=(4, 4, 4)).eval()(torch.ones(1, 1, 4, 4)).shape == (1, 10)
