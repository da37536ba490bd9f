"""Copies of a network that teach it: its earlier weights, or an average of its weights. They change during training."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Copy(nn.Module):
    """A copy of a network, without gradients and always in evaluation mode. Its BatchNorm statistics are copied with
    the weights, and not updated by the copy itself.

    It is a registered module and saved with the strategy that owns it. If the strategy is trained in half precision,
    the copy and its inputs stay in at least float32: in half precision, the small steps of an average would be rounded
    away.

    Args:
        network: the network to copy, in its current state.

    >>> net = nn.Linear(1, 1)
    >>> copied = Copy(net).train().to(torch.bfloat16)
    >>> copied.network.training, copied.network.weight.dtype, copied.network(torch.ones(1, 1,
    ...     dtype=torch.bfloat16)).dtype
    (False, torch.float32, torch.float32)
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.network.register_forward_pre_hook(_as_wide_as_the_weights)
        self.eval()

    def train(self, mode: bool = True) -> Copy:
        """Stays in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Copy:
        def kept_wide(value: Tensor) -> Tensor:
            changed = fn(value)
            half = changed.is_floating_point() and changed.element_size() < 4
            return value.to(changed.device, torch.promote_types(value.dtype, torch.float32)) if half else changed

        return super()._apply(kept_wide, recurse)

    @torch.no_grad()
    def take(self, network: nn.Module) -> None:
        """Copies the network's current weights and buffers."""
        self.network.load_state_dict(network.state_dict())


def _as_wide_as_the_weights(network: nn.Module, inputs: tuple) -> tuple:
    """The hook of a copy in float32 whose strategy gets inputs in half precision. Only narrower inputs are
    converted."""
    wanted = next((value.dtype for value in network.parameters() if value.is_floating_point()), torch.float32)
    return tuple(
        x.to(wanted) if isinstance(x, Tensor) and x.is_floating_point() and x.element_size() < wanted.itemsize else x
        for x in inputs
    )


class Average(Copy):
    r"""A copy that follows the network, :math:`\theta' \leftarrow d\,\theta' + (1 - d)\,\theta` after every step.
    Tarvainen and Valpola (2017), "Mean teachers are better role models", https://arxiv.org/abs/1703.01780. BatchNorm's
    statistics are averaged with the weights (in the authors' code the average has its own statistics, from a forward
    pass in train mode).

    Args:
        network: the network to copy, in its current state.
        decay: d, in [0, 1]. At step t (from 1) it is :math:`\min(d, 1 - 1 / (t + 1))`, as in the authors' code
            (https://github.com/CuriousAI/mean-teacher, ``update_ema_variables``). So the average starts as the plain
            mean of all weights so far, including the initial ones.

    Raises:
        ValueError: the decay is out of its range.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = net.weight.data.fill_(2.0)
    >>> average = Average(net, decay=0.75)
    >>> for weight in (4.0, 9.0, 5.0, 9.0):
    ...     _ = net.weight.data.fill_(weight)
    ...     average.follow(net)
    ...     print(round(average.network.weight.item(), 5))
    3.0
    5.0
    5.0
    6.0
    """

    steps: Tensor

    def __init__(self, network: nn.Module, decay: float):
        super().__init__(network)
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}")
        self.decay = float(decay)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """Moves towards the network's current weights and buffers; values that are not floating-point numbers are
        copied."""
        self.steps += 1
        step = 1 / (self.steps.to(torch.float64) + 1)
        towards = step.clamp(min=1 - self.decay)  # one minus the decay, as a tensor, so that a GPU need not wait
        mine, theirs = self.network.state_dict(), network.state_dict()
        moved: set[int] = set()  # embeddings and head may be one tensor under two names
        for name, value in mine.items():
            if value.numel() and value.data_ptr() in moved:
                continue
            moved.add(value.data_ptr())
            if value.is_floating_point():
                value.lerp_(theirs[name].to(value.dtype), towards.to(value.dtype))
            else:
                value.copy_(theirs[name])
