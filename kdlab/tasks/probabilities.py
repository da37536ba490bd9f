"""Answers that are no logits: a network that ends in softmax or sigmoid."""

from __future__ import annotations

from torch import Tensor

_TOLERANCE = 0.01       # of the sum of a row; half precision rounds
#: with fewer classes an untrained network's logits lie between 0 and 1 by chance
_CLASSES_TO_TELL = 8


def are_probabilities(logits: Tensor) -> bool:
    """Whether rows (N, C) are probabilities: none below 0, and the sum of each is 1. Log-probabilities are logits like others.

    >>> import torch
    >>> rows = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.25, 0.25]])
    >>> are_probabilities(rows), are_probabilities(rows.softmax(1)), are_probabilities(rows.log_softmax(1)), are_probabilities(rows[1:])
    (False, True, False, True)
    """
    rows = logits.detach().float()
    return rows.numel() > 0 and rows.shape[-1] > 1 and bool((rows >= 0).all() and ((rows.sum(-1) - 1).abs() < _TOLERANCE).all())


def look_like_sigmoids(logits: Tensor, trained: bool) -> bool:
    """Whether all numbers lie between 0 and 1, and are not all the same. That is no proof, and of an untrained network with few classes it is no
    sign either: False.

    >>> import torch
    >>> rows = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.25, 0.0]])
    >>> look_like_sigmoids(rows, True), look_like_sigmoids(rows.sigmoid(), True), look_like_sigmoids(rows.sigmoid(), False)
    (False, True, False)
    """
    if not logits.numel() or not trained and logits.shape[-1] < _CLASSES_TO_TELL:
        return False
    low, high = (float(value) for value in logits.detach().aminmax())
    return 0 <= low < high <= 1
