"""Augmentation of image batches, as a function of (seed, epoch, view, index)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.counter import counter_uniform

_SHIFT_DOWN, _SHIFT_RIGHT, _FLIP = 11, 12, 13  # one stream of random numbers each


class Augment:
    """Random crop of the zero-padded image and random horizontal flip, for whole batches at once.

    Args:
        crop_padding: pixels of padding on every side before the crop of the original size; 0 is no crop.
        flip: probability of mirroring an image left to right.
    """

    def __init__(self, crop_padding: int = 0, flip: float = 0.0):
        if crop_padding < 0:
            raise ValueError(f"crop_padding must not be negative, got {crop_padding}")
        if not 0 <= flip <= 1:
            raise ValueError(f"flip must be a probability, got {flip}")
        self.crop_padding, self.flip = int(crop_padding), float(flip)

    @property
    def draws(self) -> bool:
        """Whether it changes anything. A class that derives from this one and augments in its own way does."""
        return bool(self.crop_padding or self.flip) or type(self).__call__ is not Augment.__call__

    def __call__(self, images: Tensor, index: Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
        """Augmented ``images`` (B, C, H, W); ``index`` (B,) names the samples."""
        if self.crop_padding:
            images = self._crop(images, index, seed, epoch, view)
        if self.flip:
            mirrored = counter_uniform(index, seed, epoch, view, _FLIP) < self.flip
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images

    def _crop(self, images: Tensor, index: Tensor, *key: int) -> Tensor:
        count, channels, height, width = images.shape
        places = 2 * self.crop_padding + 1
        down = (counter_uniform(index, *key, _SHIFT_DOWN) * places).long()
        right = (counter_uniform(index, *key, _SHIFT_RIGHT) * places).long()
        padded = F.pad(images, [self.crop_padding] * 4)
        rows = down[:, None] + torch.arange(height, device=images.device)
        columns = right[:, None] + torch.arange(width, device=images.device)
        sample = torch.arange(count, device=images.device)[:, None, None, None]
        channel = torch.arange(channels, device=images.device)[None, :, None, None]
        return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
