"""Exits: small classifiers after the earlier stages of a network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

#: a map is halved to at most this size before its mean is taken, as in the common code of BYOT for CIFAR
POOLED = 4


class Exit(nn.Module):
    """A bottleneck from a stage's feature to the shape of the deepest one, and a linear classifier.

    A map ``(C, H, W)`` passes one or more 3x3 convolutions with BatchNorm and ReLU. They have stride 2 while the map is
    at least twice the target's size (for a vector: larger than 4 x 4). Each has up to twice the channels of the one
    before, and the last has the target's channels. A remaining difference in size is averaged. A vector ``(D,)``, or
    the mean of a sequence ``(T, D)``, passes a linear layer and ReLU.

    Args:
        feature: shape of the stage's feature, of one sample.
        deepest: shape of the deepest one: ``(D,)`` or ``(C, H, W)``.
        classes: number of classes.

    Raises:
        ValueError: no bottleneck exists between the two shapes. The message shows both.

    >>> import torch
    >>> logits, feature = Exit((8, 16, 16), (32,), classes=10)(torch.ones(2, 8, 16, 16))
    >>> logits.shape, feature.shape
    (torch.Size([2, 10]), torch.Size([2, 32]))
    """

    def __init__(self, feature: Sequence[int], deepest: Sequence[int], classes: int):
        super().__init__()
        feature, deepest = tuple(feature), tuple(deepest)
        self._sequence = len(feature) == 2
        if (
            len(feature) == 3
            and len(deepest) in (1, 3)
            and all(mine >= wanted for mine, wanted in zip(feature[1:], deepest[1:]))
        ):
            self.bottleneck = _convolutions(feature, deepest)
        elif len(feature) in (1, 2) and len(deepest) == 1:
            self.bottleneck = nn.Sequential(nn.Linear(feature[-1], deepest[0]), nn.ReLU())
        else:
            raise ValueError(
                f"there is no bottleneck from a feature of shape {feature} to the deepest one of shape {deepest}; "
                "choose a deepest feature that is a vector (embedding), or a map not larger than those of the exits"
            )
        self.classifier = nn.Linear(deepest[0], classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, classes)``, and the feature in the shape of the deepest one."""
        x = self.bottleneck(x.mean(1) if self._sequence else x)
        return self.classifier(x.flatten(2).mean(2) if x.dim() == 4 else x), x


def _convolutions(feature: tuple[int, ...], deepest: tuple[int, ...]) -> nn.Sequential:
    channels, *size = feature
    wanted, *smallest = deepest
    strides = []
    while all(side >= 2 * least for side, least in zip(size, smallest)) if smallest else max(size) > POOLED:
        size = [(side + 1) // 2 for side in size]
        strides.append(2)
    strides = strides or [1]
    layers: list[nn.Module] = []
    for number, stride in enumerate(strides, start=1):
        width = wanted if number == len(strides) else min(2 * channels, wanted)
        layers += [
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    if not smallest:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    elif size != smallest:
        layers.append(nn.AdaptiveAvgPool2d(tuple(smallest)))
    return nn.Sequential(*layers)
