"""Networks for the tests, named by ``_target_``."""

import math

from torch import nn

from kdlab.models import MLP


def asleep(classes: int, shape: list) -> MLP:
    """A network in evaluation mode."""
    return MLP(classes, shape, hidden=(8,), dropout=0.1).eval()


def idle(classes: int, shape: list) -> MLP:
    """A network with a module that it never calls."""
    network = MLP(classes, shape)
    network.unused = nn.Linear(2, 2)
    return network


def unnamed(classes: int, shape: list) -> nn.Sequential:
    """A network whose modules have numbers and no names."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.ReLU(), nn.Linear(8, classes))


class Failing(nn.Module):
    """Answers with an exception of no special kind."""

    def forward(self, x):
        raise KeyError("no such layer")


class FailingInTraining(nn.Module):
    """Answers well until it is trained."""

    def __init__(self):
        super().__init__()
        self.network = MLP(10, (1, 8, 8))

    def forward(self, x):
        if self.training:
            raise RuntimeError("only in training")
        return self.network(x)
