"""Text encoders from the command's config to a trained student."""

import pytest
import torch

from kdlab import train
from kdlab.errors import InputError

pytest.importorskip("transformers")
DATA = [
    "data._target_=tests.training.words.Words",
    "~data.omit_classes",
    "~data.augment",
    "data.name=words",
    "data.shape=[6]",
    "data.classes=2",
    "data.batch_size=32",
    "progress=none",
    "trainer.max_epochs=2",
    "optimizer.lr=0.01",
]
STUDENT = ["student=bert", "student.vocabulary=20", "student.positions=8", "student.heads=2", "student.width=8"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    run = train(
        [*DATA, *STUDENT, "student.layers=4", "strategy=supervised", f"paths.runs={folder}", "trainer.max_epochs=15"]
    )
    assert run.metrics["test/accuracy"] > 0.9
    run.student.network.save_pretrained(folder / "saved")
    return run


def distilled(teacher, *overrides, student=STUDENT):
    return train([*DATA, *student, "student.layers=2", "teacher=run", f"teacher.run={teacher.path}", *overrides])


def test_a_student_begins_with_layers_of_its_teacher(teacher, workplace, capsys):
    run = distilled(
        teacher,
        "loss=[ce,kd,tinybert,minilmv2]",
        "initial=teacher_layers",
        "student.initial.layers=last",
        "loss.tinybert.student_layers=2",
        "loss.tinybert.teacher_layers=4",
        "loss.minilmv2.student_layer=2",
        "loss.minilmv2.teacher_layer=4",
        "loss.minilmv2.heads=4",
        "trainer.max_epochs=1",
        "optimizer.lr=0",
        "progress=lines",
    )
    said = "".join(capsys.readouterr())
    assert "student.initial: the student begins with layers 3, 4 of the teacher" in said
    assert run.read().initial == {
        "path": "layers (last) of the teacher", "hash": None, "layers": [3, 4], "narrowed": [], "new": [],
    }  # fmt: skip
    mine, theirs = run.student.network.state_dict(), teacher.student.network.state_dict()
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(mine[name.format(0)], theirs[name.format(2)])
    again = distilled(teacher, "initial=teacher_layers", "student.initial.layers=first", "trainer.max_epochs=1")
    assert again.hash != run.hash and again.read().initial["layers"] == [1, 2]


def test_a_narrower_student_is_recorded(teacher, workplace):
    narrow = [*STUDENT[:3], "student.heads=1", "student.width=4"]
    run = distilled(teacher, "initial=teacher_layers", "student.initial.narrow=projection", student=narrow)
    assert run.read().initial["narrowed"] == [
        "width 8 to 4 (projection)",
        "heads 2 to 1 (importance)",
        "neurons 32 to 16 (importance)",
    ]
    assert run.metrics["test/accuracy"] > 0.6


def test_a_pretrained_teacher_and_a_note_on_attention(teacher, workplace, capsys):
    run = train(
        [
            *DATA,
            "student=encoder",
            f"student.pretrained={teacher.path.parent.parent}/saved",
            "teacher=encoder",
            f"teacher.pretrained={teacher.path.parent.parent}/saved",
            "loss=[ce,kd,attention_mse]",
            *(f"loss.attention_mse.{role}_parts=[attention]" for role in ("student", "teacher")),
            *(f"loss.attention_mse.{role}_layers=[4]" for role in ("student", "teacher")),
            "trainer.max_epochs=1",
            "progress=lines",
        ]
    )
    said = "".join(capsys.readouterr())
    assert said.count("so attention is computed by the implementation eager") == 2  # of student and teacher
    assert run.metrics["test/accuracy"] > 0.9


def test_a_run_without_a_teacher_names_the_network(teacher, workplace):
    saved = f"{teacher.path.parent.parent}/saved"
    base = [*DATA, *STUDENT, "student.layers=2", "strategy=supervised", "initial=teacher_layers"]
    with pytest.raises(InputError, match="this run has no teacher, so name the network"):
        train(base)
    one = train([*base, f"student.initial.of={{run: {teacher.path}}}"])
    other = train([*base, "+teacher@student.initial.of=encoder", f"student.initial.of.pretrained={saved}"])
    assert one.hash != other.hash
    assert torch.equal(*(run.student.network.classifier.weight for run in (one, other)))


@pytest.mark.parametrize(
    "override, message",
    [
        ("student.initial.layers=[0,1]", "student.initial: layers must be numbers from 1 to 4"),
        ("student.initial.layers=2", "student.initial.layers must be spread"),
        ("student.initial.narrow=pca", "student.initial.narrow must be one of"),
        ("student.initial.rows=0", "student.initial.rows must be"),
        ("student.width=16", "student.initial: the student has width 16 and the teacher 8"),
    ],
)
def test_what_does_not_fit_is_refused(override, message, teacher, workplace):
    with pytest.raises(InputError, match=message):
        distilled(teacher, "initial=teacher_layers", override)
