"""What a distillation framework gets wrong in silence, as checks that can be run on any strategy, and that fail where
the defect is put in.

Where bits are compared, both sides were computed on one machine, with one build and the same operations. Nothing is
promised beyond that.
"""

from contextlib import contextmanager

import torch
from torch import nn

import kdlab
from kdlab.config.compose import compose
from kdlab.objective import Objective
from kdlab.strategies.base import Strategy
from kdlab.training.assemble import assembled

SHORT = ["data.fraction=0.2", "student.hidden=[16]", "trainer.max_epochs=3", "progress=none"]


@contextmanager
def watched(look):
    """Call ``look(strategy, batch, index)`` before every training step."""
    step = Strategy.training_step

    def training_step(self, batch, index):
        look(self, batch, index)
        return step(self, batch, index)

    Strategy.training_step = training_step
    try:
        yield
    finally:
        Strategy.training_step = step


def train_mode(overrides):
    """Whoever learns is in train mode at the first step of every epoch, whoever only teaches never is."""
    learning, teaching = [], []

    def look(strategy, batch, index):
        if index == 0:
            networks = strategy.networks().values()
            learners = [network for network in networks if any(value.requires_grad for value in network.parameters())]
            learning.append(all(module.training for network in learners for module in network.modules()))
            teachers = [network for network in networks if network not in learners]
            teachers += [strategy.teacher.network] if strategy.teacher is not None else []
            teaching.append(any(module.training for network in teachers for module in network.modules()))

    with watched(look):
        kdlab.train([*overrides, *SHORT])
    assert learning == [True, True, True] and not any(teaching), (learning, teaching)


def no_drift(overrides):
    """Neither weights nor buffers of a frozen teacher move, and none has a gradient."""
    seen = []

    def look(strategy, batch, index):
        network = strategy.teacher.network
        seen.append((network, {name: value.clone() for name, value in network.state_dict().items()}))

    with watched(look):
        kdlab.train([*overrides, *SHORT])
    network, first = seen[0]
    assert all(torch.equal(value, first[name]) for name, value in network.state_dict().items())
    assert not any(value.requires_grad or value.grad is not None for value in network.parameters())


def detached(overrides):
    """The part of the loss that one network learns from the others has no gradient for those."""
    parts = assembled(compose([*overrides, *SHORT, "loss=[ce,forward_kl]"]))  # whose function detaches nothing itself
    strategy, batch = parts.strategy, next(iter(parts.data.train_dataloader()))
    said = strategy.observe_all(batch)
    rows = strategy.task.align_batch(batch)
    for name in said:
        loss = strategy.loss_of(
            said[name], [outputs for other, outputs in said.items() if other != name], rows, strategy.objective_of(name)
        )
        for other, network in strategy.networks().items():
            gradients = torch.autograd.grad(
                loss.total, list(network.parameters()), retain_graph=True, allow_unused=True
            )
            reached = any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)
            assert reached == (other == name), f"what {name} learns reaches {other}: {reached}"


def optimised(overrides):
    """Every parameter that learns is in the optimiser once, and nothing of a teacher that is frozen or an average."""
    strategies = []
    with watched(lambda strategy, batch, index: strategies.append(strategy)):
        kdlab.train([*overrides, *SHORT])
    strategy = strategies[-1]
    found = [id(value) for group in strategy.optimizers().param_groups for value in group["params"]]
    expected = {id(value) for value in strategy.parameters() if value.requires_grad}
    assert len(found) == len(set(found)) and set(found) == expected
    if strategy.teacher is not None:
        assert expected.isdisjoint(id(value) for value in strategy.teacher.network.parameters())


def saved(overrides):
    """Whatever has changed at the end of a run, beside what Lightning keeps, is in its checkpoint: strategies of the
    same config that load it say the same of every batch."""
    strategies = []
    with watched(lambda strategy, batch, index: strategies.append(strategy)):
        run = kdlab.train([*overrides, *SHORT])
    parts = assembled(compose([*overrides, *SHORT]))
    parts.strategy.load_state_dict(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"])
    trained, loaded = strategies[-1], parts.strategy
    trained.load_state_dict(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"])
    batch = next(iter(parts.data.train_dataloader()))
    for strategy in (trained, loaded):  # as at the start of a further epoch
        for objective in [module for module in strategy.modules() if isinstance(module, Objective)]:
            objective.advance(3.0)
        strategy.train()
        strategy.on_train_epoch_start()
    with torch.no_grad():
        first, second = trained.distill(batch).loss.total, loaded.distill(batch).loss.total
    assert torch.equal(first, second), (first, second)


def seeded(overrides):
    """The seed, and nothing else, decides the first weights of every network, and no two begin with the same."""

    def weights(*more):
        strategy = assembled(compose([*overrides, *SHORT, *more])).strategy
        return {
            name: nn.utils.parameters_to_vector(network.parameters()) for name, network in strategy.networks().items()
        }

    first, again, other = weights(), weights(), weights("seed=2")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    learners = [value for name, value in first.items() if name != "average"]  # an average begins as its student
    assert not any(torch.equal(one, two) for number, one in enumerate(learners) for two in learners[number + 1 :])


def ordered(overrides, others):
    """Which samples come in which batch, and how they are augmented, is the same for the same seed, whoever teaches."""

    def batches(overrides):
        seen = []
        with watched(lambda strategy, batch, index: seen.append((batch.index.clone(), batch.inputs.clone()))):
            # which draws from torch's generator, more where more networks are asked
            kdlab.train(
                [*overrides, *SHORT, "trainer.max_epochs=2", "data.augment.crop_padding=1", "student.dropout=0.2"]
            )
        return seen

    mine, theirs = batches(overrides), batches(others)
    assert len(mine) == len(theirs) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(mine, theirs)
    )
    assert not torch.equal(mine[0][0], mine[len(mine) // 2][0]), "every epoch has an order of its own"
