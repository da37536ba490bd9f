"""Whether named weights fit a network, and how they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

MOST_NAMED = 2


def misfits(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """How a file's weights differ from a network's: names that only one of them has, and shapes. Empty if they fit.

    >>> import torch
    >>> misfits({"a": torch.ones(2), "c": torch.ones(1)}, {"a": torch.ones(3), "b": torch.ones(1)})
    "'a' is (2,) in the file and (3,) in the network; 'b' is not in the file; 'c' is only in the file"
    """
    kinds = (
        [
            f"'{name}' is {tuple(weights[name].shape)} in the file and {tuple(value.shape)} in the network"
            for name, value in expected.items()
            if name in weights and weights[name].shape != value.shape
        ],
        [f"'{name}' is not in the file" for name in expected if name not in weights],
        [f"'{name}' is only in the file" for name in weights if name not in expected],
    )
    named = [text for kind in kinds for text in kind[:MOST_NAMED]]
    return "; ".join(named) + ("; …" if len(named) < sum(map(len, kinds)) else "")


@dataclass
class OtherClasses:
    """A head of another number of classes: ``theirs`` in the weights, ``ours`` in the network, and the ``names`` of its
    parameters."""

    theirs: int
    ours: int
    names: list[str]


def other_classes(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> OtherClasses | None:
    """The two heads, if weights differ from a network's only in the number of classes; otherwise None.

    >>> import torch
    >>> rest = {"a": torch.ones(8)}
    >>> other_classes({"fc.weight": torch.ones(100, 8), **rest}, {"fc.weight": torch.ones(4, 8), **rest})
    OtherClasses(theirs=100, ours=4, names=['fc.weight'])
    """
    if weights.keys() != expected.keys():
        return None
    names = [name for name, value in expected.items() if weights[name].shape != value.shape]
    if any(weights[name].dim() == 0 or expected[name].dim() == 0 for name in names):
        return None
    pairs = {(weights[name].shape[:1], expected[name].shape[:1]) for name in names}
    if len(pairs) != 1 or any(weights[name].shape[1:] != expected[name].shape[1:] for name in names):
        return None
    (theirs,), (ours,) = pairs.pop()
    return OtherClasses(theirs, ours, names)
