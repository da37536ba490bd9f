"""Exits behind the stages of a network."""

import pytest
import torch
from torch import nn

from kdlab.models.exits import Exit


def strides(feature, deepest):
    return [
        (layer.in_channels, layer.out_channels, layer.stride[0])
        for layer in Exit(feature, deepest, 5).bottleneck
        if isinstance(layer, nn.Conv2d)
    ]


def test_maps_are_halved_down_to_the_wanted_size():
    assert strides((16, 32, 32), (64, 8, 8)) == [(16, 32, 2), (32, 64, 2)]
    assert strides((32, 16, 16), (64, 8, 8)) == [(32, 64, 2)]
    assert strides((64, 8, 8), (64, 8, 8)) == [(64, 64, 1)]
    assert strides((16, 32, 32), (64,)) == [(16, 32, 2), (32, 64, 2), (64, 64, 2)]
    assert strides((48, 4, 4), (1280,)) == [(48, 1280, 1)]


@pytest.mark.parametrize(
    "feature, deepest",
    [
        ((8, 16, 16), (32, 4, 4)),
        ((8, 7, 7), (32, 2, 2)),
        ((8, 8, 8), (32, 3, 3)),
        ((8, 4, 4), (32, 4, 4)),
        ((8, 16, 16), (32,)),
        ((8, 1, 1), (32,)),
        ((6,), (32,)),
        ((9, 6), (32,)),
    ],
)
def test_the_feature_has_the_deepest_ones_shape(feature, deepest):
    logits, bottleneck = Exit(feature, deepest, classes=5)(torch.randn(3, *feature))
    assert logits.shape == (3, 5) and bottleneck.shape == (3, *deepest) and (bottleneck >= 0).all()


def test_the_classifier_reads_the_mean_of_the_map():
    torch.manual_seed(0)
    made = Exit((4, 8, 8), (6, 4, 4), classes=5).eval()
    logits, feature = made(torch.randn(2, 4, 8, 8))
    torch.testing.assert_close(logits, feature.mean((2, 3)) @ made.classifier.weight.T + made.classifier.bias)


def test_the_mean_of_a_sequence():
    torch.manual_seed(0)
    made, x = Exit((9, 6), (4,), classes=5), torch.randn(2, 9, 6)
    torch.testing.assert_close(
        made(x)[1], (x.mean(1) @ made.bottleneck[0].weight.T + made.bottleneck[0].bias).clamp(min=0)
    )


@pytest.mark.parametrize(
    "feature, deepest", [((8, 4, 4), (32, 8, 8)), ((8,), (32, 4, 4)), ((9, 6), (9, 32)), ((2, 3, 4, 5), (6,))]
)
def test_no_way_between_two_shapes(feature, deepest):
    with pytest.raises(ValueError, match="no bottleneck from a feature of shape"):
        Exit(feature, deepest, 5)
