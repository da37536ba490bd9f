"""What labels can be read from vectors that were learned without them: nearest neighbours, and a linear probe.

All take vectors ``(N, D)`` and class numbers ``(N,)`` of train, and the same of test.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlab.functional.kernels import unit

from .embeddings import nearest

NEIGHBOURS = 10
_ROWS = 500  # test vectors at a time


def knn_accuracy(
    train: Tensor, train_target: Tensor, test: Tensor, test_target: Tensor, neighbours: int = NEIGHBOURS
) -> float:
    """The accuracy of a vote among the nearest training vectors by cosine. Of classes with the same number of votes,
    the one with the larger sum of cosines wins.

    Args:
        neighbours: how many vote; at most all training vectors.

    >>> train, target = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    >>> knn_accuracy(train, target, torch.tensor([[2.0, 0.1], [0.1, 2.0]]), torch.tensor([0, 1]), neighbours=2)
    1.0
    """
    known, asked = unit(train.float()), unit(test.float())
    classes = int(max(train_target.max(), test_target.max())) + 1
    right, count = 0, min(neighbours, len(known))
    for queries, target in zip(asked.split(_ROWS), test_target.split(_ROWS)):
        found = nearest(queries, known, count)
        votes = F.one_hot(train_target[found], classes).float()
        cosines = torch.einsum("qd,qkd->qk", queries, known[found])
        # the sum of cosines lies between -k and k, so it decides between equal numbers of votes only
        scores = votes.sum(1) + (votes * cosines[..., None]).sum(1) / (2 * count + 1)
        right += int((scores.argmax(-1) == target).sum())
    return right / len(asked)


def linear_probe_accuracy(train: Tensor, train_target: Tensor, test: Tensor, test_target: Tensor) -> float:
    """The accuracy of a logistic regression on the vectors (scikit-learn's, with its default L2 penalty C = 1), each
    column scaled to mean 0 and standard deviation 1 over train.

    >>> train, target = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> linear_probe_accuracy(train, target, torch.tensor([[-3.0], [0.5]]), torch.tensor([0, 1]))
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(train.double().numpy(), train_target.numpy())
    return float(probe.score(test.double().numpy(), test_target.numpy()))
