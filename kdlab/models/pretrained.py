"""Notes which parameters of a network its pretrained weights fill, and which keep their initial values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from torch import nn

from kdlab.errors import shortened


def note_weights(
    network: nn.Module, model: str, classes: int | None, unfilled: Iterable[str], head: Collection[str]
) -> None:
    """Notes on a network, as its attribute ``pretrained_weights``, what its weights do not fill. The head is new if the
    weights have other classes. Nothing else may be new.

    Args:
        classes: number of classes of the weights; None: they have no head.
        unfilled: names in the state dict that the weights do not fill.
        head: the modules of the head, by their paths.

    Raises:
        ValueError: they leave other parameters unfilled.
    """
    unfilled = list(unfilled)
    others = [name for name in unfilled if not any(name == path or name.startswith(f"{path}.") for path in head)]
    if others:
        raise ValueError(
            f"the weights of '{model}' do not fill {shortened(others)}, which would keep its initial values; options "
            "that change the network need other weights, or pretrained=false"
        )
    cast(Any, network).pretrained_weights = {"classes": classes, "unfilled": unfilled}


def refuse_own(options: Mapping[str, Any] | None, own: Mapping[str, str]) -> None:
    """Refuses options for which kdlab has its own keys.

    Args:
        own: the library's name of each option -> kdlab's key, or the reason why it cannot be set.

    Raises:
        ValueError: one of them is among the options.
    """
    for name in options or {}:
        if name in own:
            raise ValueError(f"options.{name}: kdlab gives this argument itself ({own[name]}); leave it out of options")
