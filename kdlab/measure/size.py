"""The size of a network's file."""

from __future__ import annotations

from torch import nn


def checkpoint_bytes(network: nn.Module) -> int:
    """Bytes of a safetensors file with a network's weights and buffers in their data types, without optimiser and
    connectors. Tied weights count once.

    >>> network = nn.Linear(100, 10, bias=False)
    >>> checkpoint_bytes(network) - 4 * 100 * 10          # the header: names, types, shapes
    80
    """
    from safetensors.torch import save

    once = {
        (value.data_ptr(), value.shape, value.stride()): (name, value) for name, value in network.state_dict().items()
    }
    # copies: views of one tensor may overlap
    return len(save({name: value.cpu().clone().contiguous() for name, value in once.values()}))
