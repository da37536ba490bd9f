"""Loss terms on logits, a part of the rows at a time: the values and gradients of all rows at once."""

import pytest
import torch
from torch import nn

import kdlab.losses
from kdlab.batch import Batch
from kdlab.objective import Objective
from kdlab.outputs import LazyLogits, Outputs
from tests.contract.test_modules import INDEX, NAMES, parts_with

ROWS, WIDTH, CLASSES = 11, 6, 10


def made(dtype=torch.float64, weights=True, head=True):
    """A student's hidden states and head, a teacher's logits, and rows with labels."""
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, dtype=dtype, requires_grad=True)
    linear = nn.Linear(WIDTH, CLASSES, dtype=dtype).requires_grad_(head)
    teacher = 2 * torch.randn(ROWS, CLASSES, dtype=dtype)
    target = torch.arange(ROWS) % CLASSES
    given = torch.rand(ROWS, dtype=dtype).round(decimals=1) if weights else None
    return hidden, linear, teacher, Batch(None, target, torch.arange(ROWS), weights=given, normaliser=7.0)


def gradients(objective, hidden, linear, teacher, rows, at_once, labels=1.0, taught=1.0, known=True):
    """The parts of the loss, and the gradients of hidden states, head and the terms' parameters."""
    answer = LazyLogits(hidden, linear, tuple(linear.parameters()), at_once, linear=known)
    loss = objective(Outputs(answer), Outputs(teacher), rows).scaled(labels, taught)
    learned = [hidden, *linear.parameters(), *objective.parameters()]
    learned = [one for one in learned if one.requires_grad]
    found = torch.autograd.grad(3 * loss.total, learned, allow_unused=True)
    return loss, [torch.zeros_like(one) if value is None else value for one, value in zip(learned, found)]


def both(objective, *arguments, at_once=3, **factors):
    (one, whole), (other, parts) = (gradients(objective, *arguments, number, **factors) for number in (None, at_once))
    assert one.parts.keys() == other.parts.keys()
    return (one, whole), (other, parts)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_loss_on_logits_has_the_same_value_and_gradient(name, known):
    objective = parts_with(name).strategy.objective.double()
    if not objective.losses[name].by_rows:
        pytest.skip("it needs more than a row's logits")
    (one, whole), (other, parts) = both(objective, *made(), known=known)
    assert float(one.total.detach()) == pytest.approx(float(other.total.detach()), rel=1e-10, abs=1e-12)
    for left, right in zip(whole, parts):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


def test_most_losses_on_logits_are_computed_by_rows():
    by_rows = {name for name in NAMES if parts_with(name).strategy.objective.losses[name].by_rows}
    assert {"ce", "kd", "forward_kl", "reverse_kl", "jensen_shannon", "skew_forward_kl", "total_variation"} <= by_rows
    assert not {"hint", "rkd", "class_correlation", "multi_level", "crd"} & by_rows
    assert all(INDEX[name].method.family in ("divergence", "logits", "labels", "hard") or name for name in by_rows)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("weights", [True, False])
def test_several_terms_share_the_logits_of_a_part(dtype, tolerance, weights):
    asked = []
    objective = Objective(
        {"ce": kdlab.losses.CrossEntropy(), "kd": kdlab.losses.HintonKD(temperature=2.0)}, {"ce": 0.3, "kd": 0.7}
    )
    hidden, linear, teacher, rows = made(dtype, weights)
    linear.register_forward_hook(lambda module, inputs, output: asked.append(len(output)))
    (one, whole), (other, parts) = both(objective, hidden, linear, teacher, rows, at_once=4)
    assert asked == [ROWS, 4, 4, 3], "the head is applied once to each row"
    for name in ("ce", "kd"):
        assert float(one.parts[name]) == pytest.approx(float(other.parts[name]), rel=tolerance)
    for left, right in zip(whole, parts):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def test_two_factors_for_labels_and_teacher():
    objective = Objective({"ce": kdlab.losses.CrossEntropy(), "kd": kdlab.losses.HintonKD()}, {"ce": 1.0, "kd": 1.0})
    (_, whole), (_, parts) = both(objective, *made(), labels=0.2, taught=5.0)
    for left, right in zip(whole, parts):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)


def test_a_head_that_is_not_trained_has_no_gradient():
    objective = Objective({"kd": kdlab.losses.HintonKD()}, {"kd": 1.0})
    (_, whole), (_, parts) = both(objective, *made(head=False))
    assert len(whole) == len(parts) == 1
    torch.testing.assert_close(whole[0], parts[0], rtol=1e-10, atol=1e-12)


def test_a_lazy_teacher_is_asked_for_the_same_rows():
    asked = []
    objective = Objective({"kd": kdlab.losses.HintonKD()}, {"kd": 1.0})
    hidden, linear, teacher, rows = made()
    answer = LazyLogits(hidden, linear, tuple(linear.parameters()), 4)
    lazy = LazyLogits(teacher, lambda states: asked.append(len(states)) or states)
    found = objective(Outputs(answer), Outputs(lazy), rows).total
    dense = objective(Outputs(linear(hidden)), Outputs(teacher), rows).total
    assert asked == [4, 4, 3] and float(found) == pytest.approx(float(dense), rel=1e-10)


def test_nothing_of_the_size_of_all_logits_is_kept():
    """The tensors that the graph keeps have no more numbers than hidden states and head."""
    objective = Objective({"kd": kdlab.losses.HintonKD()}, {"kd": 1.0})
    hidden, linear, teacher, rows = made()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.numel()) or one, lambda one: one):
        gradients(objective, hidden, linear, teacher, rows, 3)
    assert max(kept) <= max(hidden.numel(), linear.weight.numel()) < ROWS * CLASSES


def test_without_gradients_only_the_values_are_computed():
    objective = Objective({"ce": kdlab.losses.CrossEntropy()}, {"ce": 1.0})
    hidden, linear, teacher, rows = made()
    with torch.no_grad():
        answer = LazyLogits(hidden, linear, tuple(linear.parameters()), 4)
        found = objective(Outputs(answer), None, rows).total
        assert float(found) == pytest.approx(float(objective(Outputs(linear(hidden)), None, rows).total))
        assert not found.requires_grad


@pytest.mark.parametrize("known", [True, False])
def test_half_precision(known):
    """Under autocast, values are as accurate as all rows at once, and a dense term after them has its gradient."""
    objective = Objective({"kl": kdlab.losses.ForwardKL(), "js": kdlab.losses.JensenShannon()}, {"kl": 1.0, "js": 1.0})
    hidden, linear, teacher, rows = made(torch.float32)
    teacher = 10 * teacher  # a product of such logits in bfloat16 would be off by more than the tolerance
    found = []
    for at_once in (None, 3):
        with torch.autocast("cpu", torch.bfloat16):
            answer = LazyLogits(hidden, linear, tuple(linear.parameters()), at_once, linear=known)
            parts = objective(Outputs(answer), Outputs(teacher), rows)
            dense = linear(hidden).float().square().mean()
        found.append((parts.parts, torch.autograd.grad(parts.total + dense, [hidden, *linear.parameters()])))
    for name in ("kl", "js"):
        assert float(found[0][0][name]) == pytest.approx(float(found[1][0][name]), rel=1e-5)
    for left, right in zip(found[0][1], found[1][1]):
        torch.testing.assert_close(left, right, rtol=2e-2, atol=2e-3 * float(left.abs().max()))


def test_the_head_of_a_detached_answer_leaves_nothing_in_the_cache_of_autocast():
    hidden, linear, _, _ = made(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        LazyLogits(hidden, linear, tuple(linear.parameters())).detach().dense()
        loss = linear(hidden).float().sum()
    assert all(one is not None for one in torch.autograd.grad(loss, list(linear.parameters()), allow_unused=True))
