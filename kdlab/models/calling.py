"""Calls a network on inputs that other networks read after it: a batch goes to student, teacher and peers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kdlab.errors import InputError

#: network -> its modes (training, with gradients) in which a pass has shown that it leaves its inputs alone
_LEAVES_ALONE: WeakKeyDictionary[nn.Module, set[tuple[bool, bool]]] = WeakKeyDictionary()


def forward(network: nn.Module, inputs: Any) -> Any:
    """``network(inputs)``, or ``network(**inputs)`` if the inputs are a mapping."""
    return network(**inputs) if isinstance(inputs, Mapping) else network(inputs)


def call(network: nn.Module, inputs: Any) -> Any:
    """:func:`forward`; the inputs do not change.

    A network may change its inputs in place (``x -= mean``, a first ``ReLU(inplace=True)``). So it gets a copy, until a
    pass in the same mode has shown that it leaves them alone.

    Raises:
        InputError: it changes them in a later pass alone, so that they are lost.

    >>> x = torch.ones(1, 2)
    >>> call(nn.Sequential(nn.Threshold(2, 0, inplace=True)), x), x
    (tensor([[0., 0.]]), tensor([[1., 1.]]))
    >>> class Sum(nn.Module):
    ...     def forward(self, first, second):
    ...         return first + second
    >>> call(Sum(), {"first": x, "second": x})
    tensor([[2., 2.]])
    """
    if isinstance(inputs, Tensor):
        named = {"": inputs}
    elif isinstance(inputs, Mapping):
        named = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    else:
        return network(inputs)
    mode, known = (network.training, torch.is_grad_enabled()), _LEAVES_ALONE.setdefault(network, set())
    trusted = mode in known
    given = named if trusted else {name: value.clone() for name, value in named.items()}
    # a tensor of inference mode has no version
    watched = not any(value.is_inference() for value in given.values())
    versions = {name: value._version for name, value in given.items()} if watched else {}
    answer = forward(network, given[""] if isinstance(inputs, Tensor) else {**inputs, **given})
    changed = any(given[name]._version != version for name, version in versions.items())
    if changed and trusted:
        known.discard(mode)
        raise InputError(
            f"{type(network).__name__} changed its inputs in place, and did not in its first pass, so the networks "
            "that read them after it get the wrong ones; let it make a new tensor (x = x - y in place of x -= y)"
        )
    if (
        watched
        and not changed
        and not trusted
        and all(torch.equal(given[name], value) for name, value in named.items())
    ):
        known.add(mode)
    return answer


def answer_of(network: nn.Module, inputs: Any) -> Any:
    """What a network returns, or its ``logits`` if it returns an object that has some."""
    answer = call(network, inputs)
    return answer if isinstance(answer, Tensor) else getattr(answer, "logits", answer)
