import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from kdlab.config.build import build
from kdlab.config.paths import conf_dir
from kdlab.models import (
    CNN,
    MLP,
    VGG,
    BottleneckResNet,
    CifarResNet,
    MobileNetV2,
    ShuffleNetV1,
    ShuffleNetV2,
    WideResNet,
)
from kdlab.models.shufflenet_v1 import shuffle
from kdlab.models.taps import Taps

NARROW, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    "depth, widths, expected",
    [
        # RepDistiller's networks with 100 classes
        (20, NARROW, 278324),
        (32, NARROW, 472756),
        (56, NARROW, 861620),
        (110, NARROW, 1736564),
        (8, WIDE, 1233540),
        (32, WIDE, 7433860),
    ],
)
def test_parameters_of_the_cifar_resnets(depth, widths, expected):
    with torch.device("meta"):
        assert count(CifarResNet(100, depth, widths)) == expected


@pytest.mark.parametrize(
    "make, expected",
    [
        # the networks of the CRD benchmark with 100 classes
        (lambda: WideResNet(100, 16, 1), 180916),
        (lambda: WideResNet(100, 16, 2), 703284),
        (lambda: WideResNet(100, 40, 1), 569780),
        (lambda: WideResNet(100, 40, 2), 2255156),
        (lambda: VGG(100, 8), 3965028),
        (lambda: VGG(100, 11), 9277284),
        (lambda: VGG(100, 13), 9462180),
        (lambda: VGG(100, 16), 14774436),
        (lambda: VGG(100, 19), 20086692),
        (lambda: MobileNetV2(100), 812836),
        (lambda: MobileNetV2(100, width=1), 2353060),
        (lambda: ShuffleNetV1(100), 949258),
        (lambda: ShuffleNetV2(100), 1355528),
        (lambda: BottleneckResNet(100), 23705252),
        (lambda: BottleneckResNet(100, 101), 42697380),
        (lambda: BottleneckResNet(100, 152), 58341028),
    ],
)
def test_parameters_of_the_benchmarks_networks(make, expected):
    with torch.device("meta"):
        assert count(make()) == expected


@pytest.mark.parametrize(
    "name, expected",
    [
        ("wrn_16_1", 180916),
        ("wrn_16_2", 703284),
        ("wrn_40_1", 569780),
        ("wrn_40_2", 2255156),
        ("vgg8", 3965028),
        ("vgg11", 9277284),
        ("vgg13", 9462180),
        ("vgg16", 14774436),
        ("vgg19", 20086692),
        ("mobilenet_v2", 812836),
        ("shufflenet_v1", 949258),
        ("shufflenet_v2", 1355528),
        ("resnet50", 23705252),
    ],
)
def test_a_config_gives_the_network_of_its_name_for_colour_and_for_grey(name, expected):
    config = OmegaConf.create(
        {
            "data": {"classes": 100, "shape": [3, 32, 32]},
            "student": OmegaConf.load(conf_dir() / "student" / f"{name}.yaml"),
        }
    )
    with torch.device("meta"):
        assert count(build(OmegaConf.to_container(config, resolve=True)["student"], "student")) == expected
        config.data.shape = [1, 28, 28]
        grey = build(OmegaConf.to_container(config, resolve=True)["student"], "student").eval()
        assert grey(torch.zeros(2, 1, 28, 28)).shape == (2, 100)


def test_the_depth_of_a_wide_resnet_counts_the_convolutions_of_its_shortcuts():
    for depth in (16, 40):
        with torch.device("meta"):
            modules = list(WideResNet(10, depth, 2).modules())
        # 6n convolutions in the blocks, the stem, and the three of the shortcuts: the paper's depth is 6n + 4
        assert sum(isinstance(module, nn.Conv2d) for module in modules) == depth


@pytest.mark.parametrize("depth", [8, 11, 13, 16, 19])
def test_the_depth_of_a_vgg_counts_three_linear_layers(depth):
    with torch.device("meta"):
        assert sum(isinstance(module, nn.Conv2d) for module in VGG(10, depth).modules()) + 3 == depth


def test_the_depth_counts_convolutions_and_the_classifier():
    for depth in (8, 20, 44):
        with torch.device("meta"):
            modules = list(CifarResNet(10, depth).modules())
        # the 1 x 1 convolutions of the shortcuts are not counted
        layers = [
            m for m in modules if isinstance(m, nn.Linear) or isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
        ]
        assert len(layers) == depth


def test_parameters_of_the_small_networks():
    assert count(MLP(3, (1, 2, 2), hidden=(5, 6))) == (4 * 5 + 5) + (5 * 6 + 6) + (6 * 3 + 3)
    assert count(CNN(3, (1, 8, 8), widths=(4, 6))) == (9 * 1 * 4 + 8) + (9 * 4 * 6 + 12) + (6 * 3 + 3)


ZOO = [
    (lambda: MLP(7, (3, 8, 8), hidden=(9, 5), dropout=0.5), (3, 8, 8), [(9,), (5,)], (5,)),
    (lambda: CNN(7, (3, 8, 8), widths=(4, 6, 8), dropout=0.5), (3, 8, 8), [(4, 8, 8), (6, 4, 4), (8, 2, 2)], (8,)),
    (lambda: CifarResNet(7, 8, (4, 4, 6, 8)), (3, 32, 32), [(4, 32, 32), (6, 16, 16), (8, 8, 8)], (8,)),
    (lambda: CifarResNet(7, 14, (4, 6, 8, 10), channels=1), (1, 28, 28), [(6, 28, 28), (8, 14, 14), (10, 7, 7)], (10,)),
    (lambda: WideResNet(7, 10, 2, dropout=0.3), (3, 32, 32), [(32, 32, 32), (64, 16, 16), (128, 8, 8)], (128,)),
    (lambda: WideResNet(7, 16, 1, channels=1), (1, 28, 28), [(16, 28, 28), (32, 14, 14), (64, 7, 7)], (64,)),
    (lambda: VGG(7, 8), (3, 32, 32), [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)], (512,)),
    (
        lambda: VGG(7, 11, channels=1),
        (1, 28, 28),
        [(64, 28, 28), (128, 14, 14), (256, 7, 7), (512, 3, 3), (512, 3, 3)],
        (512,),
    ),
    (lambda: MobileNetV2(7), (3, 32, 32), [(12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)], (1280,)),
    (
        lambda: MobileNetV2(7, expansion=2, channels=1),
        (1, 28, 28),
        [(12, 14, 14), (16, 7, 7), (48, 4, 4), (160, 2, 2)],
        (1280,),
    ),
    (lambda: ShuffleNetV1(7), (3, 32, 32), [(240, 16, 16), (480, 8, 8), (960, 4, 4)], (960,)),
    (lambda: ShuffleNetV1(7, groups=2, channels=1), (1, 28, 28), [(200, 14, 14), (400, 7, 7), (800, 4, 4)], (800,)),
    (lambda: ShuffleNetV2(7), (3, 32, 32), [(116, 16, 16), (232, 8, 8), (464, 4, 4)], (1024,)),
    (lambda: ShuffleNetV2(7, size=0.5, channels=1), (1, 28, 28), [(48, 14, 14), (96, 7, 7), (192, 4, 4)], (1024,)),
    (lambda: BottleneckResNet(7), (3, 32, 32), [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)], (2048,)),
    (
        lambda: BottleneckResNet(7, channels=1),
        (1, 28, 28),
        [(256, 28, 28), (512, 14, 14), (1024, 7, 7), (2048, 4, 4)],
        (2048,),
    ),
]
#: their stages end in a sum or a linear layer
WITHOUT_RELU = (WideResNet, MobileNetV2)


@pytest.mark.parametrize("make, shape, stages, embedding", ZOO)
def test_every_network_of_the_zoo_has_its_stages_and_its_embedding_as_taps(make, shape, stages, embedding):
    torch.manual_seed(0)
    network = make().eval()
    names = [f"stage{number}" for number in range(1, len(stages) + 1)]
    with Taps(network, [*names, "embedding"]) as features:
        logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert [tuple(features[name].shape[1:]) for name in names] == stages
    behind_relu = all(features[name].min() >= 0 for name in names)
    assert behind_relu != isinstance(network, WITHOUT_RELU), "a stage is tapped behind its ReLU where it has one"
    assert features["embedding"].shape[1:] == embedding
    assert torch.equal(network.classifier(features["embedding"]), logits)


@pytest.mark.slow
@pytest.mark.parametrize("make, shape, stages, embedding", ZOO)
def test_every_parameter_learns(make, shape, stages, embedding):
    torch.manual_seed(0)
    network = make()
    network(torch.randn(16, *shape)).square().sum().backward()
    assert [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or parameter.grad.abs().sum() == 0
    ] == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


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


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: CifarResNet(10, 21), "6n"),
        (lambda: CifarResNet(10, 2), "6n"),
        (lambda: CifarResNet(10, 20, widths=(16, 32, 64)), "widths"),
        (lambda: WideResNet(10, 20), "depth must be 6n"),
        (lambda: WideResNet(10, 4), "depth must be 6n"),
        (lambda: WideResNet(10, 16, 0), "width"),
        (lambda: WideResNet(10, 16, 1.5), "width"),
        (lambda: VGG(10, 9), "depth must be one of 8, 11, 13, 16, 19, got 9"),
        (lambda: MobileNetV2(10, width=0.05), "width"),
        (lambda: MobileNetV2(10, expansion=0), "expansion"),
        (lambda: ShuffleNetV1(10, groups=4), "groups must be one of 1, 2, 3, got 4"),
        (lambda: ShuffleNetV2(10, size=3), "size must be one of 0.5, 1, 1.5, 2, got 3"),
        (lambda: BottleneckResNet(10, 18), "depth must be one of 50, 101, 152, got 18"),
        (lambda: MLP(10, (4,), hidden=()), "hidden"),
        (lambda: CNN(10, (1, 8, 8), widths=()), "widths"),
        (lambda: CNN(10, (1, 2, 8), widths=(4, 4, 4)), r"\(1, 2, 8\)"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_smallest_input_of_a_cnn():
    assert CNN(10, (1, 4, 4), widths=(4, 4, 4)).eval()(torch.ones(1, 1, 4, 4)).shape == (1, 10)


def test_a_shuffle_brings_every_group_into_every_group():
    x = torch.arange(12.0).view(1, 12, 1, 1)
    shuffled = shuffle(x, 3).flatten().tolist()
    assert shuffled == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert torch.equal(shuffle(shuffle(x, 3), 4), x)


def test_half_of_the_channels_pass_a_block_of_shufflenet_v2_as_they_are():
    block, x = ShuffleNetV2(3, size=0.5).stage1[1].eval(), torch.randn(2, 48, 4, 4)
    assert torch.equal(block(x)[:, ::2], x[:, :24])


def test_the_shortcut_of_a_wide_block_carries_the_input_or_its_activation():
    first, second = (block.eval() for block in WideResNet(3, 16, 2).stage1)
    for block in (first, second):
        nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(first(x), first.shortcut(first.bn1(x).relu()))
    y = torch.randn(2, 32, 4, 4)
    assert torch.equal(second(y), y)


def test_dropout_of_a_wide_resnet_lies_between_its_convolutions():
    torch.manual_seed(0)
    network, x = WideResNet(3, 10, 1, dropout=0.5), torch.randn(4, 3, 8, 8)
    with Taps(network, ["stage1.0.dropout", "stage1.0.bn2"]) as features:
        network(x)
    alive = features["stage1.0.bn2"].relu() > 0
    assert 0.3 < (features["stage1.0.dropout"][alive] == 0).float().mean() < 0.7
    assert torch.equal(network.eval()(x), network(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: WideResNet(3, 10, 1),
        lambda: VGG(3, 8),
        lambda: MobileNetV2(3),
        lambda: ShuffleNetV1(3),
        lambda: ShuffleNetV2(3, size=0.5),
        lambda: BottleneckResNet(3),
    ],
)
def test_the_benchmarks_networks_read_the_digits_of_8_by_8(make):
    network = make()
    assert network(torch.randn(4, 3, 8, 8)).isfinite().all()
