"""Counter-based random numbers: a value is a function of (seed, purpose, epoch, view, index) and of nothing else.

There is no generator and so no hidden state: an epoch can be resumed exactly, a cache can name the very crop that a
student will see, two networks can be given the same or different views on purpose.

The mixer is SplitMix64's (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), in int64
arithmetic, which wraps around; so CPU and GPU give the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right (torch's is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def counter_bits(index: Tensor, *key: int) -> Tensor:
    """64 random bits for each entry of ``index`` (int64) under a key of integers.

    >>> counter_bits(torch.tensor([0, 1]), 7, 3).tolist() == counter_bits(torch.tensor([1, 0]), 7, 3).flip(0).tolist()
    True
    """
    state = torch.zeros((), dtype=torch.int64, device=index.device)
    for word in key:
        state = _mix((state ^ word) + _GOLDEN)
    return _mix(_mix(index + state) + _GOLDEN)


def counter_uniform(index: Tensor, *key: int) -> Tensor:
    """Uniform numbers in [0, 1), float64, one for each entry of ``index``."""
    return _shift(counter_bits(index, *key), 11).to(torch.float64) * 2.0**-53


def counter_order(index: Tensor, *key: int) -> Tensor:
    """A random order of ``index``: its entries sorted by their bits. A subset keeps the relative order that it has in
    the whole."""
    return index[counter_bits(index, *key).argsort(stable=True)]


def derived_seed(*key: int) -> int:
    """A seed for ``torch.manual_seed`` from a key of integers.

    >>> derived_seed(1, 2) == derived_seed(1, 2), derived_seed(1, 2) == derived_seed(2, 1)
    (True, False)
    """
    return int(_shift(counter_bits(torch.zeros((), dtype=torch.int64), *key), 1))
