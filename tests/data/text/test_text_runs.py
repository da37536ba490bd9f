"""Runs on texts: trained, taught, cached, with another tokenizer for the teacher; what is refused."""

import csv
import json
import shutil

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash
from kdlab.training.assemble import assembled
from tests.data.text.texts import BagOfTokens, overrides, text_file
from tests.data.text.tiny_tokenizer import tokenizer_folder


def curve(run):
    """All columns but those of time."""
    rows = list(csv.DictReader(run.metrics_file.read_text().splitlines()))
    return [{name: one for name, one in row.items() if name not in ("seconds", "train/teacher_share")} for row in rows]


def refused(tmp_path, *more):
    with pytest.raises(InputError) as error:
        assembled(compose(overrides(tmp_path, *more)))
    return str(error.value)


def test_a_run_and_its_kept_answers(tmp_path):
    run = kdlab.train(overrides(tmp_path))
    assert run.finished and json.loads((run.path / "run.json").read_text())["taught"]
    assert len(list((tmp_path / "data" / ".tokens").iterdir())) == 1
    assert "data.teacher_pad_to=length" in refused(tmp_path, "teacher.cache=fixed")
    for padding in ("data.teacher_pad_to=length", "data.pad_to=length"):
        run = kdlab.train(overrides(tmp_path, padding))
        again = kdlab.train(overrides(tmp_path, padding, "teacher.cache=fixed", "name=cached"))
        assert again.hash == run.hash and curve(again) == curve(run), "bit for bit"


def test_files_count_by_content(tmp_path):
    config = compose(overrides(tmp_path))
    first = run_hash(config)
    shutil.copytree(tmp_path / "tokenizer", tmp_path / "moved")
    shutil.copy(tmp_path / "train.tsv", tmp_path / "moved.tsv")
    moved = [f"data.tokenizer={tmp_path / 'moved'}", f"data.train={tmp_path / 'moved.tsv'}", "data.folder=elsewhere"]
    assert run_hash(compose(overrides(tmp_path, *moved, "data.vocabulary=33"))) == first
    (tmp_path / "moved.tsv").write_text((tmp_path / "train.tsv").read_text().replace("film", "movie"))
    assert run_hash(compose(overrides(tmp_path, *moved))) != first


def test_another_tokenizer_for_the_teacher(tmp_path):
    theirs = tokenizer_folder(tmp_path / "theirs", words=["good", "bad", "film"])
    more = [f"data.teacher_tokenizer={theirs}", "+teacher.vocabulary=9"]
    assert kdlab.train(overrides(tmp_path, *more)).finished
    parts = assembled(compose(overrides(tmp_path, *more)))
    batch = parts.data.train_dataloader().first(2)
    assert torch.equal(parts.teacher.teach(batch).logits, parts.teacher.network(**batch.teacher_inputs))


def test_facts(tmp_path):
    assert "data.vocabulary=50, but the data have 33; set data.vocabulary=33" in refused(tmp_path, "data.vocabulary=50")
    told = refused(tmp_path, "data.classes=3")
    assert "data.classes=3, but the data have 2; set data.classes=2" in told
    rows = [("good film", number % 3) for number in range(30)]
    path = text_file(tmp_path / "three.tsv", rows)
    told = refused(tmp_path, f"data.train={path}")
    assert "set data.classes=3. They are 0, 1, 2; the last 1 of them:" in told and "three.tsv, lines 4, 7, 10" in told


def test_a_student_that_needs_the_vocabulary(tmp_path):
    needs = ["+student.vocabulary=${data.vocabulary}"]
    with pytest.raises(InputError, match="data.vocabulary has no value, and this student needs it"):
        kdlab.train(overrides(tmp_path, *needs))
    parts = assembled(compose(overrides(tmp_path, *needs, "data.vocabulary=33")))
    assert isinstance(parts.strategy.student, BagOfTokens) and parts.strategy.student.embedding.num_embeddings == 33


def test_numbers_to_predict(tmp_path):
    rows = [
        (f"the film is {'good' if number % 2 else 'bad'} {'fun ' * (number % 5)}", number % 7 / 3)
        for number in range(60)
    ]
    more = ["data.classes=1", "task=regression", "loss=[mse]", "+student.classes=1"]
    run = kdlab.train(overrides(tmp_path, f"data.train={text_file(tmp_path / 'v.tsv', rows)}", *more, teacher=False))
    assert run.finished and "val/mse" in run.metrics_file.read_text()


@pytest.mark.parametrize(
    "given, cure",
    [
        (
            ["task=token_classification", "data.label_kind=tokens"],
            "student.head=classification is no head for task=token_classification; student.head=tokens",
        ),
        (
            ["student.head=tokens"],
            "student.head=tokens is no head for task=classification; student.head=classification",
        ),
    ],
)
def test_a_text_encoder_with_the_head_of_another_task_is_refused(tmp_path, given, cure):
    typed = [one for one in overrides(tmp_path, teacher=False) if not one.startswith("student")]
    if "data.label_kind=tokens" in given:
        text_file(tmp_path / "train.tsv", [("the film is good", "O N O A"), ("the film is bad", "O N O A")] * 20)
        typed = [one.replace("data.classes=2", "data.classes=3") for one in typed]
    encoder = ["student=bert", "student.layers=1", "student.width=8", "student.heads=2", "data.vocabulary=33"]
    with pytest.raises(InputError) as error:
        assembled(compose([*typed, *encoder, "strategy=supervised", *given]))
    assert str(error.value) == cure
