"""What the contract (tests/contract) does not say of the divergences: limits, bounds, switches, excluded classes."""

import math

import pytest
import torch

from kdlab import functional


def logits(seed):
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = logits(0), logits(1)


@pytest.mark.parametrize(
    "near, limit",
    [
        ((1.0, 1e-7), (1.0, 0.0)),
        ((1e-7, 1.0), (0.0, 1.0)),
        ((0.5, 1e-7), (0.5, 0.0)),
        ((0.7, -0.7 + 1e-7), (0.7, -0.7)),
        ((1e-4, 1e-4), (0.0, 0.0)),
    ],
)
def test_the_closed_forms_of_alpha_beta_are_its_limits(near, limit):
    values = [functional.alpha_beta(STUDENT, TEACHER, alpha=alpha, beta=beta) for alpha, beta in (near, limit)]
    torch.testing.assert_close(*values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "alpha, beta, limit",
    [(1e-17, 1.0, (0.0, 1.0)), (1.0, -1e-12, (1.0, 0.0)), (0.3, -0.1 - 0.2, (0.3, -0.3)), (1e-9, 1e-9, (0.0, 0.0))],
)
def test_alpha_beta_next_to_a_limit_is_no_rounding_error(alpha, beta, limit):
    near = functional.alpha_beta(STUDENT, TEACHER, alpha=alpha, beta=beta)
    torch.testing.assert_close(
        near, functional.alpha_beta(STUDENT, TEACHER, alpha=limit[0], beta=limit[1]), rtol=1e-6, atol=0
    )


def test_a_direction_of_weight_0_is_not_computed():
    narrow = TEACHER.clone()
    narrow[:, 0] = -math.inf
    assert torch.equal(
        functional.symmetric_kl(STUDENT, narrow, reverse_weight=0.0), functional.forward_kl(STUDENT, narrow)
    )
    assert functional.hinton_kd(STUDENT, narrow).isfinite().all()


def test_alpha_beta_is_both_kls_at_its_corners():
    torch.testing.assert_close(
        functional.alpha_beta(STUDENT, TEACHER, alpha=1.0, beta=0.0), functional.forward_kl(STUDENT, TEACHER)
    )
    torch.testing.assert_close(
        functional.alpha_beta(STUDENT, TEACHER, alpha=0.0, beta=1.0), functional.reverse_kl(STUDENT, TEACHER)
    )


@pytest.mark.parametrize("weight, limit", [(1e-7, functional.forward_kl), (1 - 1e-7, functional.reverse_kl)])
def test_scaled_jensen_shannon_meets_both_kls_and_the_ends_are_closed(weight, limit):
    expected = limit(STUDENT, TEACHER)
    torch.testing.assert_close(
        functional.jensen_shannon(STUDENT, TEACHER, teacher_weight=weight, scaled=True), expected, rtol=1e-5, atol=1e-7
    )
    assert torch.equal(functional.jensen_shannon(STUDENT, TEACHER, teacher_weight=round(weight), scaled=True), expected)
    assert torch.equal(functional.jensen_shannon(STUDENT, TEACHER, teacher_weight=round(weight)), expected)


def test_jensen_shannon_at_one_half_is_symmetric_and_at_most_log_2():
    far = 40 * torch.eye(6, dtype=torch.float64)[:4]
    torch.testing.assert_close(functional.jensen_shannon(STUDENT, TEACHER), functional.jensen_shannon(TEACHER, STUDENT))
    torch.testing.assert_close(
        functional.jensen_shannon(far, far.roll(1, -1)), torch.full((4,), math.log(2), dtype=torch.float64)
    )


@pytest.mark.parametrize("function", [functional.symmetric_kl, functional.skew_forward_kl])
def test_without_the_entropy_the_value_moves_and_the_gradient_does_not(function):
    gradients, values = [], []
    for entropy in (True, False):
        student = STUDENT.clone().requires_grad_()
        values.append(function(student, TEACHER, entropy=entropy, reduction="sum"))
        gradients.append(torch.autograd.grad(values[-1], student)[0])
    assert values[1] > values[0] + 1
    torch.testing.assert_close(*gradients)


def test_a_detached_mixture_has_the_same_value_and_another_gradient():
    results = []
    for detached in (False, True):
        student = STUDENT.clone().requires_grad_()
        value = functional.skew_reverse_kl(
            student, TEACHER, student_weight=0.3, detach_mixture=detached, reduction="sum"
        )
        results.append((value.item(), torch.autograd.grad(value, student)[0]))
    assert results[0][0] == results[1][0] and not torch.allclose(results[0][1], results[1][1])


def test_one_weight_a_row():
    weights = torch.tensor([0.1, 0.2, 0.3, 0.9], dtype=torch.float64)
    together = functional.skew_forward_kl(STUDENT, TEACHER, teacher_weight=weights)
    for row, weight in enumerate(weights.tolist()):
        torch.testing.assert_close(
            together[row], functional.skew_forward_kl(STUDENT, TEACHER, teacher_weight=weight)[row]
        )


FUNCTIONS = [
    functional.forward_kl,
    functional.reverse_kl,
    functional.symmetric_kl,
    functional.jensen_shannon,
    functional.skew_forward_kl,
    functional.skew_reverse_kl,
    functional.total_variation,
    functional.adaptive_kl,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_class_excluded_by_both_is_as_if_it_were_not_there(function):
    wide = [torch.cat([z, torch.full((4, 1), -math.inf, dtype=z.dtype)], -1) for z in (STUDENT, TEACHER)]
    student = wide[0].requires_grad_()
    value = function(student, wide[1])
    torch.testing.assert_close(value, function(STUDENT, TEACHER))
    assert torch.autograd.grad(value.sum(), student)[0].isfinite().all()


def test_a_class_excluded_by_one_side_is_infinite_or_left_out():
    narrow = STUDENT.clone()
    narrow[:, 0] = -math.inf
    assert (
        functional.forward_kl(narrow, TEACHER).isinf().all() and functional.reverse_kl(narrow, TEACHER).isfinite().all()
    )
    narrow.requires_grad_()
    value = functional.forward_kl(narrow, TEACHER, skip_infinite=True)
    assert value.isfinite().all() and torch.autograd.grad(value.sum(), narrow)[0].isfinite().all()


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: functional.jensen_shannon(STUDENT, TEACHER, teacher_weight=1.1), "teacher_weight"),
        (lambda: functional.skew_reverse_kl(STUDENT, TEACHER, student_weight=-0.1), "student_weight"),
        (lambda: functional.symmetric_kl(STUDENT, TEACHER, reverse_weight=2), "reverse_weight"),
        (lambda: functional.adaptive_kl(STUDENT, TEACHER, tail_mass=-1), "tail_mass"),
        (lambda: functional.forward_kl(STUDENT, TEACHER, reduction="avg"), "reduction"),
        (lambda: functional.forward_kl(STUDENT, TEACHER, mask=torch.ones(3)), "mask"),
    ],
)
def test_bad_arguments_name_themselves(call, name):
    with pytest.raises(ValueError, match=name):
        call()
