"""Notes what was written last into the parameters of a network while it was built: random numbers, or copied
numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, UntypedStorage, nn
from torch.overrides import TorchFunctionMode

_RANDOM = frozenset(
    {
        "uniform_",
        "normal_",
        "trunc_normal_",
        "log_normal_",
        "exponential_",
        "cauchy_",
        "geometric_",
        "random_",
        "bernoulli_",
        "kaiming_uniform_",
        "kaiming_normal_",
        "xavier_uniform_",
        "xavier_normal_",
    }
)
_CONSTANT = frozenset({"zero_", "fill_", "zeros_", "ones_", "constant_"})
_DRAWN, _COPIED, _OTHER = "drawn", "copied", "other"


class Writes(TorchFunctionMode):
    """While it is active, it notes the last writing operation on every tensor. So a network's untrained parameters are
    known for certain, independent of the network's outputs: they hold numbers that an initialiser drew, and nothing
    overwrote them.

    Numbers that are scaled, shifted or clamped by constants (as in ``trunc_normal_``) still count as drawn. No result
    changes.

    >>> import torch
    >>> with Writes() as writes:
    ...     network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    ...     _ = network[0].load_state_dict({"weight": torch.ones(3, 2), "bias": torch.ones(3)})
    >>> writes.drawn(network), writes.not_copied(network)
    (['1.weight', '1.bias'], ['1.weight', '1.bias'])
    """

    def __init__(self) -> None:
        super().__init__()
        # a storage's number -> what was written, and the storage itself, so that its number is not used again
        self._last: dict[int, tuple[str, object]] = {}

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        result = function(*arguments, **(options or {}))
        name = getattr(function, "__name__", "")
        if (name.endswith("_") and not name.endswith("__")) or name in ("__set__", "__setitem__"):
            self._note(name, arguments, options or {})
        return result

    def _note(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        target, *rest = arguments or (options.get("tensor", options.get("self")),)
        foreign = next(_tensors((*rest, *options.values())), None) is not None if arguments else False
        kind = _DRAWN if name in _RANDOM else _COPIED if name in ("copy_", "set_") else _OTHER
        if kind == _OTHER and not foreign and name not in _CONSTANT:
            return
        for tensor in _tensors(target):
            storage = _storage(tensor)
            # zeros in one row (an embedding's padding) leave the other rows unchanged
            if storage is None or name in _CONSTANT and tensor.numel() * tensor.element_size() < storage.nbytes():
                continue
            self._last[storage._cdata] = kind, storage

    def _written(self, tensor: Tensor) -> str | None:
        storage = _storage(tensor)
        return None if storage is None else self._last.get(storage._cdata, (None,))[0]

    def drawn(self, network: nn.Module) -> list[str]:
        """The parameters that hold random numbers."""
        return [name for name, value in network.named_parameters() if self._written(value) == _DRAWN]

    def not_copied(self, network: nn.Module) -> list[str]:
        """The parameters and floating-point buffers of the state dict into which nothing was copied, that is those that
        loaded weights do not fill."""
        return [
            name
            for name, value in network.state_dict(keep_vars=True).items()
            if value.is_floating_point() and self._written(value) != _COPIED
        ]


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _storage(tensor: Tensor) -> UntypedStorage | None:
    try:
        return None if tensor.is_meta else tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # a sparse or lazy tensor has none
        return None
