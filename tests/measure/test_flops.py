"""Floating-point operations, counted by hand."""

import pytest
import torch
from torch import nn

from kdlab.measure import flops
from kdlab.models import MLP


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.inside(x, x, x, need_weights=False)[0]


class Unusual(nn.Module):
    def forward(self, x):
        raise RuntimeError("not with this")


class Deeper(nn.Module):
    """One that does more in training, as networks with auxiliary heads do."""

    def __init__(self):
        super().__init__()
        self.first, self.auxiliary = nn.Linear(4, 3), nn.Linear(3, 100)

    def forward(self, x):
        x = self.first(x)
        return self.auxiliary(x) if self.training else x


# products of a matrix (m, k) and (k, n) are 2 m k n
@pytest.mark.parametrize(
    "network, shape, count",
    [
        (nn.Linear(4, 3), (1, 4), 2 * 4 * 3),
        (nn.Conv2d(4, 4, 3, groups=4), (1, 4, 8, 8), 2 * 9 * 4 * 36),
        # four projections; two heads, two products each
        (
            Attention(),
            (1, 5, 8),
            4 * (2 * 5 * 8 * 8) + 2 * 2 * (2 * 5 * 5 * 4),
        ),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 5, 8), 3360 + 2 * (2 * 5 * 8 * 16)),
        (nn.LSTM(4, 8), (3, 4), 3 * 2 * 32 * (4 + 8)),  # three steps, four gates of 8
        (nn.Flatten(), (1, 2, 2), 0),
        (Deeper(), (1, 4), 2 * 4 * 3),  # of evaluation, whatever mode the network is in
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_counts(network, shape, count):
    assert flops(network.train(), torch.zeros(shape)) == count
    assert network.training, "the network is as it was"


@pytest.mark.parametrize("network", [Unusual(), nn.PReLU()])
def test_a_network_that_cannot_be_counted(network):
    assert flops(network, torch.zeros(1, 4)) is None


def test_a_compiled_network_counts_as_it_would():
    network = MLP(3, [1, 2, 2], [5])
    plain = flops(network, torch.zeros(1, 1, 2, 2))
    network.compile(backend="eager")
    assert flops(network, torch.zeros(1, 1, 2, 2)) == plain == 2 * (4 * 5 + 5 * 3)


def test_torch_is_left_as_it_was():
    before = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    flops(Unusual(), torch.zeros(1, 4))
    assert (torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()) == before
