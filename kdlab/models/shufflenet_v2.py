"""ShuffleNet V2 for small images: Ma et al. (2018), "Practical Guidelines for Efficient CNN Architecture Design",
https://arxiv.org/abs/1807.11164."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .shufflenet_v1 import shuffle

#: size -> channels of the three stages and of the last convolution (the paper's table 5)
WIDTHS = {0.5: (48, 96, 192, 1024), 1: (116, 232, 464, 1024), 1.5: (176, 352, 704, 1024), 2: (244, 488, 976, 2048)}
BLOCKS = (4, 8, 4)
STEM = 24


def branch(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1x1 convolution, depthwise 3x3 without ReLU, 1x1 convolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, groups=outputs, bias=False),
        nn.BatchNorm2d(outputs),
        nn.Conv2d(outputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class SplitBlock(nn.Module):
    """One half of the channels passes unchanged, the other half through a branch; then all are shuffled."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = branch(width // 2, width // 2, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """A map ``(B, width, H, W)`` of the input's shape."""
        kept, changed = x.chunk(2, 1)
        return shuffle(torch.cat([kept, self.branch(changed)], 1), 2)


class HalvingBlock(nn.Module):
    """Two branches that halve the map, with half of the output channels each; then all are shuffled."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half = outputs // 2
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride=2, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )
        self.branch = branch(inputs, half, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H / 2, W / 2)``, rounded up."""
        return shuffle(torch.cat([self.shortcut(x), self.branch(x)], 1), 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 as in the CRD benchmark (Tian et al. 2020, https://arxiv.org/abs/1910.10699; there "ShuffleV2").

    Difference from the paper: the stem is a 1x1 convolution that keeps the size of the map, without pooling.

    Args:
        classes: number of classes.
        size: the factor on the channels: 0.5, 1, 1.5 or 2.
        channels: channels of the input.

    Taps: ``stem``; ``stage1``, ``stage2``, ``stage3`` (4, 8 and 4 blocks; after the ReLU of every channel); ``head``
    the last 1x1 convolution with its ReLU; ``embedding`` its mean. With size 1 at 32 x 32 the stages are (116, 16, 16),
    (232, 8, 8) and (464, 4, 4), the embedding 1024.

    Parameters with 100 classes: 1,355,528 with size 1.

    Raises:
        ValueError: the size is not one of these.

    >>> sum(p.numel() for p in ShuffleNetV2(classes=100).parameters())
    1355528
    """

    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential

    def __init__(self, classes: int, size: float = 1, channels: int = 3):
        super().__init__()
        if size not in WIDTHS:
            raise ValueError(f"size must be one of {', '.join(map(str, WIDTHS))}, got {size}")
        *stages, last = WIDTHS[size]
        self.stem = nn.Sequential(nn.Conv2d(channels, STEM, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU())
        inputs = STEM
        for number, (blocks, width) in enumerate(zip(BLOCKS, stages), start=1):
            self.add_module(
                f"stage{number}",
                nn.Sequential(HalvingBlock(inputs, width), *(SplitBlock(width) for _ in range(blocks - 1))),
            )
            inputs = width
        self.head = nn.Sequential(nn.Conv2d(inputs, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU())
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.classifier(self.embedding(self.head(x)))
