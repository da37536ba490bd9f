import math

import pytest
import torch

from kdlab.functional import (
    cross_entropy,
    dist,
    dkd,
    forward_kl,
    hinton_kd,
    logit_mse,
    multi_level,
    nkd,
    reduce,
    soft_cross_entropy,
    standardise,
    uskd,
    wsld,
)

INF = float("inf")
AGAINST_TEACHER = [forward_kl, hinton_kd, logit_mse]
SOFTENED = [forward_kl, hinton_kd]


def logits(*shape, seed=0, scale=3.0, dtype=torch.float64):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale).to(dtype)


def softmax(row, temperature=1.0):
    powers = [math.exp(z / temperature) for z in row]
    return [power / math.fsum(powers) for power in powers]


def slow_kl(student, teacher, temperature):
    values = []
    for s, t in zip(student.tolist(), teacher.tolist()):
        p, q = softmax(t, temperature), softmax(s, temperature)
        values.append(math.fsum(a * math.log(a / b) for a, b in zip(p, q)))
    return values


def slow_cross_entropy(student, target, smoothing):
    values = []
    for row, label in zip(student.tolist(), target.tolist()):
        share = smoothing / len(row)
        wanted = [share + (1 - smoothing) * (number == label) for number in range(len(row))]
        values.append(-math.fsum(w * math.log(q) for w, q in zip(wanted, softmax(row))))
    return values


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_forward_kl(temperature):
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    assert forward_kl(student, teacher, temperature).tolist() == pytest.approx(
        slow_kl(student, teacher, temperature), rel=1e-10
    )


def test_forward_kl_is_of_the_student_from_the_teacher_and_not_the_reverse():
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    assert forward_kl(teacher, student).tolist() == pytest.approx(slow_kl(teacher, student, 1.0))
    assert not torch.allclose(forward_kl(student, teacher), forward_kl(teacher, student), rtol=0.01)


def test_forward_kl_reads_the_last_dimension_of_sequences():
    student, teacher = logits(2, 3, 5), logits(2, 3, 5, seed=1)
    values = forward_kl(student, teacher, 2.0)
    assert values.shape == (2, 3)
    assert values[1].tolist() == pytest.approx(slow_kl(student[1], teacher[1], 2.0))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_hinton_kd(temperature):
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    kl = slow_kl(student, teacher, temperature)
    assert hinton_kd(student, teacher, temperature).tolist() == pytest.approx([temperature**2 * value for value in kl])
    assert hinton_kd(student, teacher, temperature, temperature_squared=False).tolist() == pytest.approx(kl)
    assert torch.equal(hinton_kd(student, teacher), hinton_kd(student, teacher, 4.0, True))


def test_logit_mse():
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    slow = [math.fsum((a - b) ** 2 for a, b in zip(s, t)) / 5 for s, t in zip(student.tolist(), teacher.tolist())]
    assert logit_mse(student, teacher).tolist() == pytest.approx(slow)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(smoothing):
    student, target = logits(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    assert cross_entropy(student, target, smoothing).tolist() == pytest.approx(
        slow_cross_entropy(student, target, smoothing)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_an_ignored_label_is_zero_and_has_no_gradient(smoothing):
    student = logits(2, 5).requires_grad_()
    values = cross_entropy(student, torch.tensor([-100, 1]), smoothing)
    values.sum().backward()
    assert values[0].item() == 0.0 and values[1].item() > 0
    assert student.grad[0].tolist() == [0.0] * 5 and student.grad[1].abs().sum() > 0


@pytest.mark.parametrize("loss", AGAINST_TEACHER)
def test_a_loss_is_zero_where_the_student_equals_the_teacher_and_positive_elsewhere(loss):
    teacher = logits(4, 5, dtype=torch.float32)
    student = teacher.clone().requires_grad_()
    values = loss(student, teacher)
    values.sum().backward()
    assert values.tolist() == [0.0] * 4
    assert student.grad.abs().max() < 1e-5
    assert (loss(logits(4, 5, seed=1), logits(4, 5)) > 0).all()


# -- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", AGAINST_TEACHER)
def test_gradient(loss):
    teacher = logits(3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda student: loss(student, teacher), logits(3, 4).requires_grad_())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_of_cross_entropy(smoothing):
    target = torch.tensor([0, 3, -100])
    assert torch.autograd.gradcheck(
        lambda student: cross_entropy(student, target, smoothing), logits(3, 4).requires_grad_()
    )


def gradient_size(temperature, squared):
    student, teacher = logits(8, 5, scale=1.0).requires_grad_(), logits(8, 5, seed=1, scale=1.0)
    hinton_kd(student, teacher, temperature, squared).sum().backward()
    return student.grad.norm().item()


def test_temperature_squared_keeps_the_size_of_the_gradient():
    assert gradient_size(32.0, True) / gradient_size(8.0, True) == pytest.approx(1.0, abs=0.1)
    # without the factor it shrinks by (32 / 8)^2
    assert gradient_size(8.0, False) / gradient_size(32.0, False) == pytest.approx(16.0, rel=0.1)


def test_at_a_high_temperature_the_gradient_is_that_of_matching_centred_logits():
    # equation 4 of Hinton et al. (2015), with the factor T^2
    student, teacher = logits(8, 5, scale=1.0), logits(8, 5, seed=1, scale=1.0)
    student = (student - student.mean(1, keepdim=True)).requires_grad_()
    teacher = teacher - teacher.mean(1, keepdim=True)
    hinton_kd(student, teacher, 1e4).sum().backward()
    assert torch.allclose(student.grad, (student.detach() - teacher) / 5, atol=1e-3)


# -- extremes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", AGAINST_TEACHER)
def test_half_precision_stays_finite_and_close(loss, dtype):
    student = torch.tensor([[60.0, -60.0, 0.0], [-60.0, 60.0, 1.0]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-60.0, 60.0, 0.0], [-60.0, 60.0, -1.0]], dtype=dtype)
    values = loss(student, teacher)
    values.mean().backward()
    assert values.dtype is torch.float32 and student.grad.dtype is dtype
    assert values.isfinite().all() and student.grad.isfinite().all()
    # absolute, because a divergence of nearly equal rows is a difference of nearly equal numbers
    assert torch.allclose(values.double(), loss(student.detach().double(), teacher.double()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cross_entropy_in_half_precision(dtype):
    student = torch.tensor([[60.0, -60.0, 0.0]], dtype=dtype, requires_grad=True)
    value = cross_entropy(student, torch.tensor([1]), label_smoothing=0.1)
    value.sum().backward()
    assert value.item() == pytest.approx(0.9 * 120 + 0.1 * (0 + 120 + 60) / 3, rel=1e-5)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", SOFTENED)
@pytest.mark.parametrize("student_too", [False, True])
def test_a_class_that_the_teacher_excludes(loss, student_too):
    teacher = torch.tensor([[1.0, -INF, 2.0, 0.5]], dtype=torch.float64)
    student = torch.tensor([[0.5, -INF if student_too else 1.0, -1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    value = loss(student, teacher, 1.0)
    value.sum().backward()
    p, q = softmax(teacher[0].tolist()), softmax(student[0].tolist())
    assert value.item() == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q) if a > 0))
    # the gradient of a Kullback-Leibler divergence is q - p: the excluded class is pushed down
    assert student.grad[0].tolist() == pytest.approx([b - a for a, b in zip(p, q)])


@pytest.mark.parametrize("loss", SOFTENED)
def test_a_masked_row_whose_value_is_infinite_has_exactly_no_gradient(loss):
    student = torch.tensor([[0.0, 1.0], [-INF, 1.0]], requires_grad=True)
    values = loss(student, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 1.0)
    assert values[1].item() == INF
    reduce(values, torch.tensor([1.0, 0.0])).backward()
    assert student.grad[1].tolist() == [0.0, 0.0] and student.grad[0].abs().sum() > 0


# -- shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", AGAINST_TEACHER)
@pytest.mark.parametrize("teacher", [(4, 6), (3, 5), (1, 5), (4, 1), (5,), (4, 1, 5)])
def test_shapes_that_differ_are_refused_also_where_they_would_broadcast(loss, teacher):
    with pytest.raises(ValueError) as error:
        loss(torch.ones(4, 5), torch.ones(teacher))
    assert "(4, 5)" in str(error.value) and str(tuple(teacher)) in str(error.value)


@pytest.mark.parametrize(
    "target", [torch.zeros(3).long(), torch.zeros(1).long(), torch.zeros(4, 1).long(), torch.ones(4, 5) / 5]
)
def test_targets_must_be_one_class_number_a_row(target):
    # class probabilities are refused too: torch would take them without a word, ignoring -100
    with pytest.raises(ValueError) as error:
        cross_entropy(torch.ones(4, 5), target)
    assert "(4, 5)" in str(error.value) and str(tuple(target.shape)) in str(error.value)


# -- switches and limits of the further losses -------------------------------------------------------------------------


def test_smoothing_over_the_others_is_a_larger_smoothing_over_all():
    student, target = logits(6, 5), torch.tensor([0, 1, 2, 3, 4, -100])
    assert torch.allclose(
        cross_entropy(student, target, 0.2, smoothing_over="others"),
        cross_entropy(student, target, 0.2 * 5 / 4),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="smoothing_over"):
        cross_entropy(student, target, 0.1, smoothing_over="some")


def test_soft_cross_entropy_is_the_divergence_and_the_entropy():
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    entropy = torch.distributions.Categorical(logits=teacher / 2.0).entropy()
    assert torch.allclose(soft_cross_entropy(student, teacher, 2.0), forward_kl(student, teacher, 2.0) + entropy)
    assert torch.allclose(
        soft_cross_entropy(student, teacher, 2.0, True), 4.0 * soft_cross_entropy(student, teacher, 2.0)
    )


def test_a_class_that_the_student_alone_excludes_is_infinite_or_left_out():
    student, teacher = torch.tensor([[0.0, -INF, 1.0]]), torch.tensor([[1.0, 2.0, 0.0]])
    assert soft_cross_entropy(student, teacher).item() == INF
    p, q = softmax(teacher[0].tolist()), softmax(student[0].tolist())
    assert soft_cross_entropy(student, teacher, skip_infinite=True).item() == pytest.approx(
        -p[0] * math.log(q[0]) - p[2] * math.log(q[2])
    )


def test_decoupled_distillation_is_hintons_at_the_weights_of_its_derivation():
    student, teacher, target = logits(6, 5), logits(6, 5, seed=1), torch.tensor([0, 1, 2, 3, 4, 0])
    label = dkd(student, teacher, target, 1.0, 0.0)
    others = dkd(student, teacher, target, 0.0, 1.0)
    rest = 1 - (teacher / 4).softmax(-1).gather(1, target[:, None]).squeeze(1)
    assert torch.allclose(label + rest * others, hinton_kd(student, teacher))


def test_decoupled_distillation_stays_finite_where_the_student_is_certain():
    # 1 - p of the label is below the smallest number of float32: a logarithm of the sum would be -inf
    student = torch.tensor([[200.0, 0.0, 1.0]], requires_grad=True)
    value = dkd(student, torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), temperature=1.0)
    value.sum().backward()
    assert value.isfinite().all() and student.grad.isfinite().all() and student.grad[0, 0] > 0


@pytest.mark.parametrize("loss", [dkd, nkd, wsld])
def test_rows_without_a_label_do_not_count(loss):
    student, teacher = logits(3, 5).requires_grad_(), logits(3, 5, seed=1)
    values = loss(student, teacher, torch.tensor([1, -100, 2]))
    values.sum().backward()
    assert values[1].item() == 0.0 and student.grad[1].tolist() == [0.0] * 5
    assert loss(student, teacher, torch.tensor([1, -100, 2]), reduction="mean").item() == pytest.approx(
        ((values[0] + values[2]) / 2).item()
    )


def test_the_teachers_probability_of_the_label_is_a_constant_in_nkd():
    """With gamma 0 the first term alone is left."""
    student, teacher = logits(3, 5).requires_grad_(), logits(3, 5, seed=1).requires_grad_()
    values = nkd(student, teacher, torch.tensor([1, 0, 2]), gamma=0.0)
    gradients = torch.autograd.grad(values.sum(), [student, teacher], allow_unused=True)
    assert gradients[0].abs().sum() > 0 and (gradients[1] is None or not gradients[1].any())


def test_nkd_takes_the_largest_of_mixed_labels():
    student, teacher = logits(2, 3), logits(2, 3, seed=1)
    mixed = torch.tensor([[0.2, 0.7, 0.1], [0.0, 0.4, 0.6]], dtype=torch.float64)
    assert torch.equal(nkd(student, teacher, mixed), nkd(student, teacher, torch.tensor([1, 2])))


def test_the_weight_of_wsld_is_a_constant_and_falls_with_what_the_student_knows():
    student, teacher, target = logits(3, 4).requires_grad_(), logits(3, 4, seed=1), torch.tensor([0, 1, 2])
    wsld(student, teacher, target, 2.0).sum().backward()
    ratio = (cross_entropy(student, target) / cross_entropy(teacher, target)).detach()
    mine = student.detach().clone().requires_grad_()
    ((1 - (-ratio).exp()) * soft_cross_entropy(mine, teacher, 2.0, True)).sum().backward()
    assert torch.allclose(student.grad, mine.grad)
    certain = torch.tensor([[1000.0, 0.0]])
    assert wsld(torch.zeros(1, 2), certain, torch.tensor([0]), 1.0).item() == pytest.approx(math.log(2))
    assert wsld(certain, certain, torch.tensor([0]), 1.0).item() == 0.0


@pytest.mark.parametrize("by_logarithm, first, second", [(False, 1 / 3, 2 / 3), (True, 2 / 3, 1 / 3)])
def test_uskd_ranks_by_probability_or_as_its_code_does_by_logarithm(by_logarithm, first, second):
    # the weak classifier prefers class 1 by 0.46 of what is not the label's; the student class 2, by 0.54 in
    # probability and 0.34 in the logarithm
    student, weak = (
        torch.tensor([[0.0, 1.0, 2.2]], dtype=torch.float64),
        torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64),
    )
    value = uskd(student, weak, torch.tensor([0]), 0.0, 1.0, 0.0, rank_by_logarithm=by_logarithm).item()
    log_q = student[0, 1:].log_softmax(0).tolist()
    assert value == pytest.approx(-first * log_q[0] - second * log_q[1])


def test_standardise():
    rows = standardise(torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]], dtype=torch.float64))
    assert rows[0].mean().item() == pytest.approx(0.0, abs=1e-12) and rows[0].std().item() == pytest.approx(
        1.0, rel=1e-6
    )
    assert rows[1].tolist() == [0.0] * 3
    excluded = standardise(torch.tensor([[1.0, -INF, 2.0, 6.0]], dtype=torch.float64))[0]
    assert excluded[1].item() == -INF and torch.allclose(excluded[[0, 2, 3]], rows[0])


def test_the_correlations_of_dist_do_not_see_a_linear_change_of_the_probabilities():
    p = logits(6, 4).softmax(1)
    mixed = (0.5 * p + 0.5 / 4).log()
    assert dist(mixed, p.log(), gamma=0.0).item() == pytest.approx(0.0, abs=1e-6)
    assert dist(mixed, p.log()).item() == pytest.approx(0.0, abs=1e-6)


def test_dist_counts_pixels_and_no_masked_ones():
    student, teacher = logits(2, 3, 2, 2), logits(2, 3, 2, 2, seed=1)
    mask = torch.tensor([[[1, 1], [0, 1]], [[1, 1], [1, 1]]])
    rows = mask.bool()
    assert torch.allclose(
        dist(student, teacher, mask=mask), dist(student.movedim(1, -1)[rows], teacher.movedim(1, -1)[rows])
    )
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        dist(logits(2, 3, 4), logits(2, 3, 4))


def test_multi_level_leaves_out_the_confident_samples_of_the_weak_view():
    teacher = torch.tensor([[5.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    student, options = logits(3, 3).requires_grad_(), {"temperatures": [2.0], "class_weight": 0.0, "batch_weight": 0.0}
    multi_level(student, teacher, teacher, teacher, **options).backward()
    assert student.grad[0].tolist() == [0.0] * 3 and (student.grad[1:].abs().sum(1) > 0).all()
    each = hinton_kd(student, teacher, 2.0)
    assert multi_level(student, teacher, teacher, teacher, **options).item() == pytest.approx(
        ((each[1] + each[2]) / 3).item()
    )
    # the authors' code multiplies the mean over all samples by the fraction of those that take part
    assert multi_level(student, teacher, teacher, teacher, mask_after_mean=True, **options).item() == pytest.approx(
        (each.mean() * 2 / 3).item()
    )
