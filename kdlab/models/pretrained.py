"""What pretrained weights fill of a network that is built with them, and what they leave as its constructor made it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import nn

from kdlab.errors import shortened


def note_weights(
    network: nn.Module, model: str, classes: int | None, unfilled: Iterable[str], head: Collection[str]
) -> None:
    """Note on a network, as its attribute ``pretrained_weights``, what its weights do not fill. The head is new where
    they know other classes; nothing but the head may be.

    Args:
        classes: that the weights know; None: they have no head.
        unfilled: names in the state dict that the weights do not fill.
        head: the modules of the head, by their paths.

    Raises:
        ValueError: they leave something else unfilled.
    """
    unfilled = list(unfilled)
    others = [name for name in unfilled if not any(name == path or name.startswith(f"{path}.") for path in head)]
    if others:
        raise ValueError(
            f"the weights of '{model}' do not fill {shortened(others)}, which would stay as the constructor "
            "made it; options that change the network ask for other weights, or for pretrained=false"
        )
    network.pretrained_weights = {"classes": classes, "unfilled": unfilled}


def refuse_own(options: Mapping | None, own: Mapping[str, str]) -> None:
    """Refuse options that kdlab gives by keys of their own.

    Args:
        own: the library's name of each -> kdlab's key, or why it is not to be given.

    Raises:
        ValueError: one of them is among the options.
    """
    for name in options or {}:
        if name in own:
            raise ValueError(f"options.{name}: kdlab gives this argument itself ({own[name]}); leave it out of options")
