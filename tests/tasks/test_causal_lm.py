"""The next token: the numbers by hand, and runs whose curve does not depend on how texts are batched."""

import csv
import json
import math

import pytest
import torch

import kdlab
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.models.generation import Generated
from kdlab.outputs import LazyLogits, Outputs
from kdlab.tasks import CausalLM
from tests.data.text.characters import VOCABULARY, character_tokenizer

# the answers after each token of one text of three, and of one of two that is filled up
LOGITS = torch.tensor([[[0.0, 2.0], [1.0, 0.0], [9.0, 9.0]], [[0.0, 0.0], [7.0, 7.0], [7.0, 7.0]]])
LABELS = torch.tensor([[-100, 1, 1], [0, 1, -100]])
BATCH = Batch({"input_ids": LABELS}, LABELS, torch.tensor([3, 5]))


def test_the_answer_at_a_position_is_compared_with_the_next_token():
    task = CausalLM(2)
    rows, outputs = task.align_batch(BATCH), task.align(Outputs(LOGITS), BATCH)
    assert rows.target.tolist() == [1, 1, 1] and rows.index.tolist() == [3, 3, 5]
    assert outputs.logits.tolist() == [[0, 2], [1, 0], [0, 0]]
    assert task.row_counts(LABELS).tolist() == [2, 1], "the first token of a text is never predicted"
    nll = sum(math.log(1 + math.exp(-margin)) for margin in (2, -1, 0)) / 3
    scores = task.score(outputs.logits, rows.target)
    assert scores == pytest.approx({"nll": nll, "perplexity": math.exp(nll), "accuracy": 1 / 3})


def test_only_rows_get_logits():
    asked = []
    lazy = LazyLogits(LOGITS, lambda hidden: asked.append(len(hidden)) or hidden)
    outputs = CausalLM(2).align(Outputs(lazy), BATCH)
    assert outputs.is_lazy and not asked
    assert outputs.logits.tolist() == [[0, 2], [1, 0], [0, 0]] and asked == [3]


@pytest.fixture
def overrides(tmp_path):
    """Sums as prompts with answers of one to three tokens, and a small model."""
    lines = [json.dumps({"q": f"{one}+{two}=", "a": str(one + two)}) for one in range(0, 90, 9) for two in range(5)]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    return [
        "task=causal_lm",
        "data=causal_text",
        f"data.train={tmp_path / 'sums.jsonl'}",
        "data.prompt=q",
        "data.answer=a",
        f"data.tokenizer={character_tokenizer(tmp_path / 'tokenizer')}",
        f"data.vocabulary={VOCABULARY}",
        "data.length=16",
        "student=llama",
        "student.layers=1",
        "student.width=16",
        "student.heads=2",
        "strategy=supervised",
        "trainer.max_epochs=1",
        "optimizer.lr=0.01",
        "progress=none",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.data={tmp_path / 'data'}",
    ]


def curve(run):
    with open(run.metrics_file, newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)], run


def test_the_curve_is_that_of_whole_steps_however_they_are_batched(overrides):
    """Answers of unequal length: 12 samples a step as one batch, as three accumulated ones, and in two processes."""
    (one, first), (three, third) = (
        curve(kdlab.train([*overrides, *more]))
        for more in (
            ["data.batch_size=12", "data.drop_last=true"],
            ["data.batch_size=4", "trainer.accumulate_grad_batches=3", "data.drop_last=true", "task.rows_at_once=5"],
        )
    )
    assert three == pytest.approx(one, rel=1e-5)
    for left, right in zip(first.student.state_dict().values(), third.student.state_dict().values()):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(overrides):
    (one, _), (two, _) = (
        curve(kdlab.train([*overrides, "data.batch_size=12", "data.drop_last=true", *more]))
        for more in ([], ["trainer.devices=2", "trainer.accelerator=cpu", "task.rows_at_once=5"])
    )
    assert two == pytest.approx(one, rel=1e-5)


def test_networks_of_another_kind_are_refused(overrides):
    encoder = ["student=bert", "student.layers=1", "student.width=16", "student.heads=2", "student.head=masked_lm"]
    plain = [one for one in overrides if not one.startswith("student")]
    with pytest.raises(
        InputError, match="student is a text encoder, whose tokens see those after them, and task=causal"
    ):
        kdlab.train([*plain, *encoder])
    with pytest.raises(
        InputError, match="student is a causal language model, which is for task=causal_lm, and the task"
    ):
        kdlab.train([*overrides, "task=token_classification", f"data.classes={VOCABULARY}"])


def test_a_teacher_teaches_at_the_rows(overrides, tmp_path):
    # letters in the order of the alphabet, from any letter on: each follows from the one before it
    lines = [json.dumps({"text": ("abcdef" * 3)[start : start + 5 + start % 4]}) for start in range(6)] * 20
    (tmp_path / "letters.jsonl").write_text("\n".join(lines) + "\n")
    taught = [one for one in overrides if not one.startswith(("strategy", "data.prompt", "data.answer", "data.train"))]
    taught.append(f"data.train={tmp_path / 'letters.jsonl'}")
    run = kdlab.train(
        [
            *taught,
            "teacher.student=llama",
            'teacher.overrides=["student.layers=2","trainer.max_epochs=4"]',
            "loss=[ce,forward_kl,hidden_mse]",
            "loss.hidden_mse.student_tap=hidden1",
            "loss.hidden_mse.teacher_tap=hidden2",
        ]
    )
    metrics = run.record["metrics"]
    assert {"test/nll", "test/perplexity", "test/accuracy", "test/agreement", "test/kl_to_teacher"} <= set(metrics)
    assert metrics["test/perplexity"] == pytest.approx(math.exp(metrics["test/nll"]), rel=1e-5)
    student = run.student.eval()
    ids = torch.arange(5, 9)[None]
    assert student(ids).shape == (1, 4, VOCABULARY)

    # handed over: transformers alone gives the same logits, and stops at the end of a text
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kdlab.export.huggingface import to_huggingface

    written = to_huggingface(run, tmp_path / "exported")
    model = AutoModelForCausalLM.from_pretrained(str(written.folder)).eval()
    assert written.difference == 0 and torch.equal(model(input_ids=ids).logits, student(ids))
    tokenizer = AutoTokenizer.from_pretrained(str(written.folder))
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2


def test_an_answer_is_right_up_to_the_first_token_that_ends_it():
    """A template writes more tokens after it: here 8. One text ends with the token 1, one with 2."""
    ids = torch.tensor([[5, 6, 1, 8], [5, 7, 2, 8], [5, 6, 6, 1]])
    batch = Batch({"input_ids": ids}, ids.masked_fill(torch.arange(4) < 1, -100), torch.arange(3), split="test")
    made = Generated(
        torch.tensor([[5, 6, 1, 0], [5, 7, 2, 0], [5, 6, 1, 0]]),
        *(torch.tensor([n] * 3) for n in (1, 2)),
        torch.tensor([True] * 3),
    )
    assert CausalLM(9, end_tokens=(1, 2))._measured(made, batch)["exact_match"].tolist() == [1, 1, 0]
    assert CausalLM(9)._measured(made, batch)["exact_match"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "options, words",
    [
        (
            ["student.positions=8", "task.longest_answer=12"],
            "task.longest_answer=12: the longest prompt has 5 tokens, .* positions for 8; task.longest_answer=3",
        ),
        (["data.end=false"], "task.measured: answers are generated up to a token that ends them, and the data have no"),
        (["task.measured=[exact_math]"], "task=causal_lm has no metric 'exact_math'"),
        (["task.longest_answer=0"], "task.longest_answer must be at least 1"),
        (["data.prompt=null", "data.answer=null", "data.text=q"], "task.measured: .*these texts have none; name their"),
        (["data.prompt=null", "data.answer=null", "data.text=q", "data.packed=true"], "rows are packed; data.packed=f"),
    ],
)
def test_generated_answers_need_prompts(overrides, options, words):
    with pytest.raises(InputError, match=words):
        kdlab.train([*overrides, "task.measured=[exact_match]", *options])
