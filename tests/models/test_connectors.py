import pytest
import torch
from torch import nn

from kdlab.models.connectors import connector


@pytest.mark.parametrize(
    "student, teacher",
    [
        ((8,), (16,)),
        ((16,), (16,)),
        ((6, 8), (6, 16)),
        ((4, 8, 8), (6, 8, 8)),
        ((4, 8, 8), (6, 4, 4)),
        ((4, 14, 6), (6, 7, 3)),
        ((4, 4, 4), (6, 8, 8)),
        ((4, 1, 1), (6, 1, 1)),
        ((4, 7, 7), (6, 5, 5)),
        ((4, 8, 8), (6, 3, 5)),
        ((4, 8, 8), (6, 4, 8)),
        ((4, 32, 32), (6, 8, 8)),
        ((4, 2, 2), (6, 1, 1)),
    ],
)
@pytest.mark.parametrize("normalise", [False, True])
def test_it_brings_one_shape_to_the_other(student, teacher, normalise):
    assert connector(student, teacher, normalise)(torch.randn(2, *student)).shape == (2, *teacher)


def test_normalise_adds_batchnorm_and_relu_to_maps():
    x = torch.randn(8, 4, 8, 8)
    assert isinstance(connector((4, 8, 8), (6, 8, 8), normalise=False), nn.Conv2d)
    normalised = connector((4, 8, 8), (6, 8, 8), normalise=True)
    assert [type(module) for module in normalised] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert normalised(x).min() == 0


@pytest.mark.parametrize(
    "student, teacher, kernel",
    [
        ((4, 8, 8), (6, 8, 8), (1, 1)),
        ((4, 8, 8), (6, 4, 4), (3, 3)),
        ((4, 4, 4), (6, 8, 8), (4, 4)),
        ((4, 8, 8), (6, 3, 5), (6, 4)),
    ],
)
def test_kernels_are_those_of_repdistillers_regressor(student, teacher, kernel):
    assert connector(student, teacher, normalise=False).kernel_size == kernel


def test_shapes_may_be_torch_sizes():
    assert connector(torch.zeros(2, 8).shape[1:], torch.zeros(2, 3).shape[1:])(torch.zeros(2, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    "student, teacher",
    [
        ((8,), (4, 5, 5)),
        ((4, 5, 5), (8,)),
        ((6, 8), (7, 8)),
        ((6, 8), (8,)),
        ((4, 5, 5), (4, 8, 8)),
        ((4, 8, 4), (4, 4, 8)),
        ((), ()),
        ((2, 3, 4, 5), (2, 3, 4, 5)),
    ],
)
def test_where_there_is_none_both_shapes_are_printed(student, teacher):
    with pytest.raises(ValueError) as error:
        connector(student, teacher)
    assert f"shape {student} " in str(error.value) and f"shape {teacher};" in str(error.value)
