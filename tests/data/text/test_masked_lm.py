"""Masked language models: what is masked in a run, and DistilBERT's three losses on a teacher that learned the same."""

import csv

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.data.text.masking import Masking
from kdlab.errors import InputError, KdlabError
from kdlab.functional import cross_entropy
from kdlab.runs.curve import MetricsFile
from kdlab.training.assemble import assembled
from tests.data.text.texts import options, sentences, text_file
from tests.data.text.tiny_tokenizer import SPECIAL, WORDS

VOCABULARY = len(SPECIAL) + len(WORDS) + 1
BERT = ["student=bert", "student.head=masked_lm", "student.width=16", "student.heads=2", "student.positions=32"]
# no dropout: its random numbers depend on how many samples a batch holds
BERT += ["+student.options={hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}"]


@pytest.fixture
def given(tmp_path):
    """The command line of a short run."""
    return [
        "data=text",
        "task=masked_lm",
        "data.validation=0.4",
        f"data.train={text_file(tmp_path / 'train.tsv', sentences(240))}",
        f"data.vocabulary={VOCABULARY}",
        *(f"data.{name}={value}" for name, value in options(tmp_path).items()),
        *BERT,
        "trainer.accelerator=cpu",
        "progress=none",
        f"paths.runs={tmp_path / 'runs'}",
    ]


@pytest.fixture
def alone(given):
    """The same without a teacher."""
    return [*given, "strategy=supervised", "teacher=none", "loss=[ce]", "student.layers=2"]


def test_what_a_batch_holds(alone):
    parts = assembled(compose(alone))
    loader = parts.data.train_dataloader()
    words, hidden, normalisers = [], [], []
    for batch in loader:
        rows = parts.task.align_batch(batch)
        counts = (batch.target != -100).sum(1)
        original = torch.where(batch.target != -100, batch.target, batch.inputs["input_ids"])
        ordinary = (original >= len(SPECIAL)).sum(1)
        assert counts.tolist() == (0.15 * ordinary.double()).round().clamp(min=1).long().tolist()
        assert batch.normaliser == len(rows.target) == int(counts.sum())
        chosen = batch.target != -100
        words += batch.target[chosen].tolist()
        hidden += batch.inputs["input_ids"][chosen].tolist()
        normalisers.append(batch.normaliser)
    mask = SPECIAL.index("[MASK]")
    assert hidden.count(mask) > 0.6 * len(words) and mask not in words and min(words) >= len(SPECIAL)
    again = [batch.target for batch in parts.data.train_dataloader()]
    loader.sampler.set_epoch(1)
    later = [batch.target for batch in loader]
    assert all(torch.equal(one, other) for one, other in zip(again, [b.target for b in parts.data.train_dataloader()]))
    assert sum(int((one != -100).sum()) for one in later) == sum(normalisers)
    validation = [b.target for b in parts.data.val_dataloader()]
    assert all(torch.equal(one, b.target) for one, b in zip(validation, parts.data.val_dataloader()))


def test_a_batch_is_masked_once_and_the_tokenizer_is_loaded_once(alone, monkeypatch):
    masked, loaded = [], []
    whole, once = Masking.__call__, Masking.of
    monkeypatch.setattr(Masking, "__call__", lambda self, *given: masked.append(given) or whole(self, *given))
    monkeypatch.setattr(Masking, "of", lambda *given: loaded.append(given) or once(*given))
    data = assembled(compose(alone)).data
    masked.clear()
    train, validation = data.train_dataloader(), data.val_dataloader()
    batches = [*train, *validation, *data.train_dataloader()]
    assert len(masked) == len(batches) and len(loaded) == 1
    for batch in batches:  # the labels are those of the inputs
        hidden = batch.inputs["input_ids"] == SPECIAL.index("[MASK]")
        assert hidden.any() and (batch.target[hidden] >= len(SPECIAL)).all()


def curve(run):
    with open(run.metrics_file) as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


def test_the_triple_loss_on_a_teacher_that_learned_masked_words(given, alone):
    teacher = kdlab.train(
        [*alone, "name=teacher", "trainer.max_epochs=10", "optimizer.lr=0.01", "data.masking.probability=0.3"]
    )
    assert list(teacher.record["task"]["metrics"][0].values())[0] == "nll"
    triple = [
        *given,
        "student.layers=1",
        "teacher=run",
        f"teacher.run={teacher.path}",
        "loss=[ce,kd,hidden_cosine]",
        "loss.kd.temperature=2",
        "loss.kd.weight=5",
        "loss.ce.weight=2",
        "loss.hidden_cosine.student_tap=hidden1",
        "loss.hidden_cosine.teacher_tap=hidden2",
        "trainer.max_epochs=2",
        "data.batch_size=12",
        "optimizer=sgd",
        "optimizer.lr=0.05",
    ]
    with pytest.raises(KdlabError, match="this teacher's answers are no logits of one size a sample"):
        kdlab.train([*triple, "data.pad_to=length", "teacher.cache=views", "name=kept"])
    parts = kdlab.train([*triple, "data.batch_size=4", "trainer.accumulate_grad_batches=3", "name=parts"])
    whole = kdlab.train([*triple, "name=whole"])
    assert curve(parts) == pytest.approx(curve(whole), rel=1e-4)
    assert curve(whole)[1] < curve(whole)[0]
    assert set(whole.metrics) >= {"test/nll", "test/perplexity", "test/agreement", "test/kl_to_teacher"}
    with open(whole.metrics_file) as file:
        assert {"train/loss_ce", "train/loss_kd", "train/loss_hidden_cosine"} <= set(next(csv.DictReader(file)))


def test_what_is_refused(given, tmp_path):
    with pytest.raises(InputError, match=r"masking must be .* for texts without labels \(label=null\)"):
        assembled(compose([*given, "data.label=label"]))
    with pytest.raises(InputError, match="several views of a text"):
        assembled(compose([*given, "strategy=online", "strategy.peers=1", "teacher=none", "strategy.views=different"]))


def test_batches_without_a_word_that_can_be_masked(tmp_path, alone):
    """Such a batch has no row: it has no part in the means over rows of training, validation and test. It was NaN in
    training, and ended the run in evaluation."""
    for name, count in (("train", 40), ("other", 12)):
        known = [text for text, _ in sentences(count)]
        (tmp_path / f"{name}.txt").write_text("\n".join(known[:-9] + ["zzz"] * 9 + known[-9:]))
    files = [
        f"data.train={tmp_path / 'train.txt'}",
        *(f"data.{n}={tmp_path / 'other.txt'}" for n in ("test", "validation_file")),
    ]
    still = [
        "optimizer.lr=0",
        "optimizer.weight_decay=0",
        "scheduler=none",
        "trainer.max_epochs=1",
        "data.buckets=true",
    ]
    typed = [*alone, *files, *still, "data.batch_size=2", "data.evaluation_batch_size=3", "student.layers=1"]
    run = kdlab.train(typed)
    (row,) = MetricsFile(run.metrics_file).load().rows
    data, student = assembled(compose(typed)).data, run.student.eval()

    def mean(loader):
        values, counts = [], []
        for batch in loader:
            chosen = batch.target != -100
            counts.append(int(chosen.sum()))
            values.append(cross_entropy(student(**batch.inputs)[chosen], batch.target[chosen]))
        assert 0 in counts
        return pytest.approx(torch.cat(values).mean().item(), rel=1e-5)

    with torch.no_grad():
        assert row["train/loss"] == row["train/loss_ce"] == mean(data.train_dataloader())
        assert row["val/nll"] == mean(data.val_dataloader())
        assert run.metrics["test/nll"] == mean(data.test_dataloader())
