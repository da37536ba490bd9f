"""ONE: the loss by hand, who learns from what, branches of every network, what is kept."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import kdlab
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, OneKL
from kdlab.runs.curve import MetricsFile
from kdlab.schedules import RampUp
from kdlab.strategies import NativeEnsemble
from kdlab.training.assemble import assembled
from tests.strategies.cohorts import CLASSES, FEATURES, ce, cohort, kl, some

SHORT = ["strategy=one", "data.fraction=0.2", "progress=none", "trainer.max_epochs=2"]


def deep(seed):
    torch.manual_seed(seed)
    parts = OrderedDict(
        stage1=nn.Linear(FEATURES, 5), stage2=nn.Linear(5, 6), dropout=nn.Dropout(0.0), classifier=nn.Linear(6, CLASSES)
    )
    return nn.Sequential(parts).double()


@pytest.fixture
def made():
    networks, batch = [deep(seed) for seed in range(3)], some()
    terms = {"ce": CrossEntropy(), "one_kl": OneKL(2.0)}
    return cohort(NativeEnsemble, networks, terms, {"ce": 1.0, "one_kl": 0.6}), networks, batch


def _by_hand(strategy, networks, batch):
    """Branches of the student's own first stage, and their ensemble."""
    shared = networks[0].stage1(batch.inputs)
    branches = [network.classifier(network.stage2(shared)) for network in networks]
    gate = strategy.gate(shared)
    return branches, sum(gate[:, [number]] * logits for number, logits in enumerate(branches)), gate


def test_the_loss_by_hand(made):
    strategy, networks, batch = made
    loss = strategy.distill(batch).loss
    branches, ensemble, gate = _by_hand(strategy, networks, batch)
    expected = sum(ce(logits, batch) + 0.6 * kl(ensemble, logits) for logits in branches) + ce(ensemble, batch)
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-10)
    assert set(loss.parts) == {
        f"{term}_{name}" for term in ("ce", "one_kl") for name in ("student", "branch2", "branch3")
    } | {"ce_ensemble"}
    parameters = [*networks[0].parameters(), *networks[1].classifier.parameters(), *strategy.gate.parameters()]
    for found, right in zip(
        torch.autograd.grad(loss.total, parameters, retain_graph=True), torch.autograd.grad(expected, parameters)
    ):
        torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(gate.sum(1), torch.ones(len(batch), dtype=torch.float64))


def test_the_gate_learns_from_labels_alone(made):
    """And a branch nothing from what another learns from the ensemble."""
    strategy, networks, batch = made
    strategy.objective.weights["ce"] = 0.0
    for objective in strategy.objectives.values():
        objective.weights["ce"] = 0.0
    strategy.distill(batch).loss.taught.backward()
    assert all(value.grad is None or not value.grad.any() for value in strategy.gate.parameters())
    strategy.zero_grad(set_to_none=True)
    strategy.objective.weights["one_kl"] = strategy.objectives["branch3"].weights["one_kl"] = 0.0
    strategy.distill(batch).loss.total.backward()
    assert networks[1].classifier.weight.grad.abs().sum() > 0
    assert all(
        networks[number].classifier.weight.grad is None or not networks[number].classifier.weight.grad.any()
        for number in (0, 2)
    )


def test_branches_keep_the_weights_that_they_begin_with_and_no_stem(made):
    strategy, networks, _ = made
    assert strategy.student is networks[0]
    assert set(dict(strategy.peers["branch2"].named_parameters())) == {
        "stage2.weight",
        "stage2.bias",
        "classifier.weight",
        "classifier.bias",
    }
    assert strategy.peers["branch2"].classifier.weight is networks[1].classifier.weight
    held = {id(value) for group in strategy.parameter_groups() for value in group["params"]}
    assert id(networks[1].stage1.weight) not in held and id(networks[1].stage2.weight) in held
    assert {id(value) for value in strategy.gate.parameters()} <= held


def test_one_sample_goes_through_the_gate(made):
    strategy, networks, batch = made
    shared = networks[0].stage1(batch.inputs)
    gate = strategy.gate
    gate(shared)
    scores = (gate.linear(shared[:1]) - gate.norm.running_mean) / (gate.norm.running_var + gate.norm.eps).sqrt()
    torch.testing.assert_close(gate(shared[:1]), scores.relu().softmax(-1))


def test_the_ramp(workplace):
    """A quarter of the training, as the authors' 80 of 300 epochs about."""
    run = kdlab.train([*SHORT, "trainer.max_epochs=8"])
    rows = MetricsFile(run.metrics_file).load().rows
    batches = rows[0]["step"]
    weights = [row["train/one_kl.weight"] for row in rows]
    last = [epoch + (batches - 1) / batches for epoch in range(8)]
    assert weights == pytest.approx([RampUp(end=1.0, epochs=2.0)(epoch) for epoch in last])
    assert weights[1] < 1 and weights[2] == 1.0


@pytest.mark.parametrize(
    "student, stem",
    [
        ("mlp", ()),
        ("mlp_wide", ("stage1",)),
        ("cnn", ("stage1", "stage2")),
        ("resnet8", ("stem", "stage1", "stage2")),
        ("wrn_16_1", ("stem", "stage1", "stage2")),
    ],
)
@pytest.mark.slow
def test_networks_of_the_zoo(workplace, student, stem):
    """The kept student is a plain network; the branches have BatchNorm statistics of their own."""
    run = kdlab.train([*SHORT, f"student={student}", "trainer.max_epochs=1", "+trainer.limit_train_batches=3"])
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    branch = [name.removeprefix("peers.branch3.") for name in state if name.startswith("peers.branch3.")]
    assert branch and not any(name.split(".")[0] in stem for name in branch)
    means = [name for name in branch if name.endswith("running_mean")]
    assert not means or not torch.equal(state[f"peers.branch3.{means[-1]}"], state[f"student.{means[-1]}"])
    assert set(run.record["networks"]) == {"student", "branch2", "branch3", "ensemble"}
    assert run.record["kept"]["last"] == {"network": "student", "module": "student"}
    network = run.student
    assert not any(type(module).__module__.startswith("torch.fx") for module in network.modules())
    assert run.record["parameters"] == sum(value.numel() for value in network.parameters())
    parts = assembled(compose([*SHORT, f"student={student}", "trainer.max_epochs=1"]))
    batch = next(iter(parts.data.test_dataloader()))
    torch.testing.assert_close(network(batch.inputs), run.predictions()["last"][: len(batch)], rtol=1e-4, atol=1e-4)


def test_any_loss_on_logits_and_any_split(workplace):
    run = kdlab.train(
        [*SHORT, "student=cnn", "loss=[ce,kd]", "strategy.peers=1", "strategy.split=stage1", "trainer.max_epochs=1"]
    )
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    assert (
        "peers.branch2.stage2.0.weight" in state
        and "peers.branch2.stage1.0.weight" not in state
        and state["gate.linear.weight"].shape == (2, 8)
    )
    row = MetricsFile(run.metrics_file).load().rows[-1]
    assert 0 < row["train/loss_kd_branch2"] < 10 and row["train/loss_ce_ensemble"] > 0


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["strategy.split=stage7"], "tap 'stage7': MLP has no module 'stage7'"),
        (["student=cnn", "loss=[ce,hint]"], "loss.hint: it reads features"),
        (["loss=[kd]"], "no term learns from the labels"),
        (["+strategy.keep=validation"], "strategy.keep=validation: a branch is no network by itself"),
        (["+strategy.views=different", "strategy.peers=1"], "strategy.views=different: the branches share one stem"),
        (["+student@strategy.peers.wide=mlp_wide"], "strategy.peers.wide: it has another architecture"),
        (["teacher=trained"], "so there is no other teacher"),
        (
            [
                "student._target_=tests.strategies.networks.unnamed",
                "~student.hidden",
                "~student.dropout",
                "~student.input_dropout",
            ],
            "strategy.split: Sequential has no taps stage1",
        ),
    ],
)
def test_mistakes_are_refused(workplace, overrides, words):
    with pytest.raises(InputError, match=words):
        kdlab.train(["strategy=one", "progress=none", *overrides])
    assert not (workplace / "runs" / "quickstart").exists()
