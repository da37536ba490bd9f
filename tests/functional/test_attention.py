import pytest
import torch

from kdlab import functional


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


#: lengths 4, 2 and 3 of four positions, padded on the right
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
LENGTHS = MASK.sum(1).tolist()

STATES = [tensor(3, 4, 6, seed=seed) for seed in range(6)]
SCORES = [tensor(3, 2, 4, 4, seed=seed) for seed in range(2)]

#: function, its tensors, their dimensions of positions
CASES = {
    "hidden_mse": (functional.hidden_mse, STATES[:2], (1,)),
    "hidden_cosine": (functional.hidden_cosine, STATES[:2], (1,)),
    "sequence_fsp": (functional.sequence_fsp, STATES[:4], (1,)),
    "sequence_mmd": (functional.sequence_mmd, STATES[:4], (1,)),
    "attention_mse": (functional.attention_mse, SCORES, (2, 3)),
    "attention_mse sum": (
        lambda *scores, **options: functional.attention_mse(*scores, "sum", **options),
        SCORES,
        (2, 3),
    ),
    "attention_ce": (functional.attention_ce, SCORES, (2, 3)),
    "attention_ce mean": (
        lambda *scores, **options: functional.attention_ce(*scores, "mean", entropy=True, **options),
        SCORES,
        (2, 3),
    ),
    "minilm": (lambda *states, **options: functional.minilm(*states, heads=2, **options), STATES, (1,)),
    "minilmv2": (lambda *states, **options: functional.minilmv2(*states, heads=3, **options), STATES, (1,)),
}


@pytest.mark.parametrize("name", CASES)
def test_padding_counts_nowhere(name):
    """Sample by sample it is the value of the sample without its padding; what stands in the padding (inf, NaN) reaches
    no gradient."""
    function, tensors, dimensions = CASES[name]
    spoilt = [x.clone() for x in tensors]
    for x in spoilt:
        for sample, length in enumerate(LENGTHS):
            for dimension in dimensions:
                x[sample].narrow(dimension - 1, length, 4 - length).fill_(
                    float("nan") if dimension == 2 else float("inf")
                )
    spoilt[0].requires_grad_()
    values = function(*spoilt, mask=MASK)
    for sample, length in enumerate(LENGTHS):
        short = [x[sample : sample + 1] for x in tensors]
        for dimension in dimensions:
            short = [x.narrow(dimension, 0, length) for x in short]
        torch.testing.assert_close(values[sample].sum(), function(*short).sum())
    (gradient,) = torch.autograd.grad(values.sum(), spoilt[0])
    assert gradient.isfinite().all()
    padding = torch.zeros_like(gradient, dtype=torch.bool)
    for sample, length in enumerate(LENGTHS):
        for dimension in dimensions:
            padding[sample].narrow(dimension - 1, length, 4 - length).fill_(True)
    assert (gradient[padding] == 0).all()


def test_a_mask_may_stand_on_the_left():
    left = [x.roll(2, 1) for x in (x[1:2] for x in STATES)]
    torch.testing.assert_close(
        functional.minilmv2(*left, heads=2, mask=torch.tensor([[0, 0, 1, 1]])),
        functional.minilmv2(*[x[1:2, :2] for x in STATES], heads=2),
    )


def test_means_are_over_the_pairs_that_count():
    squares = (SCORES[0] - SCORES[1]).square()
    counting = [squares[sample, :, :length, :length] for sample, length in enumerate(LENGTHS)]
    expected = sum(x.sum() for x in counting) / sum(x.numel() for x in counting)
    torch.testing.assert_close(functional.attention_mse(*SCORES, mask=MASK, reduction="mean"), expected)


def test_minus_infinity_among_the_keys_is_no_trouble():
    student, teacher = (x.clone() for x in SCORES)
    student[..., -1], teacher[..., -1] = -float("inf"), -float("inf")
    expected = functional.attention_ce(student[..., :3, :3], teacher[..., :3, :3], entropy=True)
    student.requires_grad_()
    value = functional.attention_ce(student, teacher, entropy=True)
    torch.testing.assert_close(value[..., :3], expected)
    assert torch.autograd.grad(value.sum(), student)[0].isfinite().all()


def test_tinybert_leaves_out_masked_keys_by_their_score():
    student, teacher = (x.clone() for x in SCORES)
    student[..., -1] -= 1e4
    teacher[..., -1] -= 1e4
    states = STATES[:2]
    expected = (student - teacher).square()[..., :3].sum((1, 2, 3)) / 32 + functional.hidden_mse(*states).mean(1)
    torch.testing.assert_close(functional.tinybert([student], [teacher], states[:1], states[1:]), expected)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: functional.attention_scores(STATES[0], STATES[1], heads=4), r"\(3, 4, 6\).*4 heads"),
        (lambda: functional.attention_mse(*SCORES, over_heads="max"), "over_heads.*'max'"),
        (lambda: functional.attention_mse(SCORES[0], SCORES[1][:, :1]), r"\(3, 2, 4, 4\).*\(3, 1, 4, 4\)"),
        (lambda: functional.attention_ce(*SCORES, mask=MASK[:, :3]), r"mask \(B, T\), got \(3, 3\)"),
        (lambda: functional.minilmv2(*STATES, heads=2, relations={"qx": 1.0}), "relations.*'qx'"),
        (lambda: functional.tinybert(SCORES[:1], SCORES, [], []), "1 and 2 score tensors"),
        (lambda: functional.sequence_mmd(*STATES[:3], STATES[3][:, :2]), r"\(3, 4, 6\).*\(3, 2, 6\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
