"""KDCL: the loss by hand under every rule, weights from validation, what is reported, what is refused."""

import pytest
import torch

import kdlab
from kdlab import functional
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.functional.rows import wide
from kdlab.losses import DKD, CrossEntropy
from kdlab.strategies import Collaborative
from kdlab.training.assemble import assembled
from tests.strategies.cohorts import ce, cohort, gradients, kl, linear, some

SHORT = ["strategy=kdcl", "data.fraction=0.2", "student.hidden=[16]", "progress=none", "trainer.max_epochs=2"]


def _naive(said, batch):
    return said[min(range(len(said)), key=lambda number: ce(said[number], batch).item())]


def _naive_per_sample(said, batch):
    losses = torch.stack([torch.nn.functional.cross_entropy(logits, batch.target, reduction="none") for logits in said])
    return torch.stack([said[number][row] for row, number in enumerate(losses.argmin(0))])


def _min_logit(said, batch):
    return (
        torch.stack([logits - logits[torch.arange(len(logits)), batch.target][:, None] for logits in said])
        .min(0)
        .values
    )


RULES = {
    "naive": (_naive, {}),
    "naive per sample": (_naive_per_sample, {"per_sample": True}),
    "linear": (lambda said, batch: functional.kdcl_linear(said, batch.target), {}),
    "linear per sample": (
        lambda said, batch: functional.kdcl_linear(said, batch.target, per_sample=True),
        {"per_sample": True},
    ),
    "min_logit": (_min_logit, {}),
    "mean": (lambda said, batch: sum(said) / len(said), {}),
    "general": (lambda said, batch: sum(said) / len(said), {}),  # of equal shares before the first validation
}


@pytest.mark.parametrize("name", RULES)
def test_the_loss_by_hand(name):
    rule, options = RULES[name]
    networks, batch = [linear(seed) for seed in range(3)], some()
    strategy = cohort(Collaborative, networks, rule=name.split()[0], **options)
    step = strategy.distill(batch)
    said = [network(batch.inputs) for network in networks]
    target = rule(said, batch)
    torch.testing.assert_close(step.outputs["target"].logits, target.detach(), rtol=1e-9, atol=1e-9)
    own = [0.3 * ce(logits, batch) + 0.7 * kl(target, logits) for logits in said]
    assert step.loss.total.item() == pytest.approx(sum(own).item(), rel=1e-9)
    # the target is a constant: each network's gradient is that of its own loss
    for network, alone in zip(networks, own):
        for found, expected in zip(gradients(network, step.loss.total), gradients(network, alone)):
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    assert strategy.mixing == (name in ("mean", "general"))


def test_any_dense_loss_on_logits_learns_from_the_target():
    networks, batch = [linear(0), linear(1)], some()
    terms = {"ce": CrossEntropy(), "dkd": DKD(alpha=1.0, beta=2.0, temperature=4.0)}
    strategy = cohort(Collaborative, networks, terms, {"ce": 1.0, "dkd": 0.5}, rule="mean")
    said = [network(batch.inputs) for network in networks]
    target = (sum(said) / 2).detach()
    expected = sum(
        ce(logits, batch) + 0.5 * functional.dkd(logits, target, batch.target, 1.0, 2.0, 4.0).mean() for logits in said
    )
    assert strategy.distill(batch).loss.total.item() == pytest.approx(expected.item(), rel=1e-10)


def test_rows_that_do_not_count_have_no_say():
    """In the choice of the naive rule either."""
    networks, batch = [linear(0), linear(1)], some()
    strategy = cohort(Collaborative, networks, rule="naive")
    align = strategy.task.align_batch
    losses = [
        torch.nn.functional.cross_entropy(network(batch.inputs), batch.target, reduction="none") for network in networks
    ]
    chosen = []
    for part in (losses[0] < losses[1], losses[0] > losses[1]):
        weights = part.double()
        strategy.task.align_batch = lambda batch, weights=weights: align(batch).replace(weights=weights)
        found = strategy.distill(batch).outputs["target"].logits
        said = [network(batch.inputs) for network in networks]
        best = min(range(2), key=lambda number: losses[number][part].sum().item())
        torch.testing.assert_close(found, said[best].detach())
        chosen.append(best)
    assert chosen == [0, 1]


class _Alone:
    """A trainer of one process."""

    class strategy:
        @staticmethod
        def reduce(value, reduce_op):
            return value


def test_general_weights_by_hand(monkeypatch):
    """Two uneven validation batches count by their rows; the weights are those of the inverse correlation, and the next
    target has them."""
    networks, batch = [linear(seed) for seed in range(3)], some(20, seed=4)
    strategy = cohort(Collaborative, networks, rule="general", ridge=0.0)
    strategy._trainer = None
    monkeypatch.setattr(Collaborative, "trainer", _Alone, raising=False)
    monkeypatch.setattr(Collaborative.__mro__[2], "on_validation_epoch_end", lambda self: None)
    for _ in range(2):  # the second epoch begins anew
        strategy.on_validation_epoch_start()
        for rows in (slice(0, 5), slice(5, 20)):
            part = batch.replace(inputs=batch.inputs[rows], target=batch.target[rows], index=batch.index[rows])
            said = {name: strategy.task.network_outputs(network, part) for name, network in strategy.networks().items()}
            strategy.after_validation(
                {name: outputs.detach() for name, outputs in said.items()}, strategy.task.align_batch(part)
            )
        strategy.on_validation_epoch_end()
    errors = torch.stack(
        [network(batch.inputs).softmax(-1) - torch.nn.functional.one_hot(batch.target, 3) for network in networks]
    ).detach()
    inverse = torch.linalg.inv(torch.einsum("inc,jnc->ij", errors, errors) / 20)
    expected = inverse.sum(1) / inverse.sum()
    torch.testing.assert_close(wide(strategy.shares).double(), expected, rtol=1e-4, atol=1e-5)
    said = torch.stack([network(batch.inputs) for network in networks]).detach()
    torch.testing.assert_close(
        strategy.distill(batch).outputs["target"].logits,
        torch.einsum("m,mnc->nc", expected, said),
        rtol=1e-3,
        atol=1e-4,
    )


def test_general_in_a_run_is_saved_and_used(workplace):
    """What is in the checkpoint is what the last epoch's networks give on validation."""
    run = kdlab.train([*SHORT, "strategy.rule=general"])
    state = torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]
    parts = assembled(compose([*SHORT, "strategy.rule=general"]))
    strategy = parts.strategy
    assert strategy.shares.tolist() == [0.5, 0.5]
    strategy.load_state_dict(state)
    strategy.eval()
    matrix, count = 0, 0
    with torch.no_grad():
        for batch in parts.data.val_dataloader():
            logits = [network(batch.inputs) for network in strategy.networks().values()]
            matrix, count = matrix + len(batch) * functional.error_correlation(logits, batch.target), count + len(batch)
    expected = functional.kdcl_general_weights(matrix / count, 0.1)
    torch.testing.assert_close(state["shares"], expected, rtol=1e-4, atol=1e-5)
    assert abs(expected[0] - 0.5) > 1e-3


def test_the_ensemble_is_reported(workplace):
    """It is the mean of the networks' logits; it is nothing that could be kept."""
    overrides = [*SHORT, "strategy.peers=1", "data.augment.crop_padding=1"]
    run = kdlab.train(overrides)
    assert set(run.record["networks"]) == {"student", "peer2", "ensemble"}
    parts = assembled(compose(overrides))
    parts.strategy.load_state_dict(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"])
    parts.strategy.eval()
    right = count = 0
    with torch.no_grad():
        for batch in parts.data.test_dataloader():
            said = sum(network(batch.inputs) for network in parts.strategy.networks().values())
            right, count = right + (said.argmax(-1) == batch.target).sum().item(), count + len(batch)
    assert run.record["networks"]["ensemble"]["test/accuracy"] == pytest.approx(right / count)
    with pytest.raises(InputError, match="keep must be one of student, peer2, validation"):
        kdlab.train([*overrides, "strategy.keep=ensemble"])


def test_each_network_sees_its_own_augmentation(workplace, monkeypatch):
    seen = []
    observe = Collaborative.observe_as

    def watched(self, name, batch):
        seen.append((name, self.view_of(name), batch))
        return observe(self, name, batch)

    monkeypatch.setattr(Collaborative, "observe_as", watched)
    kdlab.train([*SHORT, "data.augment.crop_padding=1", "trainer.max_epochs=1"])
    assert {(name, view) for name, view, _ in seen} == {("student", 0), ("peer2", 1)}
    batch = seen[-1][2]
    assert not torch.equal(batch.inputs, batch.view(1).inputs)


def test_weights_in_half_precision_still_sum_to_one():
    strategy = cohort(Collaborative, [linear(0), linear(1)], rule="general")
    strategy.shares = torch.tensor([0.3, 0.7]).bfloat16()
    batch = some()
    target = strategy.distill(batch).outputs["target"].logits
    said = [network(batch.inputs).detach() for network in (strategy.student, strategy.peers["peer2"])]
    share = ((target - said[1]) / (said[0] - said[1])).mean()
    torch.testing.assert_close(target, share * said[0] + (1 - share) * said[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["strategy.rule=best"], "strategy.rule must be one of naive, linear, min_logit, general, mean"),
        (["strategy.per_sample=true"], "per_sample=true: the rule min_logit makes no choice"),
        (["strategy.ridge=-1.0"], "ridge must be 0 or greater"),
        (["loss=[ce,hint]", "student=cnn"], "loss.hint: it reads features"),
        (["teacher=trained"], "so there is no other teacher"),
        (
            ["+student@strategy.peers.wide=mlp_wide", "strategy.peers.wide.classes=7"],
            "strategy.peers.wide.classes .* to 10",
        ),
    ],
)
def test_mistakes_are_refused(workplace, overrides, words):
    with pytest.raises(InputError, match=words):
        kdlab.train(["strategy=kdcl", "progress=none", *overrides])
    assert not (workplace / "runs" / "quickstart").exists()
