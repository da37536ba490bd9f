"""MobileNetV2 for small images: Sandler et al. (2018), "Inverted Residuals and Linear Bottlenecks",
https://arxiv.org/abs/1801.04381."""

from __future__ import annotations

from torch import Tensor, nn

#: stage -> its groups of blocks: (expansion, channels before the width factor, blocks, stride of the first).
#: The paper's table 2, except that the second group keeps the size of the map.
GROUPS = {
    "stage1": ((1, 16, 1, 1), (None, 24, 2, 1)),
    "stage2": ((None, 32, 3, 2),),
    "stage3": ((None, 64, 4, 2), (None, 96, 3, 1)),
    "stage4": ((None, 160, 3, 2), (None, 320, 1, 1)),
}


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size of the map (except for its stride), and its BatchNorm."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise 3x3, and a 1x1 back without a ReLU after it; a shortcut if the shape
    does not change."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Sequential(*convolution(inputs, hidden, 1), nn.ReLU())
        self.depthwise = nn.Sequential(*convolution(hidden, hidden, 3, stride, groups=hidden), nn.ReLU())
        self.project = nn.Sequential(*convolution(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``, rounded up."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 as in the CRD benchmark ("mobile_half", after Jin et al. 2019, https://arxiv.org/abs/1904.09149).

    Differences from the paper: the second group of blocks has stride 1, so that the map of a 32 x 32 image is halved
    four times and not five; ReLU for ReLU6; the first block has its 1x1 convolution although it expands nothing;
    channels are rounded down, not to eighths; no dropout.

    Args:
        classes: number of classes.
        width: factor on all channels. The last 1280 channels are only widened by it, never narrowed.
        expansion: factor from the channels of a block to its hidden ones.
        channels: channels of the input.

    Taps: ``stem``; ``stage1`` … ``stage4`` are the last blocks before the map is halved (and before the head). Their
    bottlenecks are linear: no ReLU follows them, and the values have both signs. ``head`` is the last 1x1 convolution
    with its ReLU, ``embedding`` its mean. With width 0.5 at 32 x 32 the stages are (12, 16, 16), (16, 8, 8), (48, 4, 4)
    and (160, 2, 2), the embedding 1280.

    Parameters with 100 classes: 812,836 with width 0.5; 2,353,060 with width 1.

    Raises:
        ValueError: width or expansion are too small to leave a channel.

    >>> sum(p.numel() for p in MobileNetV2(classes=100).parameters())
    812836
    """

    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential
    stage4: nn.Sequential

    def __init__(self, classes: int, width: float = 0.5, expansion: int = 6, channels: int = 3):
        super().__init__()
        if width * 16 < 1:
            raise ValueError(f"width must be at least 1/16 to leave every layer a channel, got {width}")
        if not isinstance(expansion, int) or expansion < 1:
            raise ValueError(f"expansion must be a whole number of at least 1, got {expansion}")
        inputs, last = int(32 * width), int(1280 * max(width, 1))
        self.stem = nn.Sequential(*convolution(channels, inputs, 3, stride=2), nn.ReLU())
        for stage, groups in GROUPS.items():
            blocks = []
            for factor, outputs, count, stride in groups:
                for number in range(count):
                    blocks.append(
                        InvertedResidual(
                            inputs, int(outputs * width), stride if number == 0 else 1, factor or expansion
                        )
                    )
                    inputs = int(outputs * width)
            self.add_module(stage, nn.Sequential(*blocks))
        self.head = nn.Sequential(*convolution(inputs, last, 1), nn.ReLU())
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(last, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # by the kernel's size and all outputs, also for depthwise convolutions, as in the benchmark:
                # kaiming_normal_ would divide by the groups
                nn.init.normal_(module.weight, 0, (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        return self.classifier(self.embedding(self.head(x)))
