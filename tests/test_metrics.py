from itertools import permutations

import pytest
import torch

from kdlab.functional import cka
from kdlab.metrics import CKA


def features(samples, width, seed):
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hsic(x, y):
    """The U-statistic itself: the mean over all ordered quadruples of different samples."""
    k, m = (x @ x.T).tolist(), (y @ y.T).tolist()
    terms = [k[i][j] * (m[i][j] + m[q][r] - 2 * m[i][q]) for i, j, q, r in permutations(range(len(k)), 4)]
    return sum(terms) / len(terms)


def measured(batches, **options):
    metric = CKA(**options)
    for x, y in batches:
        metric.update(x, y)
    return metric.compute().item()


def test_it_is_the_mean_of_the_unbiased_estimates():
    batches = [
        (features(6, 3, seed), features(6, 5, seed + 10) + features(6, 3, seed).sum(1, keepdim=True))
        for seed in range(3)
    ]
    products, first, second = (
        sum(hsic(*pair) for pair in pairs)
        for pairs in (batches, [(x, x) for x, _ in batches], [(y, y) for _, y in batches])
    )
    assert measured(batches) == pytest.approx(products / (first * second) ** 0.5, rel=1e-6)


def test_the_batch_size_does_not_shift_it_as_it_shifts_the_biased_one():
    x = features(2048, 32, 0)
    y = x @ features(32, 32, 1) + 8 * features(2048, 32, 2)
    truth = 1 - cka(x, y).item()
    minibatch = measured(zip(x.split(16), y.split(16)))
    biased = 1 - torch.stack([cka(a, b) for a, b in zip(x.split(16), y.split(16))]).mean().item()
    assert abs(minibatch - truth) < 0.03 and biased - truth > 0.2, (truth, minibatch, biased)


def test_small_batches_are_left_out_and_nothing_is_nan():
    x, y = features(8, 3, 0), features(8, 4, 1)
    assert measured([(x, y), (x[:3], y[:3])]) == measured([(x, y)])
    assert torch.isnan(CKA().compute())


def test_two_processes_add_up():
    batches = [(features(6, 3, seed), features(6, 5, seed + 10)) for seed in range(2)]
    parts = [CKA(), CKA()]
    for part, batch in zip(parts, batches):
        part.update(*batch)
    parts[0].merge_state(parts[1])
    assert parts[0].compute().item() == measured(batches)
