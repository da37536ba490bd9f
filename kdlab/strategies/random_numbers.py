"""The states of torch's random number generators: what a run that is resumed inside an epoch continues with."""

from __future__ import annotations

import torch
from torch import Tensor


def states(device: torch.device) -> dict[str, Tensor]:
    """The generators' states by the type of device: that of the CPU, and that of ``device``.

    >>> before = states(torch.device("cpu"))
    >>> drawn = torch.rand(3)
    >>> restore(before)
    >>> torch.equal(torch.rand(3), drawn)
    True
    """
    found = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        found[device.type] = getattr(torch, device.type).get_rng_state()
    return found


def restore(found: dict[str, Tensor]) -> None:
    """Set the generators to these states. A device that is not here is left out: the bits of a run are promised for one
    kind of device alone."""
    for kind, state in found.items():
        if kind == "cpu":
            torch.set_rng_state(state.cpu())
        elif getattr(torch, kind).is_available():
            getattr(torch, kind).set_rng_state(state.cpu())
