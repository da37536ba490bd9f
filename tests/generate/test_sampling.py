"""Draws: their chances, and that they depend on the answer alone."""

import pytest
import torch

from kdlab.errors import InputError
from kdlab.generate.sampling import Sampling, drawn, probabilities, uniforms


def test_shares_of_draws_are_the_chances():
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, -30.0])
    number = 20_000
    index, sample = torch.arange(number) // 4, torch.arange(number) % 4
    chances = probabilities(logits, 0.7, top_k=3)
    found = drawn(chances.expand(number, -1), uniforms(index, sample, 5, seed=3))
    share = torch.bincount(found, minlength=5) / number
    torch.testing.assert_close(share.double(), chances, atol=0.012, rtol=0)
    expected = (logits[[3, 0, 1]].double() / 0.7).softmax(0)
    torch.testing.assert_close(chances[[3, 0, 1]], expected)
    assert chances[2] == 0 and share[2] == 0


def test_top_p_keeps_the_token_that_passes_it():
    chances = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    for top_p, kept in ((0.4, 1), (0.5, 1), (0.51, 2), (0.9, 3), (1.0, 4)):
        assert int((probabilities(chances.log(), 1.0, top_p=top_p) > 1e-9).sum()) == kept


def test_a_number_beyond_the_sum_is_the_last_class_with_a_chance():
    assert drawn(torch.tensor([[0.3, 0.7, 0.0]]), torch.tensor([1.0])).tolist() == [1]


def test_numbers_differ_by_prompt_sample_place_and_seed():
    index, sample = torch.tensor([3, 3, 4, 3]), torch.tensor([0, 1, 0, 0])
    one = uniforms(index, sample, 0, seed=1)
    assert len(set(one.tolist())) == 3 and one[0] == one[3]
    assert uniforms(index, sample, 1, seed=1)[0] != one[0] != uniforms(index, sample, 0, seed=2)[0]
    assert Sampling(temperature=1.0).seed_of(3, 1) != Sampling(temperature=1.0).seed_of(3, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "sampling.samples must be a whole number of at least 1, got 0"),
        ({"max_tokens": 1.5}, "sampling.max_tokens must be a whole number"),
        ({"temperature": -1}, "sampling.temperature must be a finite number of at least 0, got -1"),
        ({"temperature": "hot"}, "sampling.temperature must be a finite number"),
        ({"top_p": 0}, "sampling.top_p must be greater than 0 and at most 1"),
        ({"top_k": 0}, "sampling.top_k must be a whole number of at least 1"),
        ({"seed": None}, "sampling.seed must be a whole number"),
        ({"samples": 2}, "with sampling.temperature=0 all answers to a prompt are equal; sampling.temperature=1"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        Sampling(**options)
