"""Data and a loss of any size, for growth.py."""

from __future__ import annotations

import torch

from kdlab.data import Images, InMemoryData
from kdlab.losses import Loss


class Noise(InMemoryData):
    """Images of 8 x 8 pixels: a random pattern for each class, with a little noise.

    Args:
        count: of samples that are stored for training.
        categories: number of classes.
        options: those of every data set.
    """

    SHAPE = (1, 8, 8)

    def __init__(self, count: int = 2000, categories: int = 10, **options):
        self.CLASSES, self.count = categories, count
        super().__init__(**options)

    def read(self) -> tuple[Images, Images]:
        draw = torch.Generator().manual_seed(0)
        patterns, parts = torch.randn(self.CLASSES, *self.SHAPE, generator=draw), []
        for count in (self.count, max(256, self.CLASSES)):
            target = torch.arange(count) % self.CLASSES
            noise = torch.randn(count, *self.SHAPE, generator=draw)
            parts.append(Images(patterns[target] + 0.1 * noise, target))
        return parts[0], parts[1]


class SecondView(Loss):
    """Squared difference of the logits of two augmented views, one value a row."""

    views = 2

    def forward(self, student, teacher, batch):
        return (student.logits - student.second.logits).square().mean(1)
