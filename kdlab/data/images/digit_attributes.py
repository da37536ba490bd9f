"""DigitAttributes: the digits with three labels each, for multi-label classification."""

from __future__ import annotations

import torch
from torch import Tensor

from .digits import Digits
from .memory import Images, InMemory

#: digits whose usual form encloses an area
LOOPS = (0, 6, 8, 9)


class DigitAttributes(InMemory):
    """The images and splits of :class:`Digits` with three labels, each 0 or 1 (``task=multilabel``): whether the digit
    is even, whether it is above 4, and whether it has a loop (0, 6, 8, 9)."""

    CLASSES = 3
    SHAPE, SCALE, MEAN, STD = Digits.SHAPE, Digits.SCALE, Digits.MEAN, Digits.STD

    def read(self) -> tuple[Images, Images]:
        """The stored (train, test) images with labels (1438, 3) and (359, 3)."""
        train, test = Digits().read()
        return Images(train.inputs, _attributes(train.target)), Images(test.inputs, _attributes(test.target))


def _attributes(digits: Tensor) -> Tensor:
    """The three labels of each digit.

    >>> _attributes(torch.tensor([0, 5, 9])).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    """
    loops = torch.isin(digits, torch.tensor(LOOPS))
    return torch.stack([digits % 2 == 0, digits > 4, loops], dim=1).float()
