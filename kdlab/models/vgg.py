"""VGG for small images: Simonyan and Zisserman (2015), "Very Deep Convolutional Networks",
https://arxiv.org/abs/1409.1556."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 512)
#: depth -> convolutions of each stage. 8 is not in the paper: it is the CRD benchmark's student, with one convolution
#: per stage. 16 and 19 are the paper's D and E.
CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """VGG with BatchNorm as in the CRD benchmark (Tian et al. 2020, https://arxiv.org/abs/1910.10699).

    Differences from the paper: BatchNorm follows every convolution (convolutions keep their biases), the map is halved
    only after the first three stages, and the mean over the map and one linear layer replace the three fully connected
    layers. The name counts these three, so VGG 8 has five convolutions.

    Args:
        classes: number of classes.
        depth: 8, 11, 13, 16 or 19.
        channels: channels of the input.

    Taps: ``stage1`` … ``stage5``, after the last ReLU of the stage and before the pooling (64, 128, 256, 512, 512
    channels; at 32 x 32 the maps are 32, 16, 8, 4 and 4 wide), ``preact1`` … ``preact5`` the input of that ReLU,
    ``embedding`` the pooled 512 features. The input must be at least 8 x 8.

    Parameters with 100 classes: vgg8 3,965,028; vgg11 9,277,284; vgg13 9,462,180; vgg16 14,774,436; vgg19 20,086,692.

    Raises:
        ValueError: the depth is not one of these.

    >>> sum(p.numel() for p in VGG(classes=100, depth=8).parameters())
    3965028
    """

    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential
    stage4: nn.Sequential
    stage5: nn.Sequential

    def __init__(self, classes: int, depth: int, channels: int = 3):
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise ValueError(f"depth must be one of {', '.join(map(str, CONVOLUTIONS))}, got {depth}")
        for number, (count, width) in enumerate(zip(CONVOLUTIONS[depth], WIDTHS), start=1):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            self.add_module(f"stage{number}", nn.Sequential(*layers))
        self.taps = {
            f"preact{number}": f"stage{number}.{3 * count - 1}.input"
            for number, count in enumerate(CONVOLUTIONS[depth], start=1)
        }
        self.halve = nn.MaxPool2d(2)
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(WIDTHS[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, channels, H, W)``."""
        x = self.halve(self.stage1(x))
        x = self.halve(self.stage2(x))
        x = self.halve(self.stage3(x))
        return self.classifier(self.embedding(self.stage5(self.stage4(x))))
