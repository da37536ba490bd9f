"""Finds the BatchNorm of a network that computed a pre-activation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import nn

from .taps import INPUT, own_taps

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def preceding_batch_norm(network: nn.Module, tap: str, aliases: Mapping[str, str] | None = None) -> BatchNorm:
    """The BatchNorm whose output is a tap, or is added to a shortcut to give the tap.

    For a tap on a BatchNorm, it is this BatchNorm. For the input of a module (``….relu.input``) in a Sequential, it is
    the module before. In any other block it is the block's last own BatchNorm (not one inside a shortcut), as in
    residual blocks.

    Args:
        network: the network of the tap.
        tap: a tap's name or a path.
        aliases: the ``taps:`` of the network's config.

    Raises:
        ValueError: there is none. The message shows how to name it.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    >>> preceding_batch_norm(net, "2.input") is net[1]
    True
    """
    path = {**own_taps(network), **(aliases or {})}.get(tap, tap)
    modules = dict(network.named_modules())
    found = modules.get(path)
    if found is None and path.endswith(INPUT):
        owner, _, name = path.removesuffix(INPUT).rpartition(".")
        parent = modules.get(owner)
        children = list(parent.named_children()) if parent is not None else []
        if isinstance(parent, nn.Sequential):
            names = [child for child, _ in children]
            children = children[: names.index(name)][-1:] if name in names else []
        found = next((module for _, module in reversed(children) if isinstance(module, BATCH_NORMS)), None)
    if not isinstance(found, BATCH_NORMS) or not found.affine:
        raise ValueError(
            f"no BatchNorm is known to make the teacher's '{tap}' ({path}); choose a pre-activation (preact1, … of "
            "kdlab's networks), or name the BatchNorms with teacher_norms"
        )
    return found
