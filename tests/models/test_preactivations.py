import pytest
import torch
from torch import nn

from kdlab.models import CNN, MLP, VGG, BottleneckResNet, CifarResNet, ShuffleNetV1, WideResNet
from kdlab.models.norms import preceding_batch_norm
from kdlab.models.taps import Taps

NETWORKS = {
    "cnn": (lambda: CNN(10, (3, 16, 16), (4, 6, 8)), 3),
    "mlp": (lambda: MLP(10, (3, 16, 16), (5, 7)), 2),
    "resnet": (lambda: CifarResNet(10, 14), 3),
    "vgg": (lambda: VGG(10, 13), 5),
    "bottlenecks": (lambda: BottleneckResNet(10, 50), 4),
    "shufflenet": (lambda: ShuffleNetV1(10), 3),
}


def seen(network, names):
    with torch.no_grad(), Taps(network.eval(), names) as features:
        network(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    return features


@pytest.mark.parametrize("name", NETWORKS)
def test_a_preactivation_is_what_the_last_relu_of_its_stage_makes_the_stage_of(name):
    make, stages = NETWORKS[name]
    network = make()
    assert [tap for tap in network.taps if tap.startswith("preact")] == [f"preact{n}" for n in range(1, stages + 1)]
    features = seen(network, [f"{kind}{n}" for kind in ("preact", "stage") for n in range(1, stages + 1)])
    for number in range(1, stages + 1):
        assert features[f"preact{number}"].min() < 0
        assert torch.equal(features[f"preact{number}"].relu(), features[f"stage{number}"])


def test_the_preactivation_of_a_wide_resnet_goes_into_the_relu_that_opens_what_follows():
    network = WideResNet(10, 16, 2)
    features = seen(
        network,
        [
            "preact1",
            "preact2",
            "preact3",
            "stage1",
            "stage2",
            "stage3",
            "activation",
            "stage2.0.conv1.input",
            "stage3.0.conv1.input",
        ],
    )
    assert torch.equal(features["preact1"].relu(), features["stage2.0.conv1.input"])
    assert torch.equal(features["preact2"].relu(), features["stage3.0.conv1.input"])
    assert torch.equal(features["preact3"].relu(), features["activation"])
    assert torch.equal(network.stage3[0].bn1(features["stage2"]), features["preact2"])


@pytest.mark.parametrize(
    "name, paths",
    [
        ("cnn", ["stage1.1", "stage2.1", "stage3.1"]),
        ("resnet", ["stage1.1.bn2", "stage2.1.bn2", "stage3.1.bn2"]),
        ("vgg", ["stage1.4", "stage2.4", "stage3.4", "stage4.4", "stage5.4"]),
        ("bottlenecks", ["stage1.2.bn3", "stage2.3.bn3", "stage3.5.bn3", "stage4.2.bn3"]),
        ("shufflenet", ["stage1.3.bn3", "stage2.7.bn3", "stage3.3.bn3"]),
    ],
)
def test_the_batch_norm_of_a_preactivation(name, paths):
    network = NETWORKS[name][0]()
    assert [preceding_batch_norm(network, f"preact{n}") for n in range(1, len(paths) + 1)] == [
        network.get_submodule(path) for path in paths
    ]


def test_the_batch_norm_of_a_wide_resnet_and_by_an_alias():
    network = WideResNet(10, 16)
    assert (
        preceding_batch_norm(network, "preact1") is network.stage2[0].bn1
        and preceding_batch_norm(network, "preact3") is network.activation[0]
    )
    assert preceding_batch_norm(network, "mine", {"mine": "activation.1.input"}) is network.activation[0]


@pytest.mark.parametrize(
    "make, tap",
    [
        (lambda: MLP(10, (8,), (4,)), "preact1"),
        (lambda: CNN(10, (1, 8, 8)), "stage1"),
        (lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.ReLU()), "2.input"),
        (lambda: nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.ReLU()), "1.input"),
    ],
)
def test_where_there_is_no_batch_norm_it_is_said(make, tap):
    with pytest.raises(ValueError, match=f"{tap}.*teacher_norms"):
        preceding_batch_norm(make(), tap)
