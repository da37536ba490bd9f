"""Taps: names for tensors inside any network, read through forward hooks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial

from torch import Tensor, nn

from kdlab.errors import InputError, did_you_mean

INPUT = ".input"


def own_taps(network: nn.Module) -> dict[str, str]:
    """The names that a network gives its modules itself: its attribute ``taps``, a dict of tap name -> dotted module path.

    They serve where the config names none; ``taps:`` of the config goes before them, name by name.
    """
    taps = getattr(network, "taps", None)
    return dict(taps) if isinstance(taps, Mapping) else {}


def stage_taps(network: nn.Module, aliases: Mapping[str, str] | None = None) -> list[str]:
    """The taps ``stage1``, ``stage2``, … of a network in their order: of its config, its own, or modules of those names."""
    names = {*(aliases or {}), *own_taps(network), *(name for name, _ in network.named_children())}
    return sorted((name for name in names if re.fullmatch(r"stage\d+", name)), key=lambda name: int(name.removeprefix("stage")))


class Taps:
    """Captures the outputs of named modules during one forward pass.

    A tap's name is looked up in ``aliases`` (the ``taps:`` of the model's config), then in the network's own (:func:`own_taps`), and is
    otherwise a dotted module path itself. A path that ends in ``.input`` is what goes into that module, not what comes out: so the last
    feature of any network has a name, ``fc.input``, although a function and no module may have made it.
    Hooks are there only inside the ``with`` block, and nothing is held behind it, so the network can be copied, compiled and
    saved as if it had no taps.

    Args:
        network: any module.
        names: the taps that the objective asks for.
        aliases: tap name -> dotted module path.

    Raises:
        InputError: a path does not exist; close ones are named.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with Taps(net, ["first"], {"first": "0"}) as features:
    ...     out = net(torch.ones(1, 2))
    >>> features["first"].shape
    torch.Size([1, 3])
    """

    def __init__(self, network: nn.Module, names: Iterable[str], aliases: Mapping[str, str] | None = None):
        modules = dict(network.named_modules())
        aliases = {**own_taps(network), **(aliases or {})}
        self._modules: dict[str, nn.Module] = {}
        inputs: set[str] = set()
        for name in sorted(set(names)):
            path = aliases.get(name, name)
            if path not in modules and path.endswith(INPUT):
                path = path.removesuffix(INPUT)
                inputs.add(name)
            if path not in modules or path == "":
                known = [*aliases, *(known for known in modules if known)]
                raise InputError(f"tap '{name}': {type(network).__name__} has no module '{path}'{did_you_mean(path, known)} "
                                 f"(taps are names in the model's 'taps:' or dotted module paths, for example "
                                 f"{', '.join(known[:8]) or 'none: the network has no submodule'})")
            self._modules[name] = modules[path]
        # one hook object a tap, made once: torch.compile guards on its identity
        self._hooks = {name: partial(self._keep_input if name in inputs else self._keep, name) for name in self._modules}
        self._handles: list = []
        self._features: dict[str, Tensor] = {}

    def _keep(self, name: str, module: nn.Module, inputs, output) -> None:
        """The hook: a tensor, or the first of several (transformers' modules answer with tuples and mappings)."""
        if isinstance(output, Mapping):
            output = next(iter(output.values()))
        elif isinstance(output, (tuple, list)):
            output = output[0]
        self._features[name] = output

    def _keep_input(self, name: str, module: nn.Module, inputs, output) -> None:
        if not inputs:
            raise InputError(f"tap '{name}': {type(module).__name__} is called with named arguments only, so '{INPUT}' cannot tell which one is meant")
        self._keep(name, module, None, inputs)

    def __enter__(self) -> dict[str, Tensor]:
        self._features = {}
        self._handles = [module.register_forward_hook(self._hooks[name]) for name, module in self._modules.items()]
        return self._features

    def __exit__(self, *exception) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._features = [], {}
