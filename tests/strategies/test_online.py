"""Deep mutual learning and co-distillation: numbers by hand, whose turn it is, who teaches, what is kept."""

import itertools

import pytest
import torch
from torch import nn

import kdlab
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.runs.curve import MetricsFile
from kdlab.runs.run import RunStore
from kdlab.strategies import Online
from kdlab.training.assemble import assembled
from tests.strategies.cohorts import ce, cohort, gradients, kl, linear, some

SHORT = ["strategy=online", "data.fraction=0.2", "student.hidden=[16]", "progress=none", "trainer.max_epochs=2"]
WIDE = ["+student@strategy.peers.wide=mlp_wide", "strategy.peers.wide.hidden=[24,24]"]


def _state(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def _average(others, teachers):
    if teachers == "mean_logits":
        return sum(others) / len(others)
    return (sum(other.softmax(-1) for other in others) / len(others)).log()


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("teachers", ["mean", "sum", "mean_logits", "mean_probabilities"])
def test_the_loss_by_hand(number, teachers):
    networks, batch = [linear(seed) for seed in range(number)], some()
    online = cohort(Online, networks, teachers=teachers)
    loss = online.distill(batch).loss
    said, own = [network(batch.inputs) for network in networks], []
    for position, logits in enumerate(said):
        others = said[:position] + said[position + 1 :]
        each = (
            [kl(other, logits) for other in others]
            if teachers in ("mean", "sum")
            else [kl(_average(others, teachers), logits)]
        )
        own.append(0.3 * ce(logits, batch) + 0.7 * sum(each) / (1 if teachers == "sum" else len(each)))
    assert loss.total.item() == pytest.approx(sum(own).item(), rel=1e-12)
    # nobody who teaches has a gradient of it: each network's is that of its own loss
    for network, alone in zip(networks, own):
        for found, expected in zip(gradients(network, loss.total), gradients(network, alone)):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    assert loss.parts["ce_peer2"].item() == pytest.approx(ce(said[1], batch).item())


@pytest.mark.parametrize("teachers", ["mean", "mean_logits"])
def test_one_networks_loss_gives_the_others_no_gradient(teachers):
    networks = [linear(seed) for seed in range(3)]
    online = cohort(Online, networks, update="alternating", teachers=teachers)
    for turn in range(3):
        online.steps_done = turn
        online.zero_grad(set_to_none=True)
        online.distill(some()).loss.total.backward()
        assert [network.weight.grad is not None for network in networks] == [position == turn for position in range(3)]


def test_averages_teach():
    """And the networks themselves learn."""
    networks, batch = [linear(0), linear(1)], some()
    online = cohort(Online, networks, decay=0.9)
    for number, average in enumerate(online.averages.values()):
        average.network.load_state_dict(linear(10 + number).state_dict())
    teachers = [linear(10)(batch.inputs), linear(11)(batch.inputs)]
    said = [network(batch.inputs) for network in networks]
    own = [0.3 * ce(mine, batch) + 0.7 * kl(teacher, mine) for mine, teacher in zip(said, reversed(teachers))]
    total = online.distill(batch).loss.total
    assert total.item() == pytest.approx(sum(own).item(), rel=1e-12)
    for network, alone in zip(networks, own):
        torch.testing.assert_close(gradients(network, total), gradients(network, alone), rtol=1e-10, atol=1e-14)


def _vector(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@pytest.fixture
def history(monkeypatch):
    """The parameters of every network, and whether the optimiser moved, behind each training batch."""
    seen = []
    after_step = Online.after_step

    def watched(self, step, batch):
        after_step(self, step, batch)
        seen.append(
            (
                self.stepped,
                {name: _vector(network) for name, network in self.networks().items()},
                {name: _vector(average.network) for name, average in self.averages.items()},
            )
        )

    monkeypatch.setattr(Online, "after_step", watched)
    return seen


def test_alternating_moves_only_whose_turn_it_is(workplace, history):
    """With momentum and weight decay, which would move a network that has gradients of 0, and two batches a step."""
    kdlab.train(
        [
            *SHORT,
            "strategy.peers=2",
            "strategy.update=alternating",
            "optimizer.weight_decay=0.1",
            "trainer.accumulate_grad_batches=2",
        ]
    )
    moved = []
    for (_, before, _), (stepped, after, _) in itertools.pairwise(history):
        changed = [name for name in after if not torch.equal(before[name], after[name])]
        assert bool(changed) == stepped
        moved += changed
    turns = ["student", "peer2", "peer3"]
    assert len(moved) > 6 and [moved[0], moved[1], moved[2]] == [
        turns[(turns.index(moved[0]) + number) % 3] for number in range(3)
    ]
    assert all(after == turns[(turns.index(before) + 1) % 3] for before, after in itertools.pairwise(moved))


def test_gradients_of_zero_move_nobody_whose_turn_it_is_not():
    """DDP gives them to all networks; the optimiser leaves alone what has no gradient at all."""
    networks = [linear(seed) for seed in range(3)]
    online = cohort(Online, networks, update="alternating")
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1, weight_decay=0.5)
    for turn in range(3):
        before = [_vector(network) for network in networks]
        for value in online.parameters():
            value.grad = torch.zeros_like(value)
        online.steps_done = turn
        online.on_before_optimizer_step(optimizer)
        optimizer.step()
        moved = [not torch.equal(_vector(network), first) for network, first in zip(networks, before)]
        assert moved == [number == turn for number in range(3)]


def test_averages_follow_the_optimisers_steps(workplace, history):
    run = kdlab.train([*SHORT, "strategy.decay=0.5", "trainer.accumulate_grad_batches=2"])
    # the average of the first weights, too, which a run of the same seed begins with
    expected = {name: _vector(network) for name, network in assembled(run.config).strategy.networks().items()}
    steps = 0
    for stepped, networks, averages in history:
        if stepped:
            steps += 1
            decay = min(0.5, 1 - 1 / (steps + 1))
            expected = {name: decay * expected[name] + (1 - decay) * value for name, value in networks.items()}
        for name in expected:
            torch.testing.assert_close(averages[name], expected[name], rtol=1e-5, atol=1e-6)
    state = _state(run)
    assert state["averages.student.steps"].item() == steps > 5
    assert not torch.equal(state["averages.student.network.classifier.weight"], state["student.classifier.weight"])


def test_an_average_follows_only_when_its_network_learns(workplace, history):
    """Networks take turns, and so do their averages: an average that followed in every step would reach its network
    sooner than its decay says."""
    kdlab.train([*SHORT, "strategy.update=alternating", "strategy.decay=0.9", "optimizer.weight_decay=0.1"])
    followed, last = [], None
    for _, _, averages in history:
        if last is not None:
            followed.append([name for name in averages if not torch.equal(averages[name], last[name])])
        last = averages
    turns = ["student", "peer2"]
    assert len(followed) > 6 and followed == [[turns[(number + 1) % 2]] for number in range(len(followed))]


def test_networks_like_the_student_begin_differently(workplace):
    strategy = assembled(compose([*SHORT, "strategy.peers=2"])).strategy
    first, second, third = (_vector(network) for network in strategy.networks().values())
    assert not torch.equal(first, second) and not torch.equal(second, third)
    alone = assembled(compose(["strategy=supervised", "student.hidden=[16]"])).strategy
    assert torch.equal(first, _vector(alone.student)), "the student begins as it would alone"


def test_a_named_peer_of_its_own_kind_and_rate_is_kept(workplace):
    run = kdlab.train(
        [
            *SHORT,
            *WIDE,
            "+strategy.peers.wide.optimizer.lr=0.02",
            "+strategy.peers.wide.optimizer.weight_decay=0.3",
            "strategy.keep=wide",
            "scheduler=none",
        ]
    )
    groups = torch.load(run.checkpoint("last"), weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == [run.config["optimizer"]["lr"], 0.02] and groups[1][
        "weight_decay"
    ] == 0.3
    network, state = kdlab.load(run.path).student, _state(run)
    assert network.depth == 2 and torch.equal(network.stage2.linear.weight, state["peers.wide.stage2.linear.weight"])
    assert run.record["kept"]["last"] == {"network": "wide", "module": "peers.wide"}
    assert run.metrics["test/accuracy"] == run.record["networks"]["wide"]["test/accuracy"]
    assert run.record["parameters"] == sum(value.numel() for value in network.parameters())
    row = MetricsFile(run.metrics_file).load().rows[-1]
    assert row["val/accuracy"] == row["val/accuracy_wide"] and "val/accuracy_student" in row

    # it teaches a later run, by its taps and features
    later = kdlab.train(
        [
            "teacher=run",
            f"teacher.run={run.path}",
            "loss=[ce,kd,hint]",
            "loss.hint.student_tap=stage1",
            "loss.hint.teacher_tap=stage2",
            "trainer.max_epochs=1",
            "progress=none",
        ]
    )
    content = torch.load(later.checkpoint("last"), weights_only=True)["state_dict"]
    assert [
        tuple(value.shape) for name, value in content.items() if "connector" in name and name.endswith("weight")
    ] == [(24, 32)]
    assert later.record["teacher"]["test"]["accuracy"] == pytest.approx(run.metrics["test/accuracy"])


def test_the_best_on_validation_is_kept(workplace):
    """The student cannot learn at a rate of 0."""
    run = kdlab.train(
        [
            *SHORT,
            *WIDE,
            "+strategy.peers.wide.optimizer.lr=0.01",
            "optimizer.lr=1e-9",
            "strategy.keep=validation",
            "scheduler=none",
        ]
    )
    networks = run.record["networks"]
    assert networks["wide"]["val/accuracy"] > networks["student"]["val/accuracy"]
    assert run.record["kept"]["last"]["network"] == "wide" and run.student.depth == 2
    assert run.metrics["val/accuracy"] == networks["wide"]["val/accuracy"]


@pytest.mark.slow
def test_in_a_sweep(kdlab):
    """The number of peers and named networks, on one command line each."""
    code, _, error = kdlab(
        "train", "-m", *SHORT, "trainer.max_epochs=1", *WIDE, "strategy.keep=student,wide", "seed=1,2"
    )
    assert code == 0, error
    assert sorted(run.record["kept"]["last"]["network"] for run in RunStore("runs").runs()) == [
        "student",
        "student",
        "wide",
        "wide",
    ]


def test_different_architectures_learn_features_of_one_another(workplace):
    """Each has connectors to the other's widths, under its own objective; both learn, and train in training mode."""
    overrides = [
        "strategy=online",
        "student=cnn",
        "student.widths=[4,6,8]",
        "+student@strategy.peers.wide=cnn_wide",
        "strategy.peers.wide.widths=[5,7,9]",
        "loss=[ce,mutual_kl,hint]",
        "data.fraction=0.2",
        "trainer.max_epochs=1",
        "progress=none",
    ]
    strategy = assembled(compose(overrides)).strategy
    assert all(module.training for module in strategy.objectives.modules()) and all(
        module.training for module in strategy.objective.modules()
    )
    state = _state(kdlab.train(overrides))
    assert state["objective.terms.hint.connector.0.weight"].shape[:2] == (7, 6)
    assert state["objectives.wide.terms.hint.connector.0.weight"].shape[:2] == (6, 7)
    fresh = dict(strategy.named_parameters())
    for name in ("objective", "objectives.wide"):
        assert not torch.equal(
            state[f"{name}.terms.hint.connector.0.weight"], fresh[f"{name}.terms.hint.connector.0.weight"]
        )


def test_every_network_begins_with_connectors_of_its_own(workplace):
    """And the student's do not depend on how many peers there are."""

    def connectors(peers):
        overrides = [
            "strategy=online",
            "student=cnn",
            "student.widths=[4,6,8]",
            f"strategy.peers={peers}",
            "loss=[ce,mutual_kl,hint]",
            "progress=none",
        ]
        strategy = assembled(compose(overrides)).strategy
        objectives = strategy.objective, *strategy.objectives.values()
        return [objective.terms["hint"].connector[0].weight for objective in objectives]

    one, two = connectors(1), connectors(2)
    assert [len(one), len(two)] == [2, 3] and all(torch.equal(first, second) for first, second in zip(one, two))
    assert not any(torch.equal(first, second) for first, second in itertools.combinations(two, 2))


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["strategy.peers=0"], "strategy.peers must be how many networks"),
        (["strategy.teachers=most"], "strategy.teachers"),
        (["strategy.update=never"], "strategy.update"),
        (["strategy.decay=2.0"], "decay must be between 0 and 1, got 2.0"),
        (["strategy.keep=wide"], "strategy.keep must be one of student, peer2, validation, got 'wide'"),
        (["+student@strategy.peers.ensemble=mlp"], "strategy.peers.ensemble: a peer's name"),
        (["+student@strategy.peers.training=mlp"], "strategy.peers.training: a peer's name"),
        (
            ["+student@strategy.peers.wide=mlp_wide", "strategy.peers.wide.classes=7"],
            "strategy.peers.wide.classes .* to 10",
        ),
        (
            ["+student@strategy.peers.wide=mlp_wide", "+strategy.peers.wide.optimizer.speed=7"],
            "peers.wide.optimizer.speed: the optimiser has no such option",
        ),
        (
            ["+student@strategy.peers.wide=mlp_wide", "+strategy.peers.wide.optimizer.lr=0.1", "scheduler=onecycle"],
            "wide.optimizer.lr: the scheduler",
        ),
        (
            ["strategy.teachers=mean_logits", "loss=[ce,hint]", "student=cnn"],
            "loss.hint: it reads features .*no features in common",
        ),
        (["loss=[ce,multi_level]", "strategy.views=different"], "compares two views of its own"),
        (["teacher=trained"], "so there is no other teacher; teacher=none"),
    ],
)
def test_mistakes_are_refused(workplace, overrides, words):
    with pytest.raises(InputError, match=words):
        kdlab.train(["strategy=online", "progress=none", *overrides])
    assert not (workplace / "runs" / "quickstart").exists()
