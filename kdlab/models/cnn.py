"""A small convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class CNN(nn.Module):
    """Stages of 3x3 convolution, BatchNorm and ReLU, halving the map between stages; mean pooling; a linear classifier.

    Args:
        classes: number of classes.
        shape: shape of one input (channels, height, width).
        widths: channels of the stages.
        dropout: probability of dropping a pooled feature.
        stride: stride of the first convolution; 2 halves the width of every map and reduces the cost of a step to about
            a quarter.

    Taps: ``stage1`` …, one per stage (after ReLU, before the pooling that follows); ``preact1`` …, the inputs of that
    ReLU; ``embedding``, the pooled feature.

    >>> sum(p.numel() for p in CNN(classes=10, shape=(1, 28, 28), widths=(8, 16, 32)).parameters())
    6274
    """

    def __init__(
        self,
        classes: int,
        shape: Sequence[int],
        widths: Sequence[int] = (16, 32, 64),
        dropout: float = 0.0,
        stride: int = 1,
    ):
        super().__init__()
        if not widths or not all(isinstance(width, int) and width > 0 for width in widths):
            raise ValueError(f"widths must be the channels of one or more stages, for example [16, 32], got {widths!r}")
        if not isinstance(stride, int) or stride < 1:
            raise ValueError(f"stride must be a whole number from 1 on, got {stride!r}")
        if min(shape[1:]) < stride * 2 ** (len(widths) - 1):
            raise ValueError(
                f"{len(widths)} stages halve the map {len(widths) - 1} "
                f"times{f' after a stride of {stride}' if stride > 1 else ''}; an input of {tuple(shape)} is too small"
            )
        self.depth = len(widths)
        self.taps = {f"preact{number}": f"stage{number}.2.input" for number in range(1, self.depth + 1)}
        channels = shape[0]
        for number, width in enumerate(widths, start=1):
            convolution = nn.Conv2d(channels, width, 3, stride=stride if number == 1 else 1, padding=1, bias=False)
            self.add_module(f"stage{number}", nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
            channels = width
        self.halve = nn.MaxPool2d(2)
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of inputs ``(B, *shape)``."""
        for number in range(1, self.depth + 1):
            if number > 1:
                x = self.halve(x)
            x = self.get_submodule(f"stage{number}")(x)
        return self.classifier(self.embedding(x))
