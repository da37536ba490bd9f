"""Linear CKA of features."""

import math

import pytest
import torch
from torch import nn

from kdlab.measure import alignment, comparable_taps
from kdlab.models import CNN


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of(first, second):
    return alignment([({"a": first}, {"b": second})])["a"]["b"]


def test_the_same_turned_and_scaled_is_one():
    x = noise(300, 20)
    turned = torch.linalg.qr(noise(20, 20, seed=1)).Q
    assert of(x, x) == pytest.approx(1)
    assert of(x, 7 * x @ turned + 3) == pytest.approx(1, abs=1e-5)
    assert of(x, x @ noise(20, 20, seed=2)) < 0.9, "any other linear map is not the same"


def test_what_has_nothing_in_common_is_near_zero_however_wide():
    x, y = noise(200, 256), noise(200, 512, seed=1)
    assert abs(of(x, y)) < 0.02
    centred = [z - z.mean(0) for z in (x, y)]
    cross, own, their = (
        torch.linalg.matrix_norm(a.T @ b) for a, b in ((*centred,), (centred[0],) * 2, (centred[1],) * 2)
    )
    assert cross**2 / (own * their) > 0.5, "which the plain estimate takes for alike"


def test_half_of_the_variance_in_common():
    """Two of four independent directions are shared: CKA = 2 / 4."""
    x = noise(2000, 6)
    assert of(x[:, :4], x[:, 2:]) == pytest.approx(0.5, abs=0.02)


def test_maps_are_averaged_over_their_positions():
    x = noise(100, 5, 4, 4)
    assert of(x, x.mean((2, 3))) == pytest.approx(1) and of(x, x.roll(1, 2)) == pytest.approx(1)
    assert of(x.flatten(2).transpose(1, 2), x) == pytest.approx(1), "as tokens"


def test_batches_add_up_and_every_tap_is_compared_with_every_other():
    x, y = noise(500, 4), noise(500, 4, seed=1)
    whole = alignment([({"one": x, "two": y}, {"one": x, "both": torch.cat([x, y], 1)})])
    parts = alignment(
        [
            ({"one": x[rows], "two": y[rows]}, {"one": x[rows], "both": torch.cat([x, y], 1)[rows]})
            for rows in (slice(250), slice(250, 500))
        ]
    )
    assert whole == parts and list(whole) == ["one", "two"] and list(whole["one"]) == ["one", "both"]
    assert whole["two"]["both"] == pytest.approx(0.5**0.5, abs=0.03)
    assert math.isnan(of(torch.full((10, 3), 0.1), noise(10, 3)))


def test_the_taps_that_are_compared():
    assert comparable_taps(CNN(classes=10, shape=(1, 8, 8), widths=(2, 4))) == ["stage1", "stage2", "embedding"]
    assert comparable_taps(nn.Sequential(nn.Linear(2, 2)), {"stage1": "0"}) == ["stage1"]
