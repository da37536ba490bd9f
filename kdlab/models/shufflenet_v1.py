"""ShuffleNet for small images: Zhang et al. (2018), "ShuffleNet", https://arxiv.org/abs/1707.01083."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: groups -> channels of the first stage (the paper's table 1); they double from stage to stage. The paper's 4 and 8
#: groups are missing: a quarter of the channels that the first block adds to the stem's 24 cannot be divided into so
#: many groups.
WIDTHS = {1: 144, 2: 200, 3: 240}
BLOCKS = (4, 8, 4)
STEM = 24


def shuffle(x: Tensor, groups: int) -> Tensor:
    """The channels in interleaved order: the first channel of every group, then the second of every group, …

    >>> shuffle(torch.arange(6.0).view(1, 6, 1, 1), groups=2).flatten().tolist()
    [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleBlock(nn.Module):
    """1x1 convolution in groups to a quarter of the outputs, shuffle, depthwise 3x3, 1x1 convolution in groups, ReLU
    after the shortcut.

    If the map is halved, the shortcut is a mean over 3x3 and is concatenated with the convolutions' outputs; otherwise
    it is added.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int):
        super().__init__()
        made = outputs - inputs if stride == 2 else outputs
        hidden = made // 4
        # the stem has too few channels for groups
        self.groups = 1 if inputs == STEM else groups
        self.conv1 = nn.Conv2d(inputs, hidden, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.relu = nn.ReLU()
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``, rounded up."""
        y = shuffle(self.relu(self.bn1(self.conv1(x))), self.groups)
        # the benchmark has a ReLU after the depthwise convolution; the paper has none
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + x if self.shortcut is None else torch.cat([y, self.shortcut(x)], 1))


class ShuffleNetV1(nn.Module):
    """ShuffleNet as in the CRD benchmark (Tian et al. 2020, https://arxiv.org/abs/1910.10699; there "ShuffleV1").

    Differences from the paper: the stem is a 1x1 convolution that keeps the size of the map, without pooling, and a
    ReLU follows the depthwise convolutions, too.

    Args:
        classes: number of classes.
        groups: groups of the 1x1 convolutions: 1, 2 or 3.
        channels: channels of the input.

    Taps: ``stem``, ``stage1``, ``stage2``, ``stage3`` (4, 8 and 4 blocks, after the last ReLU), ``preact1``,
    ``preact2``, ``preact3`` (the input of that ReLU), ``embedding`` the pooled feature. With 3 groups at 32 x 32 the
    stages are (240, 16, 16), (480, 8, 8) and (960, 4, 4).

    Parameters with 100 classes: 949,258 with 3 groups.

    Raises:
        ValueError: the number of groups is not one of these.

    >>> sum(p.numel() for p in ShuffleNetV1(classes=100).parameters())
    949258
    """

    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential

    def __init__(self, classes: int, groups: int = 3, channels: int = 3):
        super().__init__()
        if groups not in WIDTHS:
            raise ValueError(f"groups must be one of {', '.join(map(str, WIDTHS))}, got {groups}")
        self.stem = nn.Sequential(nn.Conv2d(channels, STEM, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU())
        inputs, outputs = STEM, WIDTHS[groups]
        for number, blocks in enumerate(BLOCKS, start=1):
            first = ShuffleBlock(inputs, outputs, 2, groups)
            self.add_module(
                f"stage{number}",
                nn.Sequential(first, *(ShuffleBlock(outputs, outputs, 1, groups) for _ in range(blocks - 1))),
            )
            inputs, outputs = outputs, 2 * outputs
        # a block calls its ReLU three times, and a tap keeps the last call: the one after the shortcut
        self.taps = {
            f"preact{number}": f"stage{number}.{blocks - 1}.relu.input" for number, blocks in enumerate(BLOCKS, start=1)
        }
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.classifier(self.embedding(x))
