"""A tap holds what the module answered, whatever is done to that tensor in place afterwards."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kdlab
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.models.reused import ReusedClassifier
from kdlab.models.taps import Taps
from kdlab.runs.curve import MetricsFile
from kdlab.tasks import Classification
from kdlab.teachers import Frozen
from tests.strategies.networks import PlainNet

PLACES = [
    "conv1",
    "bn1",
    "relu1",
    "relu1.input",
    "bn2",
    "relu2",
    "relu2.input",
    "bn3",
    "drop",
    "drop.input",
    "fc.input",
    "fc",
]


def twins():
    """The same network twice: with and without operations in place."""
    torch.manual_seed(0)
    one = PlainNet(inplace=True)
    other = PlainNet(inplace=False)
    other.load_state_dict(one.state_dict())
    return one, other


def inputs(seed=0, channels=1):
    return torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def passed(network, taps, x, seed=0):
    torch.manual_seed(seed)  # of the dropout
    with taps as features:
        answer = network(x)
    return answer, features


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_in_place_or_not_is_the_same_feature_and_the_same_gradient(place, training):
    """In the first pass, and in those after it."""
    found = []
    for network in twins():
        network.train(training)
        taps = Taps(network, [place])
        for seed in range(3):
            answer, features = passed(network, taps, inputs(seed), seed)
            found.append(features[place].detach())
            (answer.square().mean() + (features[place] - 1).pow(2).mean()).backward()
        found.append(
            torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])
        )
    for mine, theirs in zip(found[:4], found[4:], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    if place in ("bn1", "bn2", "relu2.input"):
        assert found[0].min() < -0.1


@pytest.mark.parametrize("place", PLACES)
def test_in_a_teacher(place):
    said = []
    for network in twins():
        teacher = Frozen(network, Classification(10))
        teacher.watch({place})
        for seed in range(2):
            said.append(
                teacher.teach(Batch(inputs(seed), torch.zeros(4, dtype=torch.long), torch.arange(4))).features[place]
            )
    assert torch.equal(said[0], said[2]) and torch.equal(said[1], said[3])


def test_the_order_of_the_modes_does_not_matter():
    """A dropout in place changes nothing in evaluation."""
    network, _ = twins()
    network.inplace = False
    taps = Taps(network, ["bn3"])
    network.eval()
    with torch.no_grad():
        _, features = passed(network, taps, inputs())
    network.train()
    torch.manual_seed(0)
    x = network.relu2(network.bn2(network.conv2(network.relu1(network.bn1(network.conv1(inputs()))))))
    expected = network.bn3(network.conv3(x)).detach()
    _, features = passed(network, taps, inputs())
    torch.testing.assert_close(features["bn3"].detach(), expected)


def test_where_nothing_works_in_place_nothing_is_cloned(monkeypatch):
    _, network = twins()
    own, cloned = {}, []
    for place in ("bn1", "relu2"):
        network.get_submodule(place).register_forward_hook(lambda module, x, y, place=place: own.__setitem__(place, y))
    taps = Taps(network, ["bn1", "relu2", "fc.input"])
    clone = torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, "clone", lambda self, **named: cloned.append(1) or clone(self, **named))
    for number in range(3):
        _, features = passed(network, taps, inputs(number))
        assert features["bn1"] is own["bn1"] and features["relu2"] is own["relu2"]
        assert len(cloned) == 3, "once a tap, in the first pass"
    network.eval()
    passed(network, taps, inputs())
    assert len(cloned) == 6


def test_only_what_is_changed_is_cloned():
    network, _ = twins()
    network.inplace = False
    own = {}
    for place in ("bn1", "conv1", "relu2"):
        network.get_submodule(place).register_forward_hook(lambda module, x, y, place=place: own.__setitem__(place, y))
    taps = Taps(network, ["bn1", "conv1", "relu2"])
    for number in range(2):
        _, features = passed(network, taps, inputs(number))
        assert (
            features["conv1"] is own["conv1"]
            and features["relu2"] is own["relu2"]
            and features["bn1"] is not own["bn1"]
        )


class Then(nn.Module):
    """A layer, and what is done with its answer."""

    def __init__(self, then, view=lambda y: y):
        super().__init__()
        self.layer, self.view = nn.Sequential(nn.Linear(3, 4), Called(view)), Called(lambda y: y)
        self.then = then

    def forward(self, x):
        y = self.layer(x)
        self.then(self, y)
        return y.sum(-1)


class Called(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


CHANGES = {
    "in-place function": lambda net, y: F.relu(y, inplace=True),
    "a view": lambda net, y: y.view(-1).mul_(3),
    "a slice": lambda net, y: y[:, 0].zero_(),
    "an index": lambda net, y: y.__setitem__((slice(None), 1), 7.0),
    "a transposed view": lambda net, y: y.t().add_(1),
    "detached": lambda net, y: y.detach().add_(1),
    "past the version counter": lambda net, y: y.data.add_(1),
    "in numpy": lambda net, y: y.detach().numpy().__iadd__(1),
    "in training alone": lambda net, y: y.add_(1) if net.training else None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_it(change):
    torch.manual_seed(0)
    network = Then(CHANGES[change]).train()
    taps = Taps(network, ["layer"])
    for seed in range(3):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        with taps as features:
            network(x)
        assert torch.equal(features["layer"], network.layer(x))
    features["layer"].sum().backward()
    assert torch.allclose(network.layer[0].weight.grad, x.sum(0).expand(4, 3))


def test_an_answer_that_is_a_view_of_what_changes():
    torch.manual_seed(0)
    network = Then(lambda net, y: y._base.add_(1), view=lambda y: y.view(2, -1))
    taps = Taps(network, ["layer"])
    for _ in range(2):
        with taps as features:
            network(torch.ones(2, 3))
        assert torch.equal(features["layer"], network.layer(torch.ones(2, 3)))


def test_what_is_changed_in_a_later_pass_alone_is_refused():
    network = Then(lambda net, y: y.add_(1) if net.late else None)
    network.late, taps = False, Taps(network, ["layer"])
    with taps as features:
        network(torch.ones(2, 3))
    network.late = True
    with pytest.raises(
        InputError, match="tap 'layer': Then changed this tensor in place, but not in its first pass.*inplace=False"
    ):
        with taps:
            network(torch.ones(2, 3))
    with taps as features:
        network(torch.ones(2, 3))
    assert torch.equal(features["layer"], network.layer(torch.ones(2, 3)))


def test_an_error_inside_the_block_is_passed_on():
    network = Then(lambda net, y: (y.add_(1), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        with Taps(network, ["layer"]):
            network(torch.ones(2, 3))


def test_of_a_module_that_is_called_twice_the_last_answer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x).relu_()).relu_()

    network = Twice()
    taps = Taps(network, ["layer", "layer.input"])
    for _ in range(2):
        with taps as features:
            network(torch.ones(2, 3))
        first = network.layer(torch.ones(2, 3)).relu()
        assert torch.equal(features["layer"], network.layer(first)) and torch.equal(features["layer.input"], first)


def test_under_inference_mode():
    """Where no tensor has a version counter."""
    network, other = (network.eval() for network in twins())
    taps = Taps(network, ["bn2", "relu2.input", "fc"])
    with torch.inference_mode():
        for _ in range(2):
            _, features = passed(network, taps, inputs())
            _, expected = passed(other, Taps(other, ["bn2", "relu2.input", "fc"]), inputs())
            assert all(torch.equal(features[name], expected[name]) for name in expected)


def test_in_bfloat16():
    network, other = twins()
    found = []
    for one in (network, other):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(passed(one, Taps(one, ["bn2"]), inputs())[1]["bn2"])
    assert found[0].min() < 0 and torch.equal(*found)


@pytest.mark.parametrize("shown", [True, False])
def test_compiled(shown):
    """With, and without, passes before the compilation."""
    network, other = twins()
    names = ["bn2", "relu2.input", "relu2", "fc"]
    taps, theirs = Taps(network, names), Taps(other, names)
    if shown:
        passed(network, taps, inputs())
        passed(other, theirs, inputs())
    torch._dynamo.reset()
    network.compile(backend="aot_eager")
    network.eval(), other.eval()
    for seed in range(2):
        answer, features = passed(network, taps, inputs(seed))
        expected, wanted = passed(other, theirs, inputs(seed))
        torch.testing.assert_close(answer, expected)
        for name in names:
            torch.testing.assert_close(features[name], wanted[name])
    (features["bn2"].square().sum() + answer.sum()).backward()
    (wanted["bn2"].square().sum() + expected.sum()).backward()
    torch.testing.assert_close(network.bn2.weight.grad, other.bn2.weight.grad)
    torch.testing.assert_close(network.conv1.weight.grad, other.conv1.weight.grad)


def test_copies_know_what_their_original_has_seen():
    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = PlainNet()
            self.taps = Taps(self.net, ["bn2"])

    owner = Owner()
    passed(owner.net, owner.taps, inputs())
    twin = copy.deepcopy(owner)
    nn.init.constant_(twin.net.bn2.bias, -9.0)
    _, features = passed(twin.net, twin.taps, inputs())
    assert features["bn2"].max() < 0


def test_the_network_that_simkd_deploys():
    network, other = (network.eval() for network in twins())
    heads = nn.Sequential(nn.Flatten(), nn.Linear(8 * 16, 10))
    deployed = [ReusedClassifier(one, "bn2", heads) for one in (network, other)]
    with torch.no_grad():
        assert torch.equal(*[one(inputs()) for one in deployed])


def reference(network, path, x):
    """What a module answers, cloned at that moment."""
    kept = []
    handle = network.get_submodule(path).register_forward_hook(lambda module, x, y: kept.append(y.clone()))
    network(x)
    handle.remove()
    return kept[-1]


@pytest.mark.parametrize(
    "library, name, paths",
    [
        (
            "torchvision",
            "resnet18",
            ["bn1", "layer1.0.bn1", "layer1.0.bn2", "layer2.0.downsample.1", "layer4.1.bn2", "layer4"],
        ),
        ("torchvision", "mobilenet_v2", ["features.1.conv.0.1", "features.18.1"]),
        ("torchvision", "densenet121", ["features.denseblock1.denselayer1.norm1", "features.pool0", "features.norm5"]),
        pytest.param("torchvision", "vgg11", ["features.0", "classifier.0"], marks=pytest.mark.slow),
        ("timm", "resnet10t", ["bn1", "layer1.0.bn2", "layer4.0.bn2"]),
        ("timm", "mobilenetv3_small_050", ["blocks.1.0.conv_pw", "blocks.1.0.bn1", "conv_head"]),
    ],
)
def test_networks_of_other_libraries(library, name, paths):
    if library == "torchvision":
        network = getattr(pytest.importorskip("torchvision.models"), name)(num_classes=4)
    else:
        network = pytest.importorskip("timm").create_model(name, num_classes=4)
    network.eval()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    taps = Taps(network, paths)
    with torch.no_grad():
        for _ in range(2):
            with taps as features:
                network(x)
            for path in paths:
                assert torch.equal(features[path], reference(network, path, x)), path


NETWORK = [
    "student=network",
    "student._target_=tests.strategies.networks.PlainNet",
    "+student.classes=10",
    "data.fraction=0.1",
    "trainer.max_epochs=2",
    "progress=none",
    "trainer.accelerator=cpu",
]
TEACHER = ["teacher=network", "teacher._target_=tests.models.test_taps_in_place.known"]
RUNS = {
    "hint": ["loss=[ce,hint]", "loss.hint.student_tap=bn2", "loss.hint.teacher_tap=bn2", *TEACHER],
    "ofd": [
        "loss=[ce,ofd]",
        "loss.ofd.student_taps=[bn2]",
        "loss.ofd.teacher_taps=[bn2]",
        "+loss.ofd.teacher_norms=[bn2]",
        *TEACHER,
    ],
    "ab": [
        "loss=[ce,ab]",
        "loss.ab.student_taps=[bn1,relu2.input]",
        "loss.ab.teacher_taps=[bn1,relu2.input]",
        *TEACHER,
    ],
    "residual": ["loss=[ce,hint]", "loss.hint.student_tap=bn3", "loss.hint.teacher_tap=drop", *TEACHER],
    "online": ["strategy=online", "loss=[ce,hint]", "loss.hint.student_tap=bn2", "loss.hint.teacher_tap=bn2"],
    "mean teacher": ["strategy=ema", "loss=[ce,hint]", "loss.hint.student_tap=bn2", "loss.hint.teacher_tap=bn2"],
    "one": ["strategy=one", "strategy.split=bn2"],
    "byot": ["strategy=byot", "strategy.exits=[bn1,bn2]", "strategy.feature=bn3"],
    "bf16": [
        "loss=[ce,hint]",
        "loss.hint.student_tap=bn2",
        "loss.hint.teacher_tap=bn2",
        "trainer.precision=bf16-mixed",
        *TEACHER,
    ],
}

QUICK = ("hint", "ofd", "one", "byot")


def known(inplace=False):
    """A teacher that is better than chance by one bias: untrained networks are refused."""
    from kdlab.data import Digits

    torch.manual_seed(3)
    network = PlainNet(width=8, inplace=inplace)
    data = Digits()
    data.setup()
    batch = data.train_dataloader().batch(data.part("train")[:500])
    network.eval()
    with torch.no_grad():
        with Taps(network, ["fc.input"]) as features:
            network(batch.inputs)
        means = torch.stack([features["fc.input"][batch.target == label].mean(0) for label in range(10)])
        network.fc.weight.copy_(means), network.fc.bias.copy_(-means.square().sum(1) / 2)
    # what holds the random numbers that it was made with is refused as a teacher, too
    network.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})
    return network


@pytest.mark.parametrize(
    "what",
    [*QUICK, *(pytest.param(what, marks=pytest.mark.slow) for what in [*RUNS, "ddp", "compiled"] if what not in QUICK)],
)
def test_a_run_does_not_depend_on_it(workplace, forked, what):
    overrides, curves = (
        {
            "ddp": [*RUNS["hint"], "trainer.devices=2", "trainer.strategy=ddp"],
            "compiled": [*RUNS["residual"], "compile=aot_eager"],
            **RUNS,
        }[what],
        [],
    )
    for inplace in ("true", "false"):
        taught = [f"+teacher.inplace={inplace}"] if TEACHER[0] in overrides else []
        run = kdlab.train([*NETWORK, *overrides, f"+student.inplace={inplace}", *taught])
        curves.append(MetricsFile(run.metrics_file).load().rows)
    for one, other in zip(*curves, strict=True):
        for key in other:
            if key not in ("seconds", "train/teacher_share"):
                assert one[key] == pytest.approx(other[key], rel=1e-4), key
