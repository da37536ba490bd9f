"""A multilayer perceptron for small images and vectors."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Flatten, then hidden layers of Linear, ReLU and dropout, then a linear classifier.

    Args:
        classes: number of classes.
        shape: shape of one input, for example (1, 28, 28).
        hidden: widths of the hidden layers.
        dropout: probability of dropping a hidden unit.
        input_dropout: probability of dropping an input.

    Taps: ``stage1`` …, one per hidden layer (after ReLU); ``preact1`` …, before the ReLU; ``embedding``, the last stage
    after dropout.

    >>> sum(p.numel() for p in MLP(classes=10, shape=(1, 28, 28), hidden=(800, 800)).parameters())
    1276810
    """

    def __init__(
        self,
        classes: int,
        shape: Sequence[int],
        hidden: Sequence[int] = (64,),
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ):
        super().__init__()
        if not hidden or not all(isinstance(width, int) and width > 0 for width in hidden):
            raise ValueError(f"hidden must be the widths of one or more layers, for example [64], got {hidden!r}")
        widths = [math.prod(shape), *hidden]
        self.input_dropout = nn.Dropout(input_dropout)
        self.dropout = nn.Dropout(dropout)
        self.depth = len(hidden)
        self.taps = {f"preact{number}": f"stage{number}.relu.input" for number in range(1, self.depth + 1)}
        for number, (inputs, outputs) in enumerate(zip(widths, widths[1:]), start=1):
            self.add_module(
                f"stage{number}", nn.Sequential(OrderedDict(linear=nn.Linear(inputs, outputs), relu=nn.ReLU()))
            )
        self.embedding = nn.Identity()
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of inputs ``(B, *shape)``, which are flattened first."""
        x = self.input_dropout(x.flatten(1))
        for number in range(1, self.depth + 1):
            x = self.dropout(getattr(self, f"stage{number}")(x))
        return self.classifier(self.embedding(x))
