"""The ResNets with bottlenecks, for small images: He et al. (2016), "Deep Residual Learning", table 1,
https://arxiv.org/abs/1512.03385."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Bottleneck(nn.Module):
    """1x1 convolution to ``width`` channels, 3x3 (with the stride), 1x1 to four times as many; the shortcut is a 1x1
    convolution if the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, 4 * width, H / stride, W / stride)``, rounded up."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + self.shortcut(x))


class BottleneckResNet(nn.Module):
    """ResNet 50, 101 or 152 as in the CRD benchmark's teacher ResNet50 (Tian et al. 2020,
    https://arxiv.org/abs/1910.10699).

    Differences from the paper: the stem is a 3x3 convolution with stride 1, without pooling, and a bottleneck's stride
    is in its 3x3 convolution.

    Args:
        classes: number of classes.
        depth: 50, 101 or 152.
        channels: channels of the input.

    Taps: ``stem``, ``stage1`` … ``stage4`` (after the last ReLU of the stage), ``preact1`` … ``preact4`` (the input of
    that ReLU), ``embedding`` the pooled 2048 features. At 32 x 32 the stages are (256, 32, 32), (512, 16, 16), (1024,
    8, 8) and (2048, 4, 4).

    Parameters with 100 classes: resnet50 23,705,252; resnet101 42,697,380; resnet152 58,341,028.

    Raises:
        ValueError: the depth is not one of these.

    >>> sum(p.numel() for p in BottleneckResNet(classes=100).parameters())
    23705252
    """

    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential
    stage4: nn.Sequential

    def __init__(self, classes: int, depth: int = 50, channels: int = 3):
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}, got {depth}")
        inputs = WIDTHS[0]
        self.stem = nn.Sequential(
            nn.Conv2d(channels, inputs, 3, padding=1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU()
        )
        for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS[depth]), start=1):
            first = Bottleneck(inputs, width, stride=1 if number == 1 else 2)
            inputs = EXPANSION * width
            self.add_module(
                f"stage{number}",
                nn.Sequential(first, *(Bottleneck(inputs, width, stride=1) for _ in range(blocks - 1))),
            )
        # a block calls its ReLU three times, and a tap keeps the last call: the one after the shortcut
        self.taps = {
            f"preact{number}": f"stage{number}.{blocks - 1}.relu.input"
            for number, blocks in enumerate(BLOCKS[depth], start=1)
        }
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        return self.classifier(self.embedding(x))
