"""Strategies on tiny networks, whose steps are computed by hand."""

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.objective import Objective
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import Classification
from kdlab.training.preparation import prepare

CLASSES, RATE = 3, 0.5


def linear(seed=0):
    """A network of one linear layer on inputs (B, 4)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, CLASSES, bias=False)).double()


def batch_of(rows, seed=0, views=1, first=0, **more):
    """Samples with the numbers ``first``, …, and random inputs."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(rows, 4, generator=generator, dtype=torch.float64) for _ in range(views)]
    target = torch.randint(CLASSES, (rows,), generator=generator)
    return Batch(inputs[0], target, torch.arange(first, first + rows), further_views=tuple(inputs[1:]), **more)


def made(kind, student, terms, weights, batch, target=None, **options):
    """A strategy as a run has it, in train mode."""
    recipe = OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=RATE))
    strategy = kind(
        student=student,
        teacher=None,
        objective=Objective(terms, weights),
        task=Classification(CLASSES),
        optimization=recipe,
        **options,
    )
    target = batch.target if target is None else target
    prepare(strategy, batch, len(target), target)
    return strategy.double().train()


def take_step(strategy, batch, stepped=True):
    """One step of plain gradient descent; returns its loss. With ``stepped=False`` the gradients are only added to."""
    step = strategy.distill(batch)
    step.loss.total.backward()
    if stepped:
        with torch.no_grad():
            for value in strategy.parameters():
                if value.grad is not None:
                    value -= RATE * value.grad
                    value.grad = None
    strategy.stepped = stepped
    strategy.after_step(step, batch)
    return step.loss


def ce(logits, target):
    """The mean cross-entropy, from its definition."""
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -p[torch.arange(len(target)), target].log().mean()


def kd(student, teacher, temperature):
    """The mean of T^2 KL, from its definition."""
    p, q = ((z / temperature).exp() / (z / temperature).exp().sum(1, keepdim=True) for z in (teacher, student))
    return temperature**2 * (p * (p / q).log()).sum(1).mean()
