import pytest
import torch

from kdlab import functional


def tensor(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradient(function, student, *rest, **options):
    student = student.clone().requires_grad_()
    return torch.autograd.grad(function(student, *rest, **options).sum(), student)[0]


@pytest.mark.parametrize("name", ["sp", "cc_kernel", "rkd", "pkt", "similarity_kl", "cka", "cc"])
def test_equal_points_and_dead_features_have_small_gradients(name):
    """Duplicates in the student's batch, and a row of zeros: the gradient has the size of those without, and not of 1 /
    epsilon."""
    student = tensor(6, 4)
    student[1], student[2] = student[0], 0.0
    found = gradient(getattr(functional, name), student, tensor(6, 4, seed=1))
    assert found.isfinite().all() and found.abs().max() < 100, found


@pytest.mark.parametrize("name", ["sp", "cc", "cc_kernel", "rkd", "pkt", "similarity_kl", "cka"])
def test_a_batch_of_one_is_finite(name):
    value = getattr(functional, name)(tensor(1, 4), tensor(1, 4, seed=1))
    assert value.isfinite() and value.dim() == 0


def test_rkd_of_scaled_and_turned_features_is_zero_and_its_parts_add_up():
    x = tensor(5, 3, dtype=torch.float64)
    turned = 7 * x[:, [2, 0, 1]]
    assert functional.rkd(turned, x).item() < 1e-20
    y = tensor(5, 4, seed=1, dtype=torch.float64)
    assert functional.rkd(x, y).item() == pytest.approx(
        25 * functional.rkd(x, y, 1.0, 0.0).item() + 50 * functional.rkd(x, y, 0.0, 1.0).item()
    )


def test_the_polynomial_kernel_approaches_the_gaussian():
    x, y = tensor(4, 3, dtype=torch.float64), tensor(4, 5, seed=1, dtype=torch.float64)
    k, m = (
        torch.cdist(unit, unit).square().mul(-0.4).exp() for unit in (torch.nn.functional.normalize(f) for f in (x, y))
    )
    torch.testing.assert_close(functional.cc_kernel(x, y, order=12), (k - m).square().mean(), rtol=1e-6, atol=1e-10)


def test_grams_keep_their_precision_under_autocast():
    s, t = tensor(8, 64), tensor(8, 32, seed=1)
    for function in (functional.sp, functional.pkt, functional.rkd, functional.cka):
        with torch.autocast("cpu", torch.bfloat16):
            inside = function(s, t)
        assert torch.equal(inside, function(s, t))


def stages(seed, channels=(4, 6)):
    return [
        tensor(2, channels[0], 6, 6, seed=seed, dtype=torch.float64),
        tensor(2, channels[1], 3, 3, seed=seed + 10, dtype=torch.float64),
    ]


def test_dead_channels_leave_the_gradient_of_kdsvd_finite():
    student, teacher = stages(0), stages(1)
    student[0][:, 1:] = 0.0
    assert gradient(functional.kdsvd, student[0], student[1], *teacher).isfinite().all()
    assert functional.kdsvd(torch.zeros_like(student[0]), student[1], *teacher).isfinite().all()


def test_kdsvd_takes_the_signs_that_it_is_given():
    student, teacher = stages(0), stages(1)
    vectors = [
        torch.linalg.svd(x.flatten(2).transpose(1, 2), full_matrices=False)[2].transpose(1, 2)[..., :1] for x in teacher
    ]
    usual = functional.kdsvd(*student, *teacher)
    same, one_turned = (
        functional.kdsvd(*student, *teacher, teacher_vectors=(sign * vectors[0], vectors[1])) for sign in (1, -1)
    )
    both_turned = functional.kdsvd(*student, *teacher, teacher_vectors=(-vectors[0], -vectors[1]))
    torch.testing.assert_close(same, both_turned)
    assert (same != one_turned).all()
    for value, a, b in zip(usual, same, one_turned):
        assert torch.isclose(value, a) or torch.isclose(value, b)


def test_maps_are_compared_at_the_smaller_size():
    small = tensor(2, 3, 2, 2)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for s, t in ((large, small), (small, large)):
        torch.testing.assert_close(functional.nst(s, t), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(functional.fsp(large, small, small, small), torch.zeros(2))


@pytest.mark.parametrize(
    "function, arguments, words",
    [
        (functional.nst, (tensor(2, 3), tensor(2, 3)), r"\(2, 3\)"),
        (functional.sp, (tensor(2, 3), tensor(3, 3)), r"\(2, 3\).*\(3, 3\)"),
        (functional.fsp, (*stages(0), *stages(1, (5, 6))), r"\(2, 4, 6, 6\).*\(2, 5, 6, 6\).*channels"),
        (functional.fsp, (*stages(0), *[x[:1] for x in stages(1)]), "same samples"),
    ],
)
def test_what_does_not_fit_is_refused(function, arguments, words):
    with pytest.raises(ValueError, match=words):
        function(*arguments)


def test_another_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel.*'cosine'"):
        functional.cc_kernel(tensor(2, 3), tensor(2, 3), "cosine")


def test_similarity_kl_by_hand():
    """Two orthogonal samples and one between them: cosines 0 and 0.7071, against a teacher of equal vectors."""
    s, t = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.ones(3, 1)
    near = torch.tensor(0.5).sqrt().mul(2).exp()  # at temperature 0.5
    share = near / (1 + near)
    row = 0.5 * (0.5 / share).log() + 0.5 * (0.5 / (1 - share)).log()
    assert functional.similarity_kl(s, t, 0.5).item() == pytest.approx(2 / 3 * row.item(), rel=1e-5)
    assert functional.similarity_kl(s[:2], t[:2]).item() == 0, "one other sample has the probability 1"
