"""Sums: which ones, their tokens, and a run whose answers are checked."""

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.data import Sums
from kdlab.data.text.sums import CHARACTERS, CharacterTokenizer
from kdlab.runs.curve import MetricsFile


def made(folder, **options):
    return Sums(**{"largest": 9, "samples": 60, "test_samples": 40, "batch_size": 8, "folder": str(folder), **options})


def texts(data, split, rows=None):
    stored = data._both()[1 if split == "test" else 0]
    rows = torch.arange(len(stored.target)) if rows is None else rows
    tokenizer = data.tokenizer.loaded
    return [tokenizer.decode(stored.tokens.ids.take(rows[n : n + 1]).values.tolist()) for n in range(len(rows))]


def test_every_text_is_a_right_sum_and_no_sum_is_in_two_splits(tmp_path):
    data = made(tmp_path)
    parts = {name: texts(data, "train", data.part(name)) for name in ("train", "validation")}
    parts["test"] = texts(data, "test")
    assert [len(part) for part in parts.values()] == [54, 6, 40]
    every = [text for part in parts.values() for text in part]
    assert len(set(every)) == 100, "all pairs of numbers from 0 to 9"
    for text in every:
        one, other, answer = text.removesuffix("<end>").replace("=", "+").split("+")
        assert int(one) + int(other) == int(answer) and text.endswith("<end>")


def test_labels_are_the_answer_and_its_end(tmp_path):
    data = made(tmp_path)
    ids = data._both()[0].tokens.ids.padded(torch.arange(60), 16, 0)
    target = data._both()[0].target
    equals = (ids == CharacterTokenizer(CHARACTERS).loaded("=")["input_ids"][0]).long().argmax(1)
    places = torch.arange(16)
    expected = torch.where((places > equals[:, None]) & (ids != 0), ids, -100)
    assert torch.equal(target, expected) and data.facts.end_tokens == (1,) and data.classes == 14


def test_the_same_sums_are_test_whatever_is_trained_on(tmp_path):
    assert made(tmp_path).sums("test") == made(tmp_path, samples=10).sums("test")
    assert made(tmp_path).sums("train")[:10] == made(tmp_path, samples=10).sums("train")
    few, other = made(tmp_path, samples=30), made(tmp_path, samples=30, split_seed=1)
    assert few.sums("test") == other.sums("test") and few.sums("train") != other.sums("train")
    assert not set(few.sums("test")) & set(other.sums("train")), "no test sum of one seed is trained on with another"
    first = [(3, 4), (9, 7), (8, 8)]  # as they are in runs with the seed 0
    assert few.sums("train")[:3] == first


CHANGES = {
    "largest": 12,
    "samples": 50,
    "test_samples": 30,
    "length": (32, {"pad_to": "length"}),
    "pad_to": 12,
    "teacher_pad_to": "length",
    "buckets": (True, {"largest": 99}),
    "batch_size": 6,
    "evaluation_batch_size": 3,
    "validation": 0.3,
    "split_seed": 1,
    "fraction": 0.5,
    "drop_last": (False, {"batch_size": 7}),
}


@pytest.mark.parametrize("argument", CHANGES)
def test_every_argument_changes_the_batches(argument, tmp_path):
    changed = CHANGES[argument]
    changed, both = changed if isinstance(changed, tuple) else (changed, {})

    def seen(**more):
        data = made(tmp_path, **both, **more)
        found = []
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
            found.append([(one.inputs["input_ids"].tolist(), one.teacher_inputs is not None) for one in loader])
        return found

    assert seen() == seen() and seen() != seen(**{argument: changed})


@pytest.mark.parametrize(
    "options, words",
    [
        ({"samples": 61}, "there are only 100 sums of two numbers from 0 to 9"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"length": 5}, "length=5: sums of numbers to 9 have up to 7 tokens"),
    ],
)
def test_what_is_refused(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        made(tmp_path, **options)


def test_answers_are_measured_on_validation_and_test(workplace):
    overrides = ["task=causal_lm", "data=sums", "student=llama", "student.layers=1", "student.width=32"]
    overrides += ["student.heads=2", "data.largest=2", "data.samples=6", "data.test_samples=3", "data.batch_size=2"]
    overrides += ["data.validation=0.5", "strategy=supervised", "trainer.max_epochs=2", "progress=none"]
    overrides += ["task.measured=[exact_match,truncated,answer_tokens]", "task.longest_answer=3"]
    run = kdlab.train(overrides)
    assert run.record["task"]["metrics"][0] == {
        "name": "exact_match",
        "higher_is_better": True,
        "unit": "share of answers",
    }
    student, metrics = run.student.eval(), run.metrics
    data = Sums(largest=2, samples=6, test_samples=3, batch_size=2, validation=0.5)
    batch = next(iter(data.test_dataloader()))
    right, lengths, ended = [], [], []
    for ids, labels in zip(batch.inputs["input_ids"], batch.labels):
        prompt, wanted = ids[: int((labels != -100).long().argmax())].tolist(), labels[labels != -100].tolist()
        said = []
        while len(said) < 3 and 1 not in said:
            said.append(int(student(torch.tensor([prompt + said]))[0, -1].argmax()))
        right.append(said == wanted)
        lengths.append(len(said))
        ended.append(1 in said)
    assert metrics["test/exact_match"] == pytest.approx(sum(right) / 3)
    assert metrics["test/answer_tokens"] == pytest.approx(sum(lengths) / 3)
    assert metrics["test/truncated"] == pytest.approx(1 - sum(ended) / 3)
    assert {"val/exact_match", "val/truncated", "val/nll"} <= set(MetricsFile(run.metrics_file).load().rows[0])


def test_the_vocabulary_is_checked():
    config = compose(["task=causal_lm", "data=sums", "student=llama", "strategy=supervised"])
    assert config["student"]["vocabulary"] == config["data"]["classes"] == 14
