"""Divergences to a teacher of whom only a part is known: equal where that is all of it, bounded below where it is not,
unbiased where it is drawn, and finite where a probability is 0."""

import math

import pytest
import torch

from kdlab import functional
from kdlab.functional import log_probabilities_at, sampled_forward_kl, tail_bucket

NEGATIVE = float("-inf")
BOUNDED = {
    "forward_kl": {},
    "reverse_kl": {},
    "symmetric_kl": {"reverse_weight": 0.3},
    "jensen_shannon": {"teacher_weight": 0.1},
    "total_variation": {},
    "skew_forward_kl": {},
    "skew_reverse_kl": {},
}


def logits(seed, rows=9, classes=12, scale=3.0):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def top(teacher, k, temperature=1.0):
    """The k largest, and the logarithm of the sum of the others."""
    log_p = (teacher / temperature).log_softmax(-1)
    order = log_p.sort(-1, descending=True)
    return order.indices[:, :k], order.values[:, :k], order.values[:, k:].logsumexp(-1)


def of_top(name, student, teacher, k, temperature=1.0):
    q, p = tail_bucket(student, *top(teacher, k, temperature), temperature)
    return getattr(functional, name)(q, p, **BOUNDED[name])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", BOUNDED)
def test_all_classes_known_is_dense(name, temperature):
    """Value and gradient, for gradients that differ between rows."""
    arriving = torch.linspace(-1, 2, 9, dtype=torch.float64)
    found = []
    for whole in (True, False):
        student, teacher = logits(0).requires_grad_(), logits(1)
        dense = getattr(functional, name)
        values = (
            dense(student, teacher, temperature, **BOUNDED[name])
            if whole
            else of_top(name, student, teacher, 12, temperature)
        )
        (values * arriving).sum().backward()
        found.append((values.detach(), student.grad))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_tail_bucket_is_a_lower_bound_that_rises_with_k(name):
    student, teacher = logits(2, rows=200), logits(3, rows=200)
    whole = getattr(functional, name)(student, teacher, **BOUNDED[name])
    before = torch.zeros_like(whole)
    for k in (1, 2, 4, 8, 11):
        values = of_top(name, student, teacher, k)
        assert (values >= before - 1e-12).all() and (values <= whole + 1e-12).all(), k
        before = values
    assert torch.allclose(of_top(name, teacher, teacher, 4), torch.zeros(200, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("name", BOUNDED)
def test_its_gradient_is_that_of_finite_differences(name):
    teacher = logits(4, rows=2, classes=6)
    assert torch.autograd.gradcheck(lambda z: of_top(name, z, teacher, 3), (logits(5, 2, 6).requires_grad_(),))


def test_no_value_is_negative_in_float32():
    """Where student and teacher nearly agree, and where the tail is far below the precision of one minus a sum."""
    for scale in (1e-4, 1.0, 30.0):
        teacher = logits(6, 500, 50, 4.0).float()
        student = teacher + logits(7, 500, 50, scale).float()
        for name in BOUNDED:
            assert (of_top(name, student, teacher, 8) > -2e-6).all(), (name, scale)


def test_a_small_tail_is_accurate_in_float32():
    """A student with mass 1e-9 outside of the classes: one minus the sum of theirs would be 0."""
    student = torch.tensor([[0.0, 0.0, -20.0, -21.0, -120.0]])
    named, others = log_probabilities_at(student, torch.tensor([[0, 1]]))
    exact = student.double().log_softmax(-1)
    assert others.item() == pytest.approx(exact[0, 2:].logsumexp(0).item(), rel=1e-6)
    _, others = log_probabilities_at(student, torch.tensor([[0, 1, 2, 3]]))
    assert others.item() == pytest.approx(-120 - math.log(2), rel=1e-6), "below the smallest number of float32"


@pytest.mark.parametrize("name", BOUNDED)
def test_probabilities_of_zero_give_no_nan(name):
    """The teacher has no mass outside of the known classes, fewer classes are known than there are entries, and the
    student excludes one of them."""
    log_p = torch.tensor([[math.log(0.75), math.log(0.25), NEGATIVE], [0.0, NEGATIVE, NEGATIVE]])
    ids, log_tail = torch.tensor([[2, 0, 0], [1, 7, 3]]), torch.tensor([NEGATIVE, NEGATIVE])
    student = torch.randn(2, 5, generator=torch.Generator().manual_seed(8))
    excluding = student.clone()
    excluding[0, 4] = excluding[1, 0] = NEGATIVE  # classes without a name
    for given in (student, excluding):
        z = given.clone().requires_grad_()
        values = getattr(functional, name)(*tail_bucket(z, ids.clamp(max=4), log_p, log_tail), **BOUNDED[name])
        values.sum().backward()
        assert values.isfinite().all() and (values >= 0).all() and z.grad.isfinite().all()
    assert not z.grad[0, 4] and not z.grad[1, 0]


def test_a_class_that_the_student_excludes_has_no_part_in_the_reverse_direction():
    """0 log 0: the value is that without the class."""
    teacher = logits(9, 1, 4).float()
    student = torch.tensor([[NEGATIVE, 0.3, 0.1, -0.2]], requires_grad=True)
    ids, log_p, tail = top(teacher, 3)
    value = functional.reverse_kl(*tail_bucket(student, torch.cat([ids[:, :0], ids], 1), log_p, tail))
    value.sum().backward()
    assert value.isfinite().all() and student.grad.isfinite().all() and student.grad[0, 0] == 0
    assert value.item() <= functional.reverse_kl(student.detach(), teacher).item() + 1e-6


def test_entries_that_name_no_class_change_nothing():
    student, teacher = logits(10).requires_grad_(), logits(11)
    ids, log_p, tail = top(teacher, 3)
    more = torch.cat([ids, torch.zeros_like(ids)], 1), torch.cat([log_p, torch.full_like(log_p, NEGATIVE)], 1)
    found = []
    for given in ((ids, log_p), more):
        student.grad = None
        functional.jensen_shannon(*tail_bucket(student, *given, tail)).sum().backward()
        found.append(student.grad)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-14)


def test_bfloat16_logits_are_computed_in_float32():
    student, teacher = logits(12).bfloat16(), logits(13).float()
    z = student.clone().requires_grad_()
    values = of_top("forward_kl", z, teacher, 4)
    values.sum().backward()
    assert values.dtype == torch.float32 and z.grad.dtype == torch.bfloat16
    torch.testing.assert_close(values, of_top("forward_kl", student.float(), teacher, 4))


def test_rows_in_parts_are_those_at_once(monkeypatch):
    from kdlab.functional import sparse

    found = []
    for limit in (2**22, 12 * 4):
        monkeypatch.setattr(sparse, "_LOGITS_AT_ONCE", limit)
        z = logits(14).requires_grad_()
        values = of_top("jensen_shannon", z, logits(15), 5)
        values.sum().backward()
        found.append((values.detach(), z.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_the_gradient_to_samples_is_theirs():
    """q times the sum of the weights, minus the weights; with weights that do not sum to 1."""
    student = logits(16, 2, 5).requires_grad_()
    ids = torch.tensor([[3, 1, 0], [2, 2, 2]])
    weights = torch.tensor([[0.5, 0.3, 0.4], [0.9, 0.0, 0.0]], dtype=torch.float64)
    entropy = torch.tensor([0.7, 0.1], dtype=torch.float64)
    values = sampled_forward_kl(student, ids, weights, entropy)
    values.sum().backward()
    q = student.detach().softmax(-1)
    drawn = torch.zeros(2, 5, dtype=torch.float64).scatter_add(1, ids, weights)
    torch.testing.assert_close(student.grad, q * drawn.sum(1, keepdim=True) - drawn)
    torch.testing.assert_close(values, -(drawn * q.log()).sum(1) - entropy)
    assert student.grad.sum(1).abs().max() < 1e-15, "adding a constant to the logits changes nothing"


def test_samples_of_the_whole_distribution_are_the_forward_kl():
    student, teacher = logits(17).requires_grad_(), logits(18)
    p = teacher.softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    ids = torch.arange(12).expand(9, 12)
    dense = functional.forward_kl(student, teacher)
    torch.testing.assert_close(sampled_forward_kl(student, ids, p, entropy), dense, rtol=0, atol=1e-12)
    two = sampled_forward_kl(student, ids, p, entropy, mask=torch.arange(9) < 2, reduction="sum")
    assert two.item() == pytest.approx(dense[:2].sum().item())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="must be"):
        tail_bucket(logits(0), torch.zeros(9, 2, dtype=torch.long), torch.zeros(9, 3), torch.zeros(9))


def test_a_first_weight_that_was_rounded_to_zero_changes_nothing():
    """Value and gradient are those of the row without that entry."""
    given = torch.tensor([[1.0, -0.5, 0.3, 2.0]], dtype=torch.float64)
    found = []
    for ids, weights in (([3, 1, 0], [0.0, 0.6, 0.4]), ([1, 0, 3], [0.6, 0.4, 0.0])):
        student = given.clone().requires_grad_()
        value = sampled_forward_kl(
            student, torch.tensor([ids]), torch.tensor([weights], dtype=torch.float64), torch.tensor([0.5])
        )
        value.sum().backward()
        found.append((value.detach(), student.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)
    expected = -(0.6 * given.log_softmax(-1)[0, 1] + 0.4 * given.log_softmax(-1)[0, 0]) - 0.5
    assert found[0][0].item() == pytest.approx(expected.item(), abs=1e-7)
