"""Networks for the tests, named by ``_target_``."""

import math

from torch import nn

from kdlab.losses import Loss
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


class Listing(MLP):
    """Answers with a list of features, as a model of timm does with ``features_only``."""

    def forward(self, x):
        return [super().forward(x)]


class FailingInTraining(nn.Module):
    """Answers well until it is trained."""

    def __init__(self):
        super().__init__()
        self.network = MLP(10, (1, 8, 8))

    def forward(self, x):
        if self.training:
            raise RuntimeError("only in training")
        return self.network(x)


class PlainNet(nn.Module):
    """conv-bn-ReLU twice and a residual block, as written all over; ``inplace`` says how its ReLUs and its sum work."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 8, inplace: bool = True):
        super().__init__()
        self.inplace = inplace
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(channels, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(inplace)
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(width, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(inplace)
        self.conv3, self.bn3 = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1, inplace)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        out = self.drop(self.bn3(self.conv3(x)))
        if self.inplace:
            out += x
        else:
            out = out + x
        return self.fc(out.mean((2, 3)))


class Ending(MLP):
    """Logits with something at their end: a function of torch, in ``mode`` (training, evaluation, both)."""

    def __init__(self, *arguments, end: str = "softmax", mode: str = "both", scale: float = 1.0, **named):
        super().__init__(*arguments, **named)
        self.end, self.mode, self.scale = end, mode, scale

    def forward(self, x):
        logits = self.scale * super().forward(x)
        if self.mode not in ("both", "training" if self.training else "evaluation"):
            return logits
        return logits.sigmoid() if self.end == "sigmoid" else getattr(logits, self.end)(-1)


class OwnLoss(Loss):
    """Expects probabilities."""

    needs_teacher, needs_target = False, True

    def forward(self, student, teacher, batch):
        return -student.logits.gather(1, batch.target[:, None])[:, 0]


class Shifting(MLP):
    """Shifts its inputs first, in place or not."""

    def __init__(self, inplace: bool = True):
        super().__init__(10, (1, 8, 8), (8,))
        self.inplace = inplace

    def forward(self, x):
        if self.inplace:
            x -= 3
        else:
            x = x - 3
        return super().forward(x)
