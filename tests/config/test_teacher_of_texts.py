"""The teacher that learns the labels of texts, and networks that cannot read tokens."""

import shlex

import pytest

import kdlab
from kdlab.config.check import check, problems
from kdlab.config.compose import compose
from kdlab.runs.identity import run_hash
from tests.data.text.texts import options, text_file

SMALL = '"student.layers=1","student.width=8","student.heads=2","student.intermediate=8"'


@pytest.fixture
def typed(tmp_path):
    """The command line of a run on texts with all its defaults."""
    return [
        "data=text",
        f"data.train={text_file(tmp_path / 'train.tsv')}",
        "data.classes=2",
        *(f"data.{name}={value}" for name, value in options(tmp_path).items()),
        f"paths.runs={tmp_path / 'runs'}",
        "trainer.max_epochs=1",
        "progress=none",
    ]


def test_texts_have_a_teacher_that_reads_tokens(typed):
    config = compose([*typed, "student=bert", "data.vocabulary=33", "data.teacher_pad_to=length"])
    check(config)
    theirs = config["teacher"]["config"]
    assert config["teacher"]["student"] == "bert_wide" and theirs["data"]["teacher_pad_to"] == "same"
    assert {**theirs["data"], "teacher_pad_to": "length"} == config["data"]
    student = theirs["student"]
    assert (student["layers"], student["width"], student["vocabulary"], student["classes"]) == (6, 384, 33, 2)
    assert student["width"] > config["student"]["width"] and student["layers"] > config["student"]["layers"]
    same = compose([*typed, "student=bert", "data.vocabulary=33", "data.labelled=8", "seed=7"])
    assert run_hash(same["teacher"]["config"]) == run_hash(theirs), "the student's own keys do not count"


def test_it_is_trained_and_teaches(typed, tmp_path):
    small = [f"student.{text}" for text in ("layers=1", "width=4", "heads=2", "intermediate=4")]
    run = kdlab.train([*typed, "student=bert", "data.vocabulary=33", *small, f"teacher.overrides=[{SMALL}]"])
    assert run.finished and run.config["teacher"]["config"]["student"]["width"] == 8
    taught = next((tmp_path / "runs" / "teachers").glob("supervised-ce-bert_wide-s1-*"))
    assert kdlab.load(taught).student.config.hidden_size == 8
    assert kdlab.load(run.path).student.config.hidden_size == 4


def test_it_has_the_head_of_the_student(typed):
    more = ["data.vocabulary=33", "student=bert", "student.head=masked_lm", "task=masked_lm"]
    typed = [text for text in typed if "data.classes" not in text]
    theirs = compose([*typed, *more])["teacher"]["config"]
    assert (theirs["student"]["head"], theirs["student"]["classes"]) == ("masked_lm", 33)
    assert theirs["data"]["masking"]["probability"] == 0.15 and theirs["data"]["label"] is None


@pytest.mark.parametrize(
    "more, words, cure",
    [
        ([], "student=mlp: kdlab.models.MLP has no input input_ids", "student=bert data.vocabulary=33"),
        (["data.vocabulary=33"], "student=mlp: kdlab.models.MLP has no input input_ids", "student=bert"),
        (
            ["student=bert"],
            "data.vocabulary has no value, and this student and teacher.student=bert_wide need it",
            "data.vocabulary=33",
        ),
        (["student=bert", "strategy=supervised"], "and this student needs it", "data.vocabulary=33"),
        (
            ["student=bert", "data.vocabulary=33", "teacher.student=mlp_wide"],
            "teacher.student=mlp_wide: kdlab.models.MLP has no input input_ids",
            "teacher.student=bert_wide",
        ),
    ],
)
def test_what_cannot_read_tokens_is_named_with_a_line_to_paste(typed, more, words, cure):
    (found,) = problems(compose([*typed, *more]))
    assert words in found and cure in found, found
    assert found.rpartition(cure)[2] in ("", ", or a pretrained one: student=encoder student.pretrained=NAME")
    assert list(problems(compose([*typed, *more, *shlex.split(cure)]))) == []


def test_a_class_of_data_that_is_not_there_is_one_problem_among_others(typed):
    found = list(problems(compose([*typed, "student=bert", "data._target_=kdlab.data.NoTexts", "teacher=none"])))
    assert any("NoTexts" in text for text in found) and any(text.endswith("data.vocabulary=…") for text in found), found


def test_a_trained_teacher_reads_the_tokens_that_it_learned(typed):
    more = ["student=bert", "data.vocabulary=33", "data.teacher_tokenizer=theirs"]
    (found,) = problems(compose([*typed, *more]))
    assert (
        "data.teacher_tokenizer=theirs: teacher.student=bert_wide is trained on the tokens of data.tokenizer" in found
    )
