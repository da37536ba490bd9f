"""The labelled samples of a training split: which labels are trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab.counter import counter_bits
from kdlab.errors import InputError

_LABELLED = 33  # the stream of random numbers that chooses the labelled samples


def chosen_labels(count: int, rows: Tensor, target: Tensor, seed: int, by_class: bool) -> Tensor:
    """Which samples of a stored split keep their label, ``(N,)`` bool: ``count`` of the given rows, about the same
    share of each class. The samples of a smaller count are among those of a larger one.

    Args:
        rows: the training samples that have a label.
        target: the labels of the stored split, ``(N, ...)``.
        by_class: whether a label is a class.

    Raises:
        InputError: there are fewer rows.

    >>> target = torch.tensor([0, 0, 0, 0, 1, 1])
    >>> target[chosen_labels(3, torch.arange(6), target, seed=0, by_class=True)].tolist()
    [0, 0, 1]
    """
    if count > len(rows):
        raise InputError(f"data.labelled={count}: only {len(rows)} training samples have a label; make it smaller")
    kept = torch.zeros(len(target), dtype=torch.bool)
    kept[_of_each_class(rows, target, seed, by_class)[:count]] = True
    return kept


def _of_each_class(rows: Tensor, target: Tensor, seed: int, by_class: bool) -> Tensor:
    """Rows in random order, such that the first n of them have about the same share of each class."""
    bits, place = counter_bits(rows, seed, _LABELLED), torch.zeros(len(rows), dtype=torch.float64)
    for value in target[rows].unique() if by_class else [None]:
        mine = torch.arange(len(rows)) if value is None else (target[rows] == value).nonzero().flatten()
        order = mine[bits[mine].argsort(stable=True)]
        place[order] = (torch.arange(len(order), dtype=torch.float64) + 0.5) / len(order)
    return rows[place.argsort(stable=True)]
