"""The order of a network's weights in memory."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn


def use_channels_last(module: nn.Module) -> None:
    """Lay out all weights of four dimensions (those of convolutions of images) with the channels last. A convolution
    then computes and returns images in this layout, whatever the layout of its input. Names and shapes stay.

    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    >>> use_channels_last(network)
    >>> network[0](torch.randn(2, 3, 3, 3)).is_contiguous(memory_format=torch.channels_last)
    True
    """
    for value in chain(module.parameters(), module.buffers()):
        if value.dim() == 4:
            value.data = value.data.contiguous(memory_format=torch.channels_last)
