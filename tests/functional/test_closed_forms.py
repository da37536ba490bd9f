"""Gradients in closed form: those of automatic differentiation."""

import pytest
import torch

from kdlab import functional
from kdlab.functional import closed_forms
from kdlab.functional.closed_forms import with_closed_form

CASES = [
    ("forward_kl", {}),
    ("reverse_kl", {}),
    *[("symmetric_kl", {"reverse_weight": weight}) for weight in (0, 0.3, 1)],
    *[("jensen_shannon", {"teacher_weight": weight}) for weight in (0, 0.1, 0.5, 0.9, 1)],
    *[("jensen_shannon", {"teacher_weight": weight, "scaled": True}) for weight in (0, 0.1, 1)],
    *[("skew_forward_kl", {"teacher_weight": weight}) for weight in (0, 0.1, 0.9)],
    *[("skew_reverse_kl", {"student_weight": weight}) for weight in (0, 0.1, 0.9)],
    *[("skew_reverse_kl", {"student_weight": weight, "detach_mixture": True}) for weight in (0.1, 0.9)],
    ("total_variation", {}),
]


def logits(dtype=torch.float64, scale=2.0, classes=17):
    torch.manual_seed(0)
    return [(scale * torch.randn(5, classes, dtype=torch.float64)).to(dtype) for _ in range(2)]


def both(function, student, teacher, *arguments, **options):
    """Values and gradients of a weighted sum, by automatic differentiation and in closed form."""
    weights = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0], dtype=student.dtype)
    for one in (function, with_closed_form(function)):
        own = student.detach().requires_grad_()
        values = one(own, teacher, *arguments, **options)
        yield values.detach(), torch.autograd.grad((weights * values).sum(), own)[0]


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name, options", CASES)
def test_value_and_gradient_are_those_of_automatic_differentiation(name, options, temperature):
    function = getattr(functional, name)
    assert with_closed_form(function) is not function
    for scale in (0.1, 2.0, 30.0):
        student, teacher = logits(scale=scale)
        wanted, found = both(function, student, teacher, temperature, **options)
        for left, right in zip(wanted, found):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)
    # in float32 as near to float64 as automatic differentiation is, but for a factor
    exact, _ = both(function, *logits(), temperature, **options)
    wanted, found = both(function, *logits(torch.float32), temperature, **options)
    for right, known in zip(found, exact):
        torch.testing.assert_close(right.double(), known, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name, options", CASES)
def test_probabilities_that_underflow_give_numbers(name, options):
    """Logits of +-200: many probabilities are 0 in float32."""
    student, teacher = (100 * one for one in logits(torch.float32))
    for values, gradient in both(getattr(functional, name), student, teacher, **options):
        assert values.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jensen_shannon", "skew_forward_kl", "total_variation"])
def test_a_class_that_both_exclude(name):
    student, teacher = logits()
    student[:, 3] = teacher[:, 3] = float("-inf")
    wanted, found = both(getattr(functional, name), student, teacher)
    for left, right in zip(wanted, found):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)
        assert right.isfinite().all()


def test_other_precisions_are_computed_in_float32():
    student, teacher = logits(torch.bfloat16)
    (values, gradient), _ = both(functional.forward_kl, student.float(), teacher.float())
    own = student.requires_grad_()
    found = with_closed_form(functional.forward_kl)(own, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.detach(), values, rtol=1e-5, atol=1e-6)
    [low] = torch.autograd.grad((torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0]) * found).sum(), own)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), gradient, rtol=1e-2, atol=1e-3)


def test_cross_entropy():
    student, _ = logits()
    target = torch.tensor([0, 3, 3, 16, 1])
    found = []
    for function in (functional.cross_entropy, closed_forms.cross_entropy):
        own = student.detach().requires_grad_()
        values = function(own, target)
        found.append((values.detach(), torch.autograd.grad((values * torch.arange(5)).sum(), own)[0]))
    for left, right in zip(*found):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-13)
    student[:, 3] = float("-inf")
    assert closed_forms.cross_entropy(student, target).isinf().tolist() == [False, True, True, False, False]


def test_shapes_that_differ_and_functions_without_a_closed_form():
    with pytest.raises(ValueError, match=r"student \(5, 17\) and teacher \(5, 16\) differ"):
        with_closed_form(functional.forward_kl)(logits()[0], logits()[1][:, 1:])
    assert with_closed_form(functional.alpha_beta) is functional.alpha_beta
