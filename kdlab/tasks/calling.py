"""Calling a network on inputs that others read after it: the same batch goes to student, teacher and peers."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kdlab.errors import InputError

#: network -> its modes (training, with gradients) in which a pass has shown that it leaves its inputs alone
_LEAVES_ALONE: WeakKeyDictionary[nn.Module, set[tuple[bool, bool]]] = WeakKeyDictionary()


def call(network: nn.Module, inputs):
    """``network(inputs)``; the inputs are afterwards as they were.

    A network may change its inputs in place (``x -= mean``, a first ``ReLU(inplace=True)``). So it gets a copy, until a
    pass in the same mode has shown that it leaves them alone.

    Raises:
        InputError: it changes them in a later pass alone, so that they are lost.

    >>> x = torch.ones(1, 2)
    >>> call(nn.Sequential(nn.Threshold(2, 0, inplace=True)), x), x
    (tensor([[0., 0.]]), tensor([[1., 1.]]))
    """
    if not isinstance(inputs, Tensor):
        return network(inputs)
    mode, known = (network.training, torch.is_grad_enabled()), _LEAVES_ALONE.setdefault(network, set())
    given = inputs if mode in known else inputs.clone()
    watched = not given.is_inference()  # a tensor of inference mode has no version
    version = given._version if watched else None
    answer = network(given)
    changed = watched and given._version != version
    if changed and given is inputs:
        known.discard(mode)
        raise InputError(
            f"{type(network).__name__} changed its inputs in place, and did not in its first pass, so the networks "
            "that read them after it get the wrong ones; let it make a new tensor (x = x - y in place of x -= y)"
        )
    if watched and not changed and torch.equal(given, inputs):
        known.add(mode)
    return answer
