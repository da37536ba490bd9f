"""MiniLLM's terms: what they are gradients and expectations of, and the switches to other code."""

import pytest
import torch

from kdlab import functional

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
REWARDS = torch.tensor([[1.0, -2.0, 4.0, 7.0], [2.0, 0.5, -1.0, 3.0]], dtype=torch.float64)


def logits(seed):
    return torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_token(student):
    """Each token once, (7, 1), and the student's probability of it: an expectation over the student's text is a sum
    over them."""
    q = student.log_softmax(-1)
    return q[:, None], q.exp().detach()[:, None]


def test_the_policy_gradient_of_one_token_is_that_of_the_reverse_kl():
    student, teacher = logits(0).requires_grad_(), logits(1)
    log_q, q = every_token(student)
    rewards = functional.reverse_kl_reward(log_q, teacher.log_softmax(-1)[:, None])
    advantages = functional.discounted_advantage(rewards)
    found = torch.autograd.grad((q * functional.policy_gradient(log_q, log_q.detach(), advantages)).sum(), student)[0]
    expected = torch.autograd.grad(functional.reverse_kl(student, teacher), student)[0]
    torch.testing.assert_close(found, expected)


def test_the_estimate_has_the_reverse_kl_as_its_expectation():
    student, teacher = logits(0), logits(1)
    log_q, q = every_token(student)
    estimate = functional.reverse_kl_estimate(log_q, teacher.log_softmax(-1)[:, None])
    torch.testing.assert_close((q * estimate).sum(), functional.reverse_kl(student, teacher))
    assert (estimate >= 0).all()


def test_importance_weights_correct_for_another_policy():
    """Tokens of a mixture, weighed by student / mixture, have the expectation of the student's own tokens (no clipping
    in reach)."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    log_q, q = every_token(student)
    proposal = 0.8 * q + 0.2 * teacher.softmax(-1)[:, None]
    advantages = functional.discounted_advantage(functional.reverse_kl_reward(log_q, teacher.log_softmax(-1)[:, None]))
    values = functional.policy_gradient(log_q, log_q.detach(), advantages, q / proposal, clip=100.0)
    found = torch.autograd.grad((proposal * values).sum(), student)[0]
    torch.testing.assert_close(found, torch.autograd.grad(functional.reverse_kl(student, teacher), student)[0])


def test_a_ratio_beyond_the_clip_has_no_gradient_where_it_gains_already():
    student = torch.tensor([[0.5, 0.5, -0.5, -0.5]], requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    (gradient,) = torch.autograd.grad(functional.policy_gradient(student, torch.zeros(1, 4), advantages).sum(), student)
    assert (gradient != 0).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"length": "none"}, [1 - 1 + 1, -2 + 2, 4, 0]),  # sum of 0.5^(j - t) r_j
        ({}, [1 / 3, 0, 4, 0]),  # over the remaining tokens
        ({"length": "discounted"}, [1 / 1.75, 0, 4, 0]),
        ({"length": "none", "discount_from": "start"}, [1, 0, 1, 0]),  # times 0.5^t
        ({"length": "none", "padding": "counted"}, [1 + 7 / 8, 7 / 4, 4 + 3.5, 7]),
        ({"length": "discounted", "padding_length": 1.0}, [1 / 1.875, 0, 4 / 1.5, 0]),
    ],
)
def test_advantages_of_a_text_with_padding(options, expected):
    found = functional.discounted_advantage(REWARDS, 0.5, mask=MASK, **options)
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float64))


def test_no_discount_and_full_discount():
    assert torch.equal(functional.discounted_advantage(REWARDS, 0.0, length="none"), REWARDS)
    assert torch.equal(functional.discounted_advantage(REWARDS, 0.0, length="none", discount_from="start"), REWARDS)
    torch.testing.assert_close(
        functional.discounted_advantage(REWARDS, 1.0, length="none"), REWARDS.flip(1).cumsum(1).flip(1)
    )


def test_whitening_is_over_the_tokens_that_count():
    found = functional.discounted_advantage(REWARDS, whiten=True, mask=MASK)
    counted = found[MASK == 1]
    assert counted.mean().item() == pytest.approx(0, abs=1e-12) and counted.var().item() == pytest.approx(1, rel=1e-6)
    assert found[0, 3] == 0
    everywhere = functional.discounted_advantage(REWARDS, whiten=True, padding="counted", mask=MASK)
    assert everywhere.mean().item() == pytest.approx(0, abs=1e-12) and everywhere[0, 3] != 0


def test_more_padding_changes_no_advantage():
    longer = torch.cat([REWARDS, torch.full((2, 3), float("nan"), dtype=torch.float64)], 1)
    mask = torch.cat([MASK, torch.zeros(2, 3, dtype=torch.long)], 1)
    found = functional.discounted_advantage(longer, whiten=True, mask=mask)
    torch.testing.assert_close(found[:, :4], functional.discounted_advantage(REWARDS, whiten=True, mask=MASK))


def test_advantages_are_constants_unless_asked_otherwise():
    rewards = REWARDS.clone().requires_grad_()
    assert not functional.discounted_advantage(rewards).requires_grad
    assert functional.discounted_advantage(rewards, detach=False).requires_grad


def test_without_the_single_step_term_only_the_sampled_token_matters():
    student, teacher, tokens = logits(0).expand(1, 2, 7), logits(1).expand(1, 2, 7), torch.tensor([[3, 5]])
    old, advantages = torch.full((1, 2), -2.0, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    both, alone = (
        functional.minillm(student, teacher, tokens, old, advantages, single_step=weight) for weight in (1.0, 0.0)
    )
    torch.testing.assert_close(both - alone, functional.reverse_kl(student, teacher))


@pytest.mark.parametrize(
    "name, value", [("length", "all"), ("discount_from", "end"), ("padding", "kept"), ("discount", 1.5)]
)
def test_bad_switches_name_themselves(name, value):
    with pytest.raises(ValueError, match=name):
        functional.discounted_advantage(REWARDS, **{name: value})
