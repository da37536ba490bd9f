"""Wide residual networks: Zagoruyko and Komodakis (2016), "Wide Residual Networks",
https://arxiv.org/abs/1605.07146."""

from __future__ import annotations

from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """Twice BatchNorm, ReLU and 3x3 convolution, with dropout between the convolutions. No ReLU follows the sum with
    the shortcut.

    If the shape changes, the shortcut is a 1x1 convolution of the *activated* input; otherwise it is the input itself.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``, rounded up."""
        active = self.relu(self.bn1(x))
        y = self.conv2(self.dropout(self.relu(self.bn2(self.conv1(active)))))
        return y + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-width, with three stages of (depth - 4) / 6 blocks of 16, 32 and 64 times ``width`` channels.

    Args:
        classes: number of classes.
        depth: 6n + 4, for example 16, 22, 28 or 40.
        width: the paper's k, the factor on the channels of the stages.
        channels: channels of the input.
        dropout: probability of dropping a value between the two convolutions of a block.

    Taps: ``stem``; ``stage1``, ``stage2``, ``stage3`` are the sums at the end of the stages, before the ReLU, which is
    in the next block (RepDistiller's features are the same sums); ``preact1``, ``preact2``, ``preact3`` are these sums
    after the next BatchNorm, that is the input of the next ReLU; ``activation`` is the output of the last BatchNorm and
    ReLU; ``embedding`` its mean, of 64 times width. At 32 x 32 the maps of the stages are 32, 16 and 8 wide.

    Parameters with 100 classes: wrn_16_1 180,916; wrn_16_2 703,284; wrn_40_1 569,780; wrn_40_2 2,255,156.

    Raises:
        ValueError: the depth is not 6n + 4, or the width is below 1.

    >>> sum(p.numel() for p in WideResNet(classes=100, depth=16, width=2).parameters())
    703284
    """

    def __init__(self, classes: int, depth: int, width: int = 1, channels: int = 3, dropout: float = 0.0):
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, 34, 40), got {depth}")
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"width must be a whole number of at least 1, the factor on the channels, got {width}")
        blocks, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.stage1 = self._stage(widths[0], widths[1], blocks, 1, dropout)
        self.stage2 = self._stage(widths[1], widths[2], blocks, 2, dropout)
        self.stage3 = self._stage(widths[2], widths[3], blocks, 2, dropout)
        self.activation = nn.Sequential(nn.BatchNorm2d(widths[3]), nn.ReLU())
        self.taps = {"preact1": "stage2.0.bn1", "preact2": "stage3.0.bn1", "preact3": "activation.0"}
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(widths[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.classifier.bias)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int, dropout: float) -> nn.Sequential:
        first = PreActivationBlock(inputs, outputs, stride, dropout)
        return nn.Sequential(first, *(PreActivationBlock(outputs, outputs, 1, dropout) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        return self.classifier(self.embedding(self.activation(x)))
