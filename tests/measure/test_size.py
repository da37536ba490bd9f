"""Bytes of the weights, as the file of safetensors has them."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdlab.measure import checkpoint_bytes
from kdlab.models import CNN


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_it_is_the_size_of_the_file(tmp_path, kind):
    network = CNN(10, [1, 8, 8], [4, 8]).to(kind)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    assert checkpoint_bytes(network) == (tmp_path / "weights.safetensors").stat().st_size


def test_tied_weights_count_once():
    network = nn.Sequential(nn.Linear(50, 50, bias=False), nn.Linear(50, 50, bias=False))
    apart = checkpoint_bytes(network)
    network[1].weight = network[0].weight
    assert 2 * 50 * 50 * 4 < apart and 50 * 50 * 4 < checkpoint_bytes(network) < 50 * 50 * 4 + 200
