"""Floating-point operations of a network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kdlab.models.calling import forward


def flops(network: nn.Module, inputs: Any) -> int | None:
    """Floating-point operations of one forward pass in evaluation mode, as
    :class:`torch.utils.flop_counter.FlopCounterMode` counts them: matrix products, convolutions and attention, with two
    operations for a multiplication and its addition. Half of this number are the MACs that many papers call FLOPs. Bias
    additions, normalisations, activations and pooling are not counted.

    The forward pass is run by a copy on the CPU, so the network is not changed, and the number does not depend on the
    device.

    Args:
        inputs: the network's inputs; those of one sample for the operations per sample.

    Returns:
        None if the network cannot be copied or run in this way, or if it has parameters but none of the counted
        operations.

    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    >>> flops(network, torch.zeros(1, 1, 8, 8)), 2 * (4 * 36 * 9) + 2 * (144 * 10)
    (5472, 5472)
    """
    try:
        # a copy of a compiled module is not compiled, so its operations can be counted
        asked = copy.deepcopy(network).cpu().eval()
        with torch.no_grad(), _countable(), FlopCounterMode(display=False) as counter:
            forward(asked, inputs)
        count = int(counter.get_total_flops())
    except Exception:  # a user's network may fail in any way; the finished run must not fail for it
        return None
    return count if count or not any(True for _ in network.parameters()) else None


@contextmanager
def _countable() -> Iterator[None]:
    """Splits fused attention and recurrent layers into their matrix products, since the counter does not know the fused
    operations."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TF32 on Intel's GPUs, from the flags
            with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
