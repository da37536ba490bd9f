"""Taps: names for tensors inside any network, read through forward hooks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdlab.errors import InputError, did_you_mean

INPUT = ".input"
#: the end of a path that takes a part of the output: an item of a tuple, and a range of the last dimension
_PART = re.compile(r"(?:\[(\d+)\])?(?:\[(\d+):(\d+)\])?$")


def split_path(path: str) -> tuple[str, int, slice | None]:
    """A tap's path without its selection; the item of the module's output; and the range of the last dimension.

    >>> split_path("attention.self[1]"), split_path("attn.Wqkv[16:32]"), split_path("fc.input")
    (('attention.self', 1, None), ('attn.Wqkv', 0, slice(16, 32, None)), ('fc.input', 0, None))
    """
    part = cast(re.Match, _PART.search(path))  # it may be empty
    item, first, last = part.groups()
    return path[: part.start()], int(item or 0), None if first is None else slice(int(first), int(last))


def own_taps(network: nn.Module) -> dict[str, str]:
    """The tap names that a network defines itself: its attribute ``taps``, a dict of tap name -> path, as
    :class:`Taps` reads it.

    A network may also have a method ``taps_asked(paths)``, which is called with the paths that are read.

    For each name, ``taps:`` of the config takes precedence.
    """
    taps = getattr(network, "taps", None)
    return dict(taps) if isinstance(taps, Mapping) else {}


def stage_taps(network: nn.Module, aliases: Mapping[str, str] | None = None) -> list[str]:
    """The taps ``stage1``, ``stage2``, … of a network, in order: from its config, from its own taps, or modules with
    these names."""
    names = {*(aliases or {}), *own_taps(network), *(name for name, _ in network.named_children())}
    return sorted(
        (name for name in names if re.fullmatch(r"stage\d+", name)), key=lambda name: int(name.removeprefix("stage"))
    )


class Taps:
    """Captures the outputs of named modules during one forward pass, with their values at that moment.

    A tap's name is looked up in ``aliases`` (the ``taps:`` of the model's config), then in the network's own taps
    (:func:`own_taps`). Otherwise it is a dotted module path. A path that ends in ``.input`` stands for the module's
    input instead of its output. So the last feature of any network has a name, ``fc.input``, even if a function
    computed it and not a module. If a module returns a tuple or mapping, its first item is kept; ``path[1]`` stands for
    the second. ``path[16:32]`` is a range of the output's last dimension, for example one of several projections that a
    single linear layer computes. Hooks exist only inside the ``with`` block, and nothing is kept after it, so the
    network can be copied, compiled and saved as if it had no taps. If a module is called several times, its last output
    is kept.

    An in-place operation (``ReLU(inplace=True)``, a residual ``+=``) changes a tensor that a tap already holds. So a
    tap clones its tensor until a pass in the same mode (training or evaluation, with or without gradients) has shown
    that nothing changes it. The check reads the tensor's version counter, which views share, and its values, since
    ``.data`` bypasses the counter. After this pass, only the tensors that something changes are cloned. Gradients flow
    through the clone. A compiled network is not checked: it clones according to the passes before its compilation.

    Args:
        network: any module.
        names: the taps that the objective reads.
        aliases: tap name -> dotted module path.

    Raises:
        InputError: a path does not exist; the message names similar ones. On leaving the block: a tensor was changed in
            place that was not changed in the first pass, so its value is lost.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    >>> with Taps(net, ["first"], {"first": "0"}) as features:
    ...     out = net(-torch.ones(1, 2))
    >>> features["first"].shape, torch.equal(features["first"].relu(), out), features["first"] is out
    (torch.Size([1, 3]), True, False)
    """

    def __init__(self, network: nn.Module, names: Iterable[str], aliases: Mapping[str, str] | None = None):
        modules = dict(network.named_modules())
        aliases = {**own_taps(network), **(aliases or {})}
        self._network, self._modules = network, {}
        self._inputs: set[str] = set()
        #: which item of a module's output is kept, and which range of its last dimension
        self._parts: dict[str, tuple[int, slice | None]] = {}
        paths = {name: aliases.get(name, name) for name in sorted(set(names))}
        for name, whole in paths.items():
            path, item, columns = split_path(whole)
            self._parts[name] = item, columns
            if path not in modules and path.endswith(INPUT):
                path = path.removesuffix(INPUT)
                self._inputs.add(name)
            if path not in modules or path == "":
                known = [*aliases, *(known for known in modules if known)]
                raise InputError(
                    f"tap '{name}': {type(network).__name__} has no module '{path}'{did_you_mean(path, known)} "
                    f"(taps are names in the model's 'taps:' or dotted module paths, for example "
                    f"{', '.join(known[:8]) or 'none: the network has no submodule'})"
                )
            self._modules[name] = modules[path]
        if paths and callable(asked := getattr(network, "taps_asked", None)):
            asked(list(paths.values()))
        # two hook objects per tap, created once: torch.compile guards on their identity
        kept = {name: self._keep_input if name in self._inputs else self._keep for name in self._modules}
        self._hooks = {
            (name, cloning): partial(keep, name, cloning) for name, keep in kept.items() for cloning in (False, True)
        }
        #: the taps whose tensors nothing changes, with the mode of the pass that has shown it
        self._left_alone: set[tuple[str, bool, bool]] = set()
        self._mode = (False, False)
        self._handles: list[RemovableHandle] = []
        self._features: dict[str, Tensor] = {}
        #: for each tap that is checked: the module's own tensor, and its version when it was captured
        self._watched: dict[str, tuple[Tensor, int]] = {}

    def _keep(self, name: str, cloning: bool, module: nn.Module, inputs: Any, output: Any) -> None:
        """The hook: keeps the output, or one of several (modules of transformers return tuples and mappings)."""
        item, columns = self._parts[name]
        if isinstance(output, Mapping):
            output = list(output.values())
        if isinstance(output, (tuple, list)):
            if item >= len(output) or (item and output[item] is None):
                raise InputError(
                    f"tap '{name}': {type(module).__name__} returns no item {item}; attention probabilities of "
                    "transformers need attn_implementation='eager'"
                )
            output = output[item]
        elif item:
            raise InputError(f"tap '{name}': {type(module).__name__} returns one tensor, so there is no item {item}")
        if columns is not None:
            if output.shape[-1] < columns.stop:
                raise InputError(
                    f"tap '{name}': {type(module).__name__} returns {output.shape[-1]} columns, so there is no range "
                    f"{columns.start}:{columns.stop}"
                )
            output = output[..., columns]
        self._features[name] = output
        if not isinstance(output, Tensor):
            self._watched.pop(name, None)
            return
        if cloning:
            self._features[name] = output.clone()
        # a tensor of inference mode has no version
        if not torch.compiler.is_compiling() and not output.is_inference():
            self._watched[name] = output, output._version

    def _keep_input(self, name: str, cloning: bool, module: nn.Module, inputs: Any) -> None:
        """The hook of a ``.input``. It runs before the module is called, which may change its input."""
        if not inputs:
            raise InputError(
                f"tap '{name}': {type(module).__name__} is called with named arguments only, so '{INPUT}' does not "
                "define which one is meant"
            )
        self._keep(name, cloning, module, None, inputs)

    def __enter__(self) -> dict[str, Tensor]:
        self._features, self._watched, self._handles = {}, {}, []
        self._mode = self._network.training, torch.is_grad_enabled()
        for name, module in self._modules.items():
            hook = self._hooks[name, (name, *self._mode) not in self._left_alone]
            register = module.register_forward_pre_hook if name in self._inputs else module.register_forward_hook
            self._handles.append(register(hook))
        return self._features

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        features, watched = self._features, self._watched
        self._handles, self._features, self._watched = [], {}, {}
        if kind is None:
            for name, (tensor, version) in watched.items():
                self._settle(name, features, tensor, changed=tensor._version != version)

    def _settle(self, name: str, features: dict[str, Tensor], tensor: Tensor, changed: bool) -> None:
        """Evaluates the pass for one tap: a clone that was not needed is replaced by the tensor itself."""
        kept, place = features[name], (name, *self._mode)
        if kept is tensor:
            if changed:
                self._left_alone.discard(place)
                raise InputError(
                    f"tap '{name}': {type(self._network).__name__} changed this tensor in place, but not in its first "
                    "pass, so its value is lost; let the operation create a new tensor "
                    "(inplace=False, x = x + y in place of x += y)"
                )
        elif not changed and _same(kept, tensor):
            self._left_alone.add(place)
            features[name] = tensor


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values; False if they hold NaN or cannot be compared (sparse, nested)."""
    try:
        return torch.equal(one.detach(), other.detach())
    except (RuntimeError, NotImplementedError):
        return False
