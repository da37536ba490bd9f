"""Losses of sampled answers: their expected gradient over all 125 strings of three tokens out of five words."""

import pytest
import torch

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.losses import ForwardKL, PolicyGradient
from kdlab.outputs import Outputs
from kdlab.strategies import Offline
from tests.strategies.prefixes import LENGTH, STRINGS, WORDS, Prefixes, made, probabilities, texts


def expected_gradient(loss, student, teacher):
    """Of the loss summed over an answer's tokens, over the student's answers: every string, weighed by its
    probability."""
    mine, theirs = (Outputs(probabilities(model)[1].flatten(0, 1)) for model in (student, teacher))
    index = torch.arange(len(STRINGS)).repeat_interleave(LENGTH)
    values = loss(mine, theirs, Batch(None, STRINGS.flatten(), index)).view(-1, LENGTH).sum(1)
    weights = probabilities(student)[0].exp().detach()
    return torch.autograd.grad((weights * values).sum(), list(student.parameters()))


def exact_gradient(student, teacher):
    """Of the reverse KL of whole answers."""
    q, p = probabilities(student)[0], probabilities(teacher)[0]
    return torch.autograd.grad((q.exp() * (q - p)).sum(), list(student.parameters()))


@pytest.mark.parametrize("single_step", [0.0, 1.0])
def test_the_expected_gradient_is_that_of_the_reverse_kl_of_whole_answers(single_step):
    student, teacher = Prefixes(1), Prefixes(2)
    loss = PolicyGradient(discount=1.0, length="none", single_step=single_step)
    for found, wanted in zip(expected_gradient(loss, student, teacher), exact_gradient(student, teacher)):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_tokens_own_reward_alone_gives_the_gradient_of_each_position():
    """That of the exact reverse KL at each position, with beginnings that are constants."""
    student, teacher = Prefixes(1), Prefixes(2)
    found = expected_gradient(PolicyGradient(0.0, "none", 0.0), student, teacher)
    q, p = (probabilities(model)[1] for model in (student, teacher))
    weights = probabilities(student)[0].exp().detach()
    wanted = torch.autograd.grad(((q.exp() * (q - p)).sum(-1).sum(1) * weights).sum(), list(student.parameters()))
    for one, two in zip(found, wanted):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_padding_and_other_answers_do_not_count():
    """Answers of 2, 3 and 1 tokens in one batch have the values that each has alone."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, WORDS, generator=generator, dtype=torch.float64) for _ in range(2))
    tokens, index = torch.tensor([0, 4, 2, 1, 3, 3]), torch.tensor([8, 8, 1, 1, 1, 5])
    loss = PolicyGradient(discount=0.5)
    whole = loss(Outputs(student), Outputs(teacher), Batch(None, tokens, index))
    alone = [
        loss(Outputs(student[part]), Outputs(teacher[part]), Batch(None, tokens[part], index[part]))
        for part in (slice(0, 2), slice(2, 5), slice(5, 6))
    ]
    torch.testing.assert_close(whole, torch.cat(alone))
    r = (teacher.log_softmax(-1) - student.log_softmax(-1))[torch.arange(6), tokens]
    kl = (student.softmax(-1) * (student.log_softmax(-1) - teacher.log_softmax(-1))).sum(-1)
    later = torch.stack([r[1], 0 * r[0], (r[3] + 0.5 * r[4]) / 2, r[4], 0 * r[0], 0 * r[0]])
    torch.testing.assert_close(whole, kl - later)


def test_rewards_are_clipped():
    student, teacher = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[0.0, 9.0]], dtype=torch.float64)
    loss = PolicyGradient(0.0, "none", 0.0, clip=2.0)
    value = loss(Outputs(student), Outputs(teacher), Batch(None, torch.tensor([0]), torch.tensor([0])))
    assert value.tolist() == [2.0]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"discount": 1.5}, "discount must be between 0 and 1"),
        ({"length": "all"}, "length must be"),
        ({"single_step": -1.0}, "single_step must be 0 or greater"),
        ({"clip": 0.0}, "clip must be greater than 0"),
    ],
)
def test_arguments_out_of_range(options, words):
    with pytest.raises(ValueError, match=words):
        PolicyGradient(**options)


def test_other_strategies_refuse_it():
    with pytest.raises(InputError, match="PolicyGradient is for answers that the student has sampled; strategy=on_po"):
        terms = {"minillm": PolicyGradient(), "forward_kl": ForwardKL()}
        made_without_length(Offline, terms, texts(STRINGS[:4]), teacher=Prefixes(2))


def made_without_length(kind, *arguments, **options):
    def without(**given):
        given.pop("longest")
        return kind(**given)

    return made(without, *arguments, **options)
