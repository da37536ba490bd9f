"""From an image of any size to one of a given size: the random crop of training, the centre crop of evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from kdlab.counter import counter_uniform

_AREA, _RATIO, _ACROSS, _DOWN, _FLIP = 21, 22, 23, 24, 25  # one stream of random numbers each
_ATTEMPTS = 10

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


class RandomResizedCrop:
    """A random part of random shape, resized to a square, and a random horizontal flip, as a function of (seed, epoch,
    view, index).

    Szegedy et al. (2015), "Going Deeper with Convolutions", https://arxiv.org/abs/1409.4842, with the numbers of the
    ImageNet recipes: the area is uniform in ``scale``, the logarithm of width over height uniform in that of ``ratio``;
    a box that does not fit the image is drawn again, ten times, then the largest centred one of an allowed ratio is
    taken.

    Args:
        scale: smallest and largest part of the area.
        ratio: smallest and largest width over height.
        flip: probability of mirroring left to right.
    """

    def __init__(
        self, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3), flip: float = 0.5
    ):
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two parts of the area, the smaller first, got {list(scale)}")
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be two ratios of width over height, the smaller first, got {list(ratio)}")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip must be a probability, got {flip}")
        self.scale, self.ratio, self.flip = tuple(map(float, scale)), tuple(map(float, ratio)), float(flip)

    def draw(self, index: Tensor, seed: int, epoch: int, view: int = 0) -> list[list[float]]:
        """Uniform numbers for each entry of ``index`` (B,): one for the flip, four an attempt."""
        key = (seed, epoch, view)
        columns = [counter_uniform(index, *key, _FLIP)]
        columns += [
            counter_uniform(index, *key, stream, attempt)
            for attempt in range(_ATTEMPTS)
            for stream in (_AREA, _RATIO, _ACROSS, _DOWN)
        ]
        return torch.stack(columns, 1).tolist()

    def box(self, drawn: list[float], width: int, height: int) -> tuple[Box, bool]:
        """The part of an image of that size, and whether it is mirrored. ``drawn``: its numbers."""
        mirrored = drawn[0] < self.flip
        logarithms = math.log(self.ratio[0]), math.log(self.ratio[1])
        for attempt in range(_ATTEMPTS):
            area, ratio, across, down = drawn[1 + 4 * attempt : 5 + 4 * attempt]
            area = width * height * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            ratio = math.exp(logarithms[0] + ratio * (logarithms[1] - logarithms[0]))
            wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < high <= height:
                left, top = int(across * (width - wide + 1)), int(down * (height - high + 1))
                return (left, top, left + wide, top + high), mirrored
        wide = min(width, round(height * self.ratio[1]))
        high = min(height, round(width / self.ratio[0]))
        return _centred(width, height, max(wide, 1), max(high, 1)), mirrored


def _centred(width: int, height: int, wide: int, high: int) -> Box:
    left, top = round((width - wide) / 2), round((height - high) / 2)
    return left, top, left + wide, top + high


def cropped(image: Image.Image, box: Box, size: int, mirrored: bool = False) -> Image.Image:
    """The part of an image in a box, resized to ``size`` x ``size`` pixels (bilinear over all pixels that a new one
    covers)."""
    image = image.crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image


def centre_cropped(image: Image.Image, resize: int, size: int) -> Image.Image:
    """The centre, ``size`` x ``size``, of the image whose shorter side was resized to ``resize`` pixels."""
    width, height = image.size
    shorter = min(width, height)
    image = image.resize((resize * width // shorter, resize * height // shorter), Image.Resampling.BILINEAR)
    return image.crop(_centred(*image.size, size, size))
