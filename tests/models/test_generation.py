"""Generation: what transformers itself generates, padding, seeds, and answers that end."""

import itertools

import pytest
import torch
from torch import nn

from kdlab.functional.tokens import generated_mask
from kdlab.models import CausalModel
from kdlab.models.generation import evaluating, generate

WORDS = 11
PROMPTS, LENGTHS = torch.tensor([[3, 4, 5, 6], [7, 0, 0, 0], [8, 9, 0, 0]]), torch.tensor([4, 1, 2])


def tiny(architecture="llama", **options):
    torch.manual_seed(1)
    sizes = {"layers": 2, "width": 16, "heads": 2, "positions": 32, "vocabulary": WORDS}
    made = CausalModel(architecture=architecture, **sizes, **options)
    with torch.no_grad():
        for value in made.parameters():
            value.mul_(4)  # sharper answers than those of small random weights
    return made


class Plain(nn.Module):
    """The same without keys and values that are kept."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3", "gemma2"])
def test_greedy_answers_are_those_of_transformers(architecture):
    model = tiny(architecture)
    found = generate(model, PROMPTS, LENGTHS, most=6, end=None, temperature=0.0)
    assert found.answers.tolist() == [6] * 3 and not found.ended.any()
    model.eval()
    for row, length in enumerate(LENGTHS.tolist()):
        own = model.network.generate(
            PROMPTS[row : row + 1, :length], max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
        )[0]
        assert found.tokens[row, : length + 6].tolist() == own.tolist(), "prompts of unequal length"


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_kept_keys_and_values_change_nothing(architecture):
    model = tiny(architecture)
    options = {"most": 8, "end": 2, "key": (5, 1)}
    kept, plain = (generate(one, PROMPTS, LENGTHS, **options) for one in (model, Plain(model)))
    assert torch.equal(kept.tokens, plain.tokens) and torch.equal(kept.ended, plain.ended)


def test_an_answer_is_a_function_of_seed_step_and_sample():
    model = tiny()
    index = torch.tensor([10, 20, 30])
    whole = generate(model, PROMPTS, LENGTHS, most=8, end=2, index=index, key=(1, 7))
    turned = generate(model, PROMPTS.flip(0), LENGTHS.flip(0), most=8, end=2, index=index.flip(0), key=(1, 7))
    assert torch.equal(whole.tokens, turned.tokens.flip(0))
    for row in range(3):  # as three processes would have it
        part = slice(row, row + 1)
        alone = generate(model, PROMPTS[part], LENGTHS[part], most=8, end=2, index=index[part], key=(1, 7))
        length = int(whole.prompts[row] + whole.answers[row])
        assert alone.tokens[0].tolist() == whole.tokens[row, :length].tolist()
    other = generate(model, PROMPTS, LENGTHS, most=8, end=2, index=index, key=(1, 8))
    assert other.tokens.shape != whole.tokens.shape or not torch.equal(whole.tokens, other.tokens)


def test_the_end_counts_once_and_nothing_after_it():
    model = tiny()
    found = generate(model, PROMPTS.repeat(20, 1), LENGTHS.repeat(20), most=12, end=2, padding=0, key=(3,))
    assert found.ended.any() and not found.ended.all()
    for row, (prompt, answer) in enumerate(zip(found.prompts.tolist(), found.answers.tolist())):
        said, rest = found.tokens[row, prompt : prompt + answer], found.tokens[row, prompt + answer :]
        assert (rest == 0).all() and (said[:-1] != 2).all()
        assert bool(said[-1] == 2) == bool(found.ended[row]) and (found.ended[row] or answer == 12)
        assert found.labels[row].tolist() == [-100] * prompt + said.tolist() + [-100] * len(rest)
    # the same mask where padding is the token that ends a text
    same = generate(model, PROMPTS[:1].repeat(9, 1), LENGTHS[:1].repeat(9), most=12, end=2, padding=2, key=(3,))
    assert torch.equal(generated_mask(same.tokens, 4, 2), (same.labels != -100)[:, 4:])


class Table(nn.Module):
    """Logits of the next token for each pair of tokens before it."""

    def __init__(self, words=3):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(1.5 * torch.randn(words, words, dtype=torch.float64))

    def forward(self, input_ids, attention_mask=None):
        return self.weight[input_ids]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_answers_have_their_probabilities(temperature):
    """All 9 answers of two tokens: z-scores of the counts of 20,000 samples."""
    table, number = Table(), 20_000
    found = generate(
        table,
        torch.zeros(number, 1, dtype=torch.long),
        torch.ones(number, dtype=torch.long),
        most=2,
        end=None,
        temperature=temperature,
        key=(11,),
    )
    p = (table.weight.detach() / temperature).softmax(-1)
    for first, second in itertools.product(range(3), repeat=2):
        wanted = float(p[0, first] * p[first, second])
        count = int(((found.tokens[:, 1] == first) & (found.tokens[:, 2] == second)).sum())
        assert abs(count - number * wanted) < 4.5 * (number * wanted * (1 - wanted)) ** 0.5


def test_several_tokens_end_an_answer_and_a_rule_of_ones_own_chooses():
    model, places = tiny(), []

    def choose(logits, place):
        places.append(place)
        return torch.full((len(logits),), 3 if place == 1 else 7) + torch.arange(len(logits)) * (place == 2)

    found = generate(model, PROMPTS[:2], LENGTHS[:2], most=4, end=[3, 4], choose=choose)
    assert found.answers.tolist() == [2, 2] and found.ended.all() and places == [0, 1]
    found = generate(model, PROMPTS[:2], LENGTHS[:2], most=4, end=[8], choose=choose)
    assert found.answers.tolist() == [4, 3] and found.ended.tolist() == [False, True]


def test_no_dropout_no_gradient_and_the_modes_come_back():
    model = tiny("gpt2", options={"resid_pdrop": 0.9}).train()
    model.network.transformer.h[0].eval()
    modes = [part.training for part in model.modules()]
    first, second = (generate(model, PROMPTS, LENGTHS, most=5, end=2, key=(1,)) for _ in range(2))
    assert torch.equal(first.tokens, second.tokens) and modes == [part.training for part in model.modules()]
    with evaluating(model):
        assert not any(part.training for part in model.modules())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"most": 0}, "most must be at least 1"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"lengths": torch.tensor([0])}, "each prompt must have 1 to 4 tokens"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        generate(Table(), PROMPTS[:1], **{"lengths": LENGTHS[:1], "most": 2, "end": None, **options})
