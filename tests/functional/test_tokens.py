"""The shift, the masks and the means of token sequences."""

import pytest
import torch
import torch.nn.functional as F

from kdlab import functional

NOT = -100


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([[NOT, NOT, 3, 1, 2], [NOT, 4, 0, NOT, NOT]])


def test_rows_give_the_shifted_cross_entropy():
    values = logits(2, 5, 6)
    rows, target, weights = functional.token_rows(values, LABELS)
    found = functional.reduce(functional.cross_entropy(rows, target), weights)
    torch.testing.assert_close(
        found, F.cross_entropy(values[:, :-1].flatten(0, 1), LABELS[:, 1:].flatten(), ignore_index=NOT)
    )
    assert weights.tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


def test_an_answer_of_one_token_is_read_one_position_before_it():
    rows, _, weights = functional.token_rows(logits(1, 3, 6), torch.tensor([[NOT, 5, NOT]]))
    assert torch.equal(rows[weights == 1], logits(1, 3, 6)[:, 0])


def test_labels_that_are_shifted_already_are_not_shifted_again():
    rows, target, weights = functional.token_rows(logits(2, 5, 6), LABELS, shift=False)
    assert rows.shape == (10, 6) and torch.equal(target, LABELS.flatten()) and weights.sum() == 5


def test_the_end_of_text_counts_where_it_is_also_the_padding():
    tokens = torch.tensor([[0, 7, 8, 0, 0, 0], [6, 7, 8, 9, 8, 7]])
    assert functional.generated_mask(tokens, 2, padding=0).tolist() == [
        [True, True, False, False],
        [True, True, True, True],
    ]
    with pytest.raises(ValueError, match="prompt"):
        functional.generated_mask(tokens, 0, padding=0)


@pytest.mark.parametrize("average, expected", [("tokens", 14 / 4), ("sequences", ((1 + 2 + 3) / 3 + 8) / 2)])
def test_two_averages(average, expected):
    values = torch.tensor([[1.0, 2.0, 3.0], [8.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert functional.averaged(values, mask, average).item() == pytest.approx(expected)
    longer, wider = F.pad(values, (0, 4), value=float("inf")), F.pad(mask, (0, 4))
    assert functional.averaged(longer, wider, average).item() == pytest.approx(expected), "padding changes nothing"


def test_an_unknown_average_is_refused():
    with pytest.raises(ValueError, match="average"):
        functional.averaged(torch.zeros(1, 1), torch.ones(1, 1), "batch")


def test_what_stands_at_ignored_tokens_reaches_no_gradient():
    values = logits(2, 4, 6)
    values[0, 1], values[1, 3] = float("inf"), float("nan")
    values.requires_grad_()
    mask = functional.token_mask(torch.tensor([[5, NOT, 3, 1], [0, 1, 2, NOT]]), shift=False)
    tokens = torch.tensor([[5, NOT, 3, 1], [0, 1, 2, NOT]])
    total = functional.token_log_probability(values, tokens, mask=mask).sum()
    (gradient,) = torch.autograd.grad(total, values)
    assert total.isfinite() and gradient.isfinite().all() and (gradient[~mask] == 0).all()


def test_tokens_that_do_not_fit_are_refused_with_both_shapes():
    for call in (functional.token_rows, functional.token_log_probability):
        with pytest.raises(ValueError, match=r"\(2, 5, 6\).*\(2, 4\)"):
            call(logits(2, 5, 6), LABELS[:, :4])
