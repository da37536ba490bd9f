"""The fusion of ReviewKD: Chen et al. (2021), "Distilling Knowledge via Knowledge Review",
https://arxiv.org/abs/2104.09044."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionFusion(nn.Module):
    """Maps a student's map to the common channels, adds the fused map of the deeper stages (two learned attention maps
    weight the two), and maps the sum to the teacher's channels.

    Args:
        inputs: channels of the student's map.
        middle: common channels.
        outputs: channels of the teacher's map.
        fuses: whether a deeper stage is added; False for the deepest.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, fuses: bool):
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle))
        self.leave = nn.Sequential(nn.Conv2d(middle, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.attention = nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid()) if fuses else None
        for layer in (self.enter[0], self.leave[0]):
            nn.init.kaiming_uniform_(cast(nn.Conv2d, layer).weight, a=1)

    def forward(self, x: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """``(map to compare with the teacher, map for the next stage)``, both of the teacher's height and width
        ``size``."""
        x = self.enter(x)
        if deeper is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            weights = cast(nn.Sequential, self.attention)(torch.cat([x, deeper], 1))
            x = x * weights[:, :1] + deeper * weights[:, 1:]
        if x.shape[2:] != torch.Size(size):
            x = F.interpolate(x, tuple(size), mode="nearest")
        return self.leave(x), x


class Review(nn.Module):
    """Fuses the stages of a student from deep to shallow.

    Args:
        student, teacher: shapes of the features of a sample, from shallow to deep; vectors ``(C,)`` are maps of one
            element.
        most: upper bound of the common channels, which are otherwise those of the deepest student feature.
    """

    def __init__(self, student: Sequence[Sequence[int]], teacher: Sequence[Sequence[int]], most: int = 512):
        super().__init__()
        middle, deepest = min(most, student[-1][0]), len(student) - 1
        self.fusions = nn.ModuleList(
            AttentionFusion(mine[0], middle, theirs[0], fuses=number < deepest)
            for number, (mine, theirs) in enumerate(zip(student, teacher))
        )
        self.sizes = [tuple(shape[1:]) or (1, 1) for shape in teacher]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The fused maps, from shallow to deep, to compare with the teacher's features."""
        made: list[Tensor] = []
        deeper = None
        for fusion, x, size in reversed(list(zip(self.fusions, features, self.sizes))):
            out, deeper = fusion(as_map(x), deeper, size)
            made.insert(0, out)
        return made


def as_map(x: Tensor) -> Tensor:
    """Vectors ``(B, C)`` as maps of one element."""
    return x[:, :, None, None] if x.dim() == 2 else x
