"""kdlab measure of a causal language model: reading prompts, writing answers, and the memory of both."""

import pytest
import torch
from torch import nn

import kdlab as package
from kdlab.measure import answering, generation_speed, inference_bytes, peak_bytes
from kdlab.models import CausalModel
from kdlab.runs import measurements


def test_tokens_a_second_by_hand():
    found = generation_speed([0.3, 0.1, 0.2], [1.2, 1.0, 1.1], batch=4, length=50, tokens=10)
    assert found == {
        "first_token_ms": 200,
        "prompt_tokens_per_second": 4 * 50 / 0.2,
        "answer_ms": 1100,
        "tokens_per_second": pytest.approx(4 * 9 / 0.9),
    }
    assert "tokens_per_second" not in generation_speed([0.2], [0.2], batch=1, length=5, tokens=2)


def test_answers_have_the_length_that_is_asked_for():
    torch.manual_seed(0)
    network = CausalModel(architecture="llama", vocabulary=9, layers=1, width=16, heads=2, positions=32)
    made = answering(network, torch.ones(3, 5, dtype=torch.long), 4)()
    assert made.tokens.shape == (3, 9) and made.answers.tolist() == [4] * 3 and not made.ended.any()


class Table(nn.Module):
    """Logits of the next token are a row of a table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 10)

    def forward(self, input_ids, attention_mask=None):
        return self.table(input_ids)


def test_keys_and_values_count():
    table, ids = Table(), torch.zeros(2, 3, dtype=torch.long)
    assert inference_bytes(table, {"input_ids": ids}) == 4 * 100 + 8 * 6 + 4 * 2 * 3 * 10
    assert peak_bytes(table, ids, lambda: torch.zeros(50)) == 4 * 100 + 8 * 6 + 200
    torch.manual_seed(0)
    network = CausalModel(architecture="llama", vocabulary=9, layers=2, width=64, heads=2, positions=1024)
    prompts = torch.ones(4, 8, dtype=torch.long)
    short, long = (peak_bytes(network, prompts, answering(network, prompts, tokens)) for tokens in (100, 500))
    of_a_token = 4 * 2 * 2 * 64 * 4  # 4 texts, keys and values of 2 layers, 64 wide, 4 bytes
    assert long - short >= 400 * of_a_token


SUMS = [
    *("task=causal_lm", "data=sums", "student=llama", "student.layers=1", "student.width=16", "student.heads=2"),
    *("data.largest=9", "data.samples=60", "data.test_samples=30", "data.batch_size=8", "strategy=supervised"),
    *("student.positions=64", "trainer.max_epochs=1", "progress=none"),
]
MEASURE = ["--batches", "1,2", "--lengths", "4,8", "--seconds", "0.01"]


def test_a_run_is_measured(kdlab):
    run = package.train(SUMS)
    code, out, err = kdlab("measure", run.path, *MEASURE, "--answer", "6")
    assert code == 0, err
    found = run.measurements
    assert found["answer_tokens"] == 6 and list(found["generation"]) == ["4", "8"]
    for length, sizes in found["generation"].items():
        assert list(sizes) == ["1", "2"]
        for size, one in sizes.items():
            assert 0 < one["first_token_ms"] and one["answer_ms"] > 0
            read = int(size) * int(length) / one["first_token_ms"] * 1000
            assert one["prompt_tokens_per_second"] == pytest.approx(read, rel=1e-3)
            assert one["peak_inference_bytes"] > 4 * run.record["parameters"]
    assert "written, tokens/s" in out and "with the keys and values that are kept" in out
    assert measurements.read(run.path) == (found, "")
    for more, words in (
        (["--answer", "60"], "8 tokens of a prompt and 60 of an answer are more than the 64 positions"),
        (["--answer", "1"], "--answer must be a whole number from 2"),
        (["--answer", "some"], "--answer must be a whole number from 2"),
        (["--answer", "6", "--lengths", ""], "--answer=6 needs the lengths of the prompts"),
    ):
        code, _, err = kdlab("measure", run.path, *MEASURE, *more)
        assert code == 2 and words in err, err
