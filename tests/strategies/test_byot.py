"""BYOT: exits that learn from the deepest classifier."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import kdlab
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.models import MLP
from kdlab.strategies import OwnTeacher
from kdlab.training.assemble import assembled
from tests.strategies.tiny import CLASSES, batch_of, ce, kd, made

SHORT = ["strategy=byot", "data.fraction=0.2", "trainer.max_epochs=1", "progress=none"]


def tiny(batch, **options):
    torch.manual_seed(0)
    student = MLP(CLASSES, (4,), hidden=(5, 6, 7)).double()
    return made(
        OwnTeacher, student, {"ce": CrossEntropy(), "kd": HintonKD(3.0)}, {"ce": 0.9, "kd": 0.1}, batch, **options
    )


def parts_of(strategy, x):
    """The deepest logits and feature, and those of the two exits, from the modules themselves."""
    student, first = strategy.student, strategy.student.stage1(x)
    second = student.stage2(first)
    deepest = student.stage3(second)
    features = [
        getattr(strategy.exits, name).bottleneck(stage) for name, stage in (("exit1", first), ("exit2", second))
    ]
    logits = [getattr(strategy.exits, name).classifier(feature) for name, feature in zip(("exit1", "exit2"), features)]
    return student.classifier(deepest), deepest, logits, features


@pytest.mark.parametrize(
    "options, share",
    [
        ({"feature_reduction": "sum"}, 1),
        ({"feature_reduction": "mean", "positive_only": False, "deepest_weight": 1 / 0.9}, 1 / 6),
    ],
)
def test_a_step_by_hand(options, share):
    batch = batch_of(6, normaliser=6.0)
    strategy = tiny(batch, feature_weight=0.01, **options)
    deepest, feature, exits, features = parts_of(strategy, batch.inputs)
    expected = options.get("deepest_weight", 1.0) * 0.9 * ce(deepest, batch.target)
    for logits, mine in zip(exits, features):
        squares = (mine - feature.detach()).square()
        if options.get("positive_only", True):
            squares = squares * ((mine > 0) | (feature > 0))
        expected = (
            expected
            + 0.9 * ce(logits, batch.target)
            + 0.1 * kd(logits, deepest.detach(), 3.0)
            + 0.01 * share * squares.sum()
        )
    loss = strategy.distill(batch).loss
    torch.testing.assert_close(loss.total, expected)
    weights = [value for value in strategy.parameters() if value.requires_grad]
    for found, wanted in zip(*(torch.autograd.grad(value, weights) for value in (loss.total, expected)), strict=True):
        torch.testing.assert_close(found, wanted)
    assert list(loss.parts) == [
        "ce",
        *(f"{part}_{name}" for name in ("exit1", "exit2") for part in ("ce", "kd", "feature")),
    ]


@pytest.mark.parametrize("positive_only", [True, False])
def test_features_below_zero_count_unless_only_positive_ones_do(positive_only):
    """Of a network that ends in tanh, so that the deepest feature may lie below 0; ReLU's, which end most networks,
    never do."""
    torch.manual_seed(0)
    layers = {
        "stage1": nn.Sequential(nn.Linear(4, 5), nn.Tanh()),
        "stage2": nn.Sequential(nn.Linear(5, 6), nn.Tanh()),
        "classifier": nn.Linear(6, CLASSES),
    }
    student, batch = nn.Sequential(OrderedDict(layers)).double(), batch_of(6)
    strategy = made(
        OwnTeacher,
        student,
        {"ce": CrossEntropy(), "kd": HintonKD(3.0)},
        {"ce": 0.9, "kd": 0.1},
        batch,
        exits=["stage1"],
        feature="stage2",
        feature_weight=0.01,
        positive_only=positive_only,
    )
    first = student.stage1(batch.inputs)
    mine, deepest = strategy.exits.exit1.bottleneck(first), student.stage2(first)
    squares = (mine - deepest).square()
    below = (mine <= 0) & (deepest <= 0)
    assert below.any() and (squares * below).sum() > 0.1
    expected = (squares * ~below if positive_only else squares).sum()
    torch.testing.assert_close(strategy.distill(batch).loss.parts["feature_exit1"], expected.detach())


def test_the_deepest_classifier_learns_from_labels_alone():
    batch = batch_of(6)
    strategy = tiny(batch, deepest_weight=0.0)
    gradients = torch.autograd.grad(
        strategy.distill(batch).loss.total, list(strategy.student.classifier.parameters()), allow_unused=True
    )
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    (first,) = torch.autograd.grad(strategy.distill(batch).loss.total, [strategy.student.stage1.linear.weight])
    assert first.any(), "the exits train the stages before them"


def test_what_is_answered():
    """The ensemble is the mean of all probabilities; the network runs once for all answers to a batch."""
    batch = batch_of(6)
    strategy = tiny(batch).eval()
    calls = []
    strategy.student.register_forward_hook(lambda *_: calls.append(1))
    said = {name: answer(batch).logits for name, answer in strategy.answers().items()}
    assert list(said) == ["student", "exit1", "exit2", "ensemble"] and len(calls) == 1
    deepest, _, exits, _ = parts_of(strategy, batch.inputs)
    torch.testing.assert_close(said["student"], deepest)
    torch.testing.assert_close(said["exit2"], exits[1])
    torch.testing.assert_close(
        said["ensemble"].softmax(-1), torch.stack([z.softmax(-1) for z in (deepest, *exits)]).mean(0)
    )


def test_a_run_keeps_the_student_and_reports_all(workplace):
    run = kdlab.train([*SHORT, "student.hidden=[16,8]"])
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"student", "exits"} and "exits.exit1.classifier.weight" in state
    assert (
        set(run.record["networks"]) == {"student", "exit1", "ensemble"}
        and run.record["kept"]["last"]["network"] == "student"
    )
    assert type(run.student) is MLP and list(run.student.state_dict()) == [
        name[8:] for name in state if name.startswith("student.")
    ]
    fresh = assembled(run.config).strategy.exits
    assert not torch.equal(fresh.exit1.classifier.weight, state["exits.exit1.classifier.weight"]), "exits are optimised"


@pytest.mark.parametrize(
    "student, exits",
    [
        (["student=mlp"], 1),
        (["student=mlp", "student.hidden=[8,8,8]"], 2),
        (["student=cnn"], 2),
        (["student=resnet8"], 2),
        (["student=wrn_16_1"], 2),
        (["student=mobilenet_v2"], 3),
        (["student=cnn", "strategy.feature=stage3"], 2),
        (["student=resnet8", "strategy.exits=[stem,stage2]"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_any_network_with_stages(student, exits):
    strategy = assembled(compose([*SHORT, *student])).strategy
    assert list(strategy.exits) == [f"exit{number}" for number in range(1, exits + 1)]
    assert all(each.classifier.out_features == 10 for each in strategy.exits.values())


def without_stages(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


@pytest.mark.parametrize(
    "extra, message",
    [
        (["loss=[ce,hint]", "student=cnn"], "loss.hint: it reads features"),
        (["teacher=trained"], "the student is its own teacher"),
        (["strategy.exits=[stage9]"], "tap 'stage9': MLP has no module 'stage9'"),
        (["strategy.exits=[]"], "strategy.exits must name one or more taps"),
        (
            ["student=cnn", "strategy.exits=[stage3]", "strategy.feature=stage1"],
            "strategy.exits: stage3: there is no bottleneck",
        ),
        (["strategy.feature_reduction=median"], "strategy.feature_reduction"),
        (
            [
                "student=network",
                "student._target_=tests.strategies.test_byot.without_stages",
                "+student.classes=10",
            ],
            "has no taps stage1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(workplace, extra, message):
    with pytest.raises(InputError, match=message):
        kdlab.train([*SHORT, *extra])
