import pytest
import torch

from kdlab import functional
from kdlab.functional import reduce, reduced, same_shape, wide
from kdlab.functional.rows import added


@pytest.mark.parametrize(
    "given, answer",
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_wide_promotes_and_never_demotes(given, answer):
    assert wide(torch.ones(2, dtype=given)).dtype is answer


def test_wide_keeps_the_gradient_in_the_dtype_of_its_input():
    x = torch.ones(2, dtype=torch.float16, requires_grad=True)
    wide(x).square().sum().backward()
    assert x.grad.dtype is torch.float16 and x.grad.tolist() == [2.0, 2.0]


def test_same_shape_prints_both_shapes_and_the_advice():
    same_shape(torch.ones(2, 3), torch.zeros(2, 3), "kd", "cut it")
    with pytest.raises(ValueError, match=r"kd.*\(2, 3\).*\(2, 1\).*cut it"):
        same_shape(torch.ones(2, 3), torch.ones(2, 1), "kd", "cut it")


@pytest.mark.parametrize(
    "weights, normaliser, expected",
    [
        (None, None, (1 + 2 + 6) / 3),
        (None, 4.0, (1 + 2 + 6) / 4),
        ([1.0, 1.0, 0.0], None, (1 + 2) / 2),
        ([0.5, 2.0, 1.0], None, (0.5 + 4 + 6) / 3.5),
        ([0.5, 2.0, 1.0], 7.0, (0.5 + 4 + 6) / 7),
    ],
)
def test_reduce(weights, normaliser, expected):
    weights = None if weights is None else torch.tensor(weights)
    assert reduce(torch.tensor([1.0, 2.0, 6.0]), weights, normaliser).item() == pytest.approx(expected)


def test_the_normaliser_makes_unequal_shares_add_up():
    values = torch.arange(10, dtype=torch.float64)
    # a step of 10 rows dealt as 7 and 3 to two processes, whose gradients are averaged
    shares = [reduce(part, torch.ones(len(part)), normaliser=10 / 2) for part in (values[:7], values[7:])]
    assert (sum(shares) / 2).item() == pytest.approx(values.mean().item())


def test_a_value_of_the_whole_batch_is_returned_as_it_is():
    value = torch.tensor(3.0)
    assert reduce(value, torch.zeros(5), normaliser=9.0) is value


def test_values_must_be_rows():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        reduce(torch.ones(2, 3))


@pytest.mark.parametrize("rows, weights", [(4, 3), (3, 1), (1, 3)])
def test_weights_must_fit_the_rows(rows, weights):
    # a single weight must not be spread over all rows: the default normaliser would then count one row
    with pytest.raises(ValueError, match=rf"\({rows},\).*\({weights},\)"):
        reduce(torch.ones(rows), torch.ones(weights))


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("normaliser", [None, 5.0])
def test_a_masked_row_has_exactly_no_gradient(bad, normaliser):
    values = torch.tensor([1.0, bad, 3.0], requires_grad=True)
    total = reduce(values, torch.tensor([1.0, 0.0, 2.0]), normaliser)
    total.backward()
    count = normaliser or 3.0
    assert total.item() == pytest.approx(7 / count)
    assert values.grad.tolist() == pytest.approx([1 / count, 0.0, 2 / count])
    assert values.grad[1].item() == 0.0


def test_a_batch_without_counting_rows_is_zero():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    total = reduce(values, torch.zeros(2))
    total.backward()
    assert total.item() == 0.0 and values.grad.tolist() == [0.0, 0.0]


def test_added_is_the_sum_in_order_and_refuses_nothing():
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    assert added([one, two, two], "kd").tolist() == [7.0, 12.0] and added((one,), "kd") is one
    with pytest.raises(ValueError, match="kd: there is no term"):
        added([], "kd")


def test_a_mean_over_elements_needs_the_number_of_classes():
    assert reduced(torch.tensor([4.0, 8.0]), reduction="elementmean", classes=3).item() == 2.0
    with pytest.raises(ValueError, match="elementmean.*give classes"):
        reduced(torch.tensor([4.0, 8.0]), reduction="elementmean")


def test_without_any_row_a_mean_is_zero():
    student, teacher, target = torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    assert functional.cross_entropy(student, target, reduction="mean") == 0
    assert functional.dkd(student, teacher, target, reduction="mean") == 0
    assert functional.nkd(student, teacher, target, reduction="mean") == 0
