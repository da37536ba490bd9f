"""Answers that are no logits: a network that ends in softmax or sigmoid."""

from __future__ import annotations

from torch import Tensor

_TOLERANCE = 0.01  # of the sum of a row; half precision rounds
#: with fewer classes an untrained network's logits lie between 0 and 1 by chance
_CLASSES_TO_TELL = 8


def are_probabilities(logits: Tensor) -> bool:
    """Whether rows (N, C) are probabilities: no number is below 0, and each row sums to 1. Log-probabilities are logits
    like others.

    >>> import torch
    >>> rows = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.25, 0.25]])
    >>> [are_probabilities(one) for one in (rows, rows.softmax(1), rows.log_softmax(1), rows[1:])]
    [False, True, False, True]
    """
    rows = logits.detach().float()
    return (
        rows.numel() > 0
        and rows.shape[-1] > 1
        and bool((rows >= 0).all() and ((rows.sum(-1) - 1).abs() < _TOLERANCE).all())
    )


def look_like_sigmoids(logits: Tensor, trained: bool) -> bool:
    """Whether all numbers lie between 0 and 1, and are not all the same. That is no proof. It is not even a sign where
    an untrained network has few classes: False.

    >>> import torch
    >>> rows = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.25, 0.0]])
    >>> look_like_sigmoids(rows, trained=True), look_like_sigmoids(rows.sigmoid(), trained=True)
    (False, True)
    >>> look_like_sigmoids(rows.sigmoid(), trained=False)
    False
    """
    if not logits.numel() or not trained and logits.shape[-1] < _CLASSES_TO_TELL:
        return False
    low, high = (float(value) for value in logits.detach().aminmax())
    return 0 <= low < high <= 1
