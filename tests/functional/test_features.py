import math

import pytest
import torch

from kdlab.functional import hint, reduce


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 5), (3, 2, 4, 5)])
def test_hint(shape):
    student, teacher = features(*shape), features(*shape, seed=1)
    slow = []
    for s, t in zip(student, teacher):
        squares = [(a - b) ** 2 for a, b in zip(s.flatten().tolist(), t.flatten().tolist())]
        slow.append(math.fsum(squares) / len(squares))
    values = hint(student, teacher)
    assert values.tolist() == pytest.approx(slow)
    # what RepDistiller's HintLoss gives is the mean over samples
    assert reduce(values).item() == pytest.approx(torch.nn.MSELoss()(student, teacher).item())


def test_hint_is_zero_where_the_features_agree():
    student = features(3, 2, 4, 4).requires_grad_()
    values = hint(student, student.detach().clone())
    values.sum().backward()
    assert values.tolist() == [0.0] * 3 and student.grad.abs().max() == 0


def test_gradient():
    teacher = features(2, 3, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda student: hint(student, teacher), features(2, 3, 2, 2).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    # 600^2 is beyond float16
    student = torch.full((2, 3, 4), 300.0, dtype=dtype, requires_grad=True)
    values = hint(student, torch.full((2, 3, 4), -300.0, dtype=dtype))
    values.mean().backward()
    assert values.dtype is torch.float32 and values.tolist() == pytest.approx([360000.0] * 2, rel=1e-5)
    assert student.grad.dtype is dtype and student.grad.isfinite().all()


@pytest.mark.parametrize("teacher", [(2, 3, 4, 5), (2, 3, 1, 1), (1, 3, 4, 4), (2, 3, 16)])
def test_shapes_that_differ_are_refused_also_where_they_would_broadcast(teacher):
    with pytest.raises(ValueError) as error:
        hint(torch.ones(2, 3, 4, 4), torch.ones(teacher))
    assert "(2, 3, 4, 4)" in str(error.value) and str(teacher) in str(error.value) and "connector" in str(error.value)


def test_a_masked_row_has_exactly_no_gradient():
    student = features(3, 2, 2).requires_grad_()
    reduce(hint(student, features(3, 2, 2, seed=1)), torch.tensor([1.0, 0.0, 1.0])).backward()
    assert student.grad[1].abs().max() == 0 and student.grad[[0, 2]].abs().min() > 0
