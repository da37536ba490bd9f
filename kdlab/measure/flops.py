"""Floating-point operations of a network."""

from __future__ import annotations

import copy
import warnings
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kdlab.models.calling import forward


def flops(network: nn.Module, inputs) -> int | None:
    """Floating-point operations of one forward pass in evaluation mode, as
    :class:`torch.utils.flop_counter.FlopCounterMode` counts them: those of matrix products, convolutions and attention,
    a multiplication with its addition being two. Half of that are the MACs that many papers call FLOPs. Additions of a
    bias, normalisations, activations and pooling are not counted.

    A copy on the CPU is asked, so that the network stays as it is, and the number does not depend on the device.

    Args:
        inputs: what the network reads; of one sample for the operations a sample.

    Returns:
        None where the network cannot be copied or asked so, or where it has parameters and none of its operations is
        one of those.

    >>> network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    >>> flops(network, torch.zeros(1, 1, 8, 8)), 2 * (4 * 36 * 9) + 2 * (144 * 10)
    (5472, 5472)
    """
    try:
        # a copy of a compiled module is not compiled, and so can be looked into
        asked = copy.deepcopy(network).cpu().eval()
        with torch.no_grad(), _countable(), FlopCounterMode(display=False) as counter:
            forward(asked, inputs)
        count = int(counter.get_total_flops())
    except Exception:  # a network of anyone's may fail in any way; that must not cost the run that it was trained in
        return None
    return count if count or not any(True for _ in network.parameters()) else None


@contextmanager
def _countable():
    """Fused attention and recurrent layers are taken apart into the matrix products that they are; the counter does not
    know them whole."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TF32 on Intel's GPUs, from the flags
            with sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
