"""The ResNets of the CIFAR experiments: He et al. (2016), "Deep Residual Learning", section 4.2,
https://arxiv.org/abs/1512.03385."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut is a 1x1 convolution if the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``, rounded up."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 with three stages, as in RepDistiller and mdistiller.

    Args:
        classes: number of classes.
        depth: 8, 14, 20, 32, 44, 56 or 110: three stages of (depth - 2) / 6 blocks.
        widths: channels of the stem and of the three stages; times 2 and with a stem of 32 in the "x4" variants (32,
            64, 128, 256).
        channels: channels of the input.

    Taps: ``stem``, ``stage1``, ``stage2``, ``stage3`` (after the last ReLU of the stage), ``preact1``, ``preact2``,
    ``preact3`` (the input of that ReLU), ``embedding`` the pooled feature.

    Parameters with 100 classes: resnet20 0.28 M, resnet56 0.86 M, resnet110 1.74 M, resnet8x4 1.23 M, resnet32x4 7.43
    M.

    Raises:
        ValueError: the depth is not 6n + 2.

    >>> sum(p.numel() for p in CifarResNet(classes=100, depth=20, channels=3).parameters())
    278324
    """

    def __init__(self, classes: int, depth: int, widths: Sequence[int] = (16, 16, 32, 64), channels: int = 3):
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, 44, 56, 110), got {depth}")
        if len(widths) != 4:
            raise ValueError(f"widths are those of the stem and three stages, got {list(widths)}")
        stem, *stages = widths
        self.stem = nn.Sequential(nn.Conv2d(channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        self.stage1 = self._stage(stem, stages[0], (depth - 2) // 6, stride=1)
        self.stage2 = self._stage(stages[0], stages[1], (depth - 2) // 6, stride=2)
        self.stage3 = self._stage(stages[1], stages[2], (depth - 2) // 6, stride=2)
        # a block calls its ReLU twice, and a tap keeps the last call: the one after the shortcut
        self.taps = {f"preact{number}": f"stage{number}.{(depth - 2) // 6 - 1}.relu.input" for number in (1, 2, 3)}
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(stages[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.classifier(self.embedding(x))
