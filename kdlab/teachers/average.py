"""Average: a copy of a network that follows it and teaches: a teacher that evolves."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average(nn.Module):
    r"""A copy of a network, :math:`\theta' \leftarrow d\,\theta' + (1 - d)\,\theta` behind every step. Tarvainen and Valpola (2017), "Mean
    teachers are better role models", https://arxiv.org/abs/1703.01780

    It is a registered module, saved with the strategy that owns it, and always in evaluation mode: its BatchNorm statistics are averaged
    with the weights, and not its own.

    Args:
        network: copied as it is now.
        decay: d, in [0, 1]. Early it is less, :math:`\min(d, 1 - 1 / (t + 1))` at step t (from 1), as in the authors' code, so that the first
            weights are soon forgotten.

    Raises:
        ValueError: the decay is out of its range.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> average = Average(net, decay=0.75)
    >>> for weight in (4.0, 8.0, 16.0, 16.0):
    ...     _ = net.weight.data.fill_(weight)
    ...     average.follow(net)
    ...     print(average.network.weight.item())
    4.0
    6.0
    9.333333015441895
    11.0
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__()
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        self.decay = float(decay)
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.eval()

    def train(self, mode: bool = True) -> Average:
        return super().train(False)

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Move towards the network's present weights and buffers; what is no floating-point number is copied."""
        decay = min(self.decay, 1 - 1 / (int(self.steps) + 1))
        mine, theirs = self.network.state_dict(), network.state_dict()
        for name, value in mine.items():
            if value.is_floating_point():
                value.lerp_(theirs[name].to(value.dtype), 1 - decay)
            else:
                value.copy_(theirs[name])
        self.steps += 1

    @torch.no_grad()
    def copy_of(self, network: nn.Module) -> None:
        """Take the network's present weights and buffers."""
        self.network.load_state_dict(network.state_dict())

    def forward(self, *inputs, **named):
        return self.network(*inputs, **named)
