"""A causal language model that begins with layers of its teacher, from the config to the record."""

import re

import pytest
import torch

import kdlab
from kdlab.errors import InputError

DATA = [
    *("task=causal_lm", "data=sums", "data.largest=9", "data.samples=60", "data.test_samples=30", "data.batch_size=18"),
    *("trainer.max_epochs=1", "progress=none", "student=llama", "data.validation=0.02"),  # too few to judge a teacher
]
WIDE = ["student.layers=2", "student.width=16", "student.heads=2", "strategy=supervised"]
NARROW = ["student.layers=1", "student.width=8", "student.intermediate=32"]
ONE_HEAD = [*NARROW, "student.heads=1"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    run = kdlab.train([*DATA, *WIDE, f"paths.runs={folder}", f"paths.data={folder}"])
    run.student.network.save_pretrained(str(folder / "saved"))
    return run


def taught(teacher, *more, student=ONE_HEAD):
    named = ["teacher=run", f"teacher.run={teacher.path}", "initial=teacher_layers", "loss=[ce,forward_kl]"]
    return kdlab.train([*DATA, *student, *named, *more])


def test_a_narrower_student_is_recorded_and_loaded_again(teacher, workplace, capsys):
    run = taught(teacher, "student.initial.layers=[2]", "progress=lines")
    assert run.read().initial == {
        "path": "layers ([2]) of the teacher",
        "hash": None,
        "layers": [2],
        "narrowed": [
            "width 16 to 8 (importance)",
            "heads 2 to 1 (importance)",
            "heads of keys and values 2 to 1 (importance)",
            "neurons 64 to 32 (importance)",
        ],
        "new": [],
    }
    assert "student.initial: the student begins with layers 2 of the teacher" in "".join(capsys.readouterr())
    other = taught(teacher, "student.initial.layers=[2]", "student.initial.narrow=projection")
    assert other.hash != run.hash and other.read().initial["narrowed"][0] == "width 16 to 8 (projection)"
    ids = torch.tensor([[3, 12, 5, 13, 8]])
    assert torch.equal(kdlab.load(run.path).student.eval()(ids), run.student.eval()(ids))


def test_a_run_without_a_teacher_names_the_model(teacher, workplace):
    base = [*DATA, *ONE_HEAD, "strategy=supervised", "initial=teacher_layers", "optimizer.lr=0"]
    with pytest.raises(InputError, match=r"this run has no teacher, .* or \+teacher@student.initial.of=causal"):
        kdlab.train(base)
    saved = f"student.initial.of.pretrained={teacher.path.parents[1]}/saved"
    runs = [
        kdlab.train([*base, *of])
        for of in ([f"student.initial.of={{run: {teacher.path}}}"], ["+teacher@student.initial.of=causal", saved])
    ]
    one, other = (run.student.network.state_dict() for run in runs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_what_does_not_fit_is_refused_with_a_line_that_works(teacher, workplace):
    with pytest.raises(
        InputError, match="student.initial: a head has width 4 in the student and 8 in the teacher"
    ) as no:
        taught(teacher, "student.heads=2", student=NARROW)
    assert taught(teacher, "student.heads=2", str(no.value).rpartition(": ")[2], student=NARROW).finished
    rope = "{rope_type: default, rope_theta: 100000.0}"
    other = [f"+student.options={{rope_parameters: {rope}, rms_norm_eps: 1e-05}}", "student.tied=false"]
    trained = kdlab.train([*DATA, *WIDE, *other])
    with pytest.raises(InputError, match="student.initial: the teacher computes with rope_parameters=") as no:
        taught(trained, "student.tied=false")
    typed = re.search(r"'(\+student.options=.*)'$", str(no.value))[1]
    with pytest.raises(InputError, match="student.initial: the teacher's head has a matrix of its own, .*tied=false"):
        taught(trained, typed)
    run = taught(trained, typed, "student.tied=false")
    assert run.student.config.rope_parameters["rope_theta"] == 1e5 and run.student.config.rms_norm_eps == 1e-5
