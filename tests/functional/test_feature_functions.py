import math

import pytest
import torch

from kdlab import functional
from kdlab.functional.maps import same_size


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_margin_is_the_mean_of_the_negative_part():
    scale, shift = torch.tensor([1.0, 0.5, -2.0, 1.0, 0.0]), torch.tensor([0.0, -0.3, 0.7, 8.0, 0.2])
    margins = functional.normal_margin(scale, shift)
    for number in range(3):
        x = shift[number].double() + scale[number].abs().double() * torch.linspace(
            -12, 12, 2_000_001, dtype=torch.float64
        )
        density = torch.exp(-0.5 * ((x - shift[number]) / scale[number]).square()) * (x < 0)
        assert margins[number].item() == pytest.approx((x * density).sum().item() / density.sum().item(), rel=1e-5)
    assert margins[3:].tolist() == [-3.0, 0.0]


def test_the_partial_l2_asks_nothing_of_a_student_that_is_as_silent_as_the_teacher():
    teacher, margin = -tensor(4, 3, 2, 2).abs(), torch.tensor([-0.5, -1.0, -0.1])
    assert functional.partial_l2(teacher - 1, teacher, margin).abs().max() == 0
    assert functional.partial_l2(teacher.new_ones(teacher.shape), teacher, margin).min() > 0


def test_attention_does_not_see_scale_or_order_of_channels():
    student, teacher = tensor(3, 4, 5, 5), tensor(3, 6, 5, 5, seed=1)
    for form in ("code", "paper"):
        value = functional.attention_transfer(student, teacher, form=form)
        torch.testing.assert_close(
            functional.attention_transfer(7 * student[:, [2, 0, 3, 1]], teacher, form=form), value
        )
    # the two forms are the same distance: a norm, and the mean of its squares
    squares = functional.attention_transfer(student, teacher, form="paper").square()
    torch.testing.assert_close(squares / 25, functional.attention_transfer(student, teacher))


def test_the_reductions_of_factor_transfer():
    student, teacher = tensor(3, 2, 2, 2), tensor(3, 2, 2, 2, seed=1)
    rows = functional.factor_transfer(student, teacher, form="paper")
    assert functional.factor_transfer(student, teacher, form="paper", reduction="elementmean").item() == pytest.approx(
        rows.sum().item() / 24
    )


def test_negatives_count_for_the_samples_in_use():
    v, memory = torch.nn.functional.normalize(tensor(2, 4), dim=1), tensor(9, 4, seed=1)
    contrast = torch.tensor([[0, 1, 2], [3, 4, 5]])
    z = functional.contrastive_normaliser(v, memory, contrast, 1.0)
    assert z.item() == pytest.approx(9 * sum(math.exp(v[b] @ memory[row]) for b in range(2) for row in contrast[b]) / 6)
    assert functional.contrastive_normaliser(v, memory, contrast, 1.0, samples=3).item() == pytest.approx(z.item() / 3)


def test_embeddings_far_from_unit_length_stay_finite():
    v, memory = 100 * tensor(2, 4).float().requires_grad_(), tensor(9, 4, seed=1).float()
    values = functional.contrastive_representation(
        v, v.detach(), memory, memory, torch.tensor([[0, 1, 2], [3, 4, 5]]), 1.0, 1.0
    )
    (gradient,) = torch.autograd.grad(values.sum(), v)
    assert values.isfinite().all() and gradient.isfinite().all()


def test_maps_that_are_larger_in_one_direction_each_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2, 4, 2\).*\(1, 2, 2, 4\)"):
        same_size(torch.ones(1, 2, 4, 2), torch.ones(1, 2, 2, 4), "a loss")


@pytest.mark.parametrize(
    "call",
    [
        lambda: functional.attention_transfer(torch.ones(2, 3), torch.ones(2, 3)),
        lambda: functional.hierarchical_context(torch.ones(2, 3, 4), torch.ones(2, 3, 4)),
        lambda: functional.partial_l2(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2)),
        lambda: functional.variational_information(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2)),
        lambda: functional.factor_transfer(torch.ones(2, 3, 1, 1), torch.ones(2, 3, 1, 1), form="other"),
    ],
)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize(
    "name, options",
    [
        ("attention_transfer", {"power": 1.0}),
        ("factor_transfer", {"power": 1.0}),
        ("factor_transfer", {"form": "paper"}),
    ],
)
def test_a_dead_sample_has_a_finite_gradient(name, options):
    student, teacher = tensor(3, 4, 2, 2), tensor(3, 4, 2, 2, seed=1)
    student[1] = 0.0
    student.requires_grad_()
    getattr(functional, name)(student, teacher, **options).sum().backward()
    assert student.grad[1].abs().max() == 0 and student.grad[[0, 2]].abs().max() > 0


def test_a_dead_query_has_a_finite_gradient():
    query, key = tensor(3, 2, 4), tensor(3, 2, 4, seed=1)
    query[1] = 0.0
    query.requires_grad_()
    functional.semantic_calibration(query, key, tensor(3, 2, 2, seed=2).square()).sum().backward()
    assert query.grad[1].abs().max() == 0 and query.grad[[0, 2]].abs().max() > 0
