"""A small problem of one's own: vectors of two classes, networks of torch, loaders of torch."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdlab.models import MLP

ROWS = 96


def samples(rows=ROWS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 8, generator=generator)
    return x, (x[:, :4].sum(1) > 0).long()


def loader(rows=ROWS, seed=0, batch_size=16, **options):
    return DataLoader(TensorDataset(*samples(rows, seed)), batch_size, **options)


def network(seed=1, hidden=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 2))


def staged(seed=1, hidden=(6, 5)):
    """A network with taps stage1, stage2, embedding."""
    torch.manual_seed(seed)
    return MLP(2, (8,), hidden)


def trained(network):
    """A teacher that knows the problem."""
    x, y = samples(400, 5)
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network


def states_equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def curve_of(rows):
    """A curve without what depends on the machine's speed."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "train/teacher_share")} for row in rows]
