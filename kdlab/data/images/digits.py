"""Digits: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn; nothing is downloaded.

Alpaydin and Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI repository (its test part).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .memory import Images, InMemoryData


class Digits(InMemoryData):
    """The stored order is scikit-learn's; every fifth image is test (359 of them), the rest is train (1,438)."""

    CLASSES = 10
    SHAPE = (1, 8, 8)
    SCALE, MEAN, STD = 16.0, 0.3058, 0.3764

    def read(self) -> tuple[Images, Images]:
        """The stored (train, test) images: uint8, (1438, 1, 8, 8) and (359, 1, 8, 8), with values from 0 to 16."""
        images, labels = _stored()
        images = images.reshape(-1, *self.SHAPE)
        test = torch.arange(len(labels)) % 5 == 4
        return Images(images[~test], labels[~test]), Images(images[test], labels[test])


@cache
def _stored() -> tuple[Tensor, Tensor]:
    """Images and labels in their stored order: read from compressed text once per process, which takes as long as a
    pass over them."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images).to(torch.uint8), torch.from_numpy(labels).long()
