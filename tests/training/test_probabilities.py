"""Networks that answer with probabilities: a teacher is warned of, a student under cross-entropy is refused."""

import re

import pytest
import torch

from kdlab.config.compose import compose
from kdlab.runs.checkpoints import read_checkpoint
from kdlab.tasks.probabilities import are_probabilities, look_like_sigmoids
from kdlab.training.assemble import assembled

NETWORK = "tests.strategies.networks"
STUDENT = ["student=mlp", f"student._target_={NETWORK}.Ending"]
SHORT = ["data.fraction=0.2", "trainer.max_epochs=1", "progress=none", "trainer.accelerator=cpu", "student.hidden=[8]"]


@pytest.fixture
def weights(taught, workplace):
    """A file of the trained teacher's weights, and what a node says of its network."""
    content = read_checkpoint(taught.checkpoint("last"))["state_dict"]
    torch.save(
        {name.removeprefix("student."): value for name, value in content.items() if name.startswith("student.")},
        workplace / "weights.pth",
    )
    shape = ", ".join(
        f"{key}: {value}" for key, value in taught.config["student"].items() if key in ("hidden", "classes", "shape")
    )
    return lambda end: f"{{_target_: {NETWORK}.Ending, {shape}, end: {end}}}"


@pytest.mark.parametrize(
    "end, warned",
    [
        ("softmax", "answers with probabilities.*remove the softmax"),
        ("sigmoid", "lie between 0 and 1.*sigmoid"),
        ("log_softmax", None),
    ],
)
def test_a_teacher_is_warned_of_once(kdlab, weights, end, warned):
    code, out, err = kdlab(
        "train", "teacher=checkpoint", "teacher.checkpoint=weights.pth", f"+teacher.network={weights(end)}", *SHORT
    )
    lines = [line for line in out.splitlines() if "warning" in line]
    assert code == 0, err
    if warned is None:
        assert lines == []
    else:
        assert len(lines) == 1 and re.match(
            f"teacher: warning: .*weights.pth {warned}" if end == "softmax" else f"teacher: warning: .*{warned}",
            lines[0],
        )


def test_members_of_an_ensemble_and_teachers_of_terms_are_named(kdlab, weights):
    def member(end):
        return f"{{checkpoint: weights.pth, network: {weights(end)}}}"

    members = f"teacher.members={{plain: {member('log_softmax')}, soft: {member('softmax')}}}"
    code, out, err = kdlab("train", "teacher=none", "+teacher={}", f"+{members}", *SHORT)
    assert code == 0, err
    assert [line.partition(": warning")[0] for line in out.splitlines() if "warning" in line] == ["teacher soft"]
    code, out, err = kdlab(
        "train",
        "teacher=none",
        "+teacher={}",
        f"+{members}",
        "+teacher.terms={kd: soft, logit_mse: plain}",
        "loss=[ce,kd,logit_mse]",
        *SHORT,
    )
    assert code == 0, err
    assert [line.partition(": warning")[0] for line in out.splitlines() if "warning" in line] == ["teacher soft"]


@pytest.mark.parametrize(
    "overrides, role",
    [
        ([*STUDENT, "strategy=supervised"], "student: in evaluation mode"),
        ([*STUDENT, "strategy=supervised", "loss.ce.label_smoothing=0.1"], "student: in evaluation mode"),
        ([*STUDENT, "strategy=supervised", "+student.mode=training"], "student: in training mode"),
        ([*STUDENT, "strategy=supervised", "+student.mode=evaluation"], "student: in evaluation mode"),
        ([*STUDENT, "strategy=online"], "student: in evaluation mode"),
        (
            [
                "strategy=online",
                f"+strategy.peers={{soft: {{_target_: {NETWORK}.Ending, classes: 10, shape: [1,8,8]}}}}",
            ],
            "strategy.peers.soft: in evaluation mode",
        ),
    ],
)
def test_a_student_under_cross_entropy_is_refused(kdlab, workplace, overrides, role):
    overrides = [text.replace("+strategy.peers", "strategy.peers") for text in overrides]
    code, out, err = kdlab("train", *overrides, *SHORT)
    assert (
        code == 2
        and f"{role} the network answers with probabilities" in err
        and "loss.ce" in err
        and "remove the softmax" in err
    ), err
    assert not (workplace / "runs").exists()


def test_a_student_under_distillation_alone_is_refused(kdlab, workplace, taught):
    code, out, err = kdlab("train", *STUDENT, "loss=[kd]", "teacher=run", f"teacher.run={taught.path}", *SHORT)
    assert code == 2 and "loss.kd must have logits" in err, err


def warnings_of(*overrides):
    return assembled(compose([*SHORT, "strategy=supervised", *overrides])).notes


def test_a_loss_of_the_users_may_expect_probabilities(workplace):
    """Then it is said, once a mode, and trained."""
    own = [f"+loss.own={{_target_: {NETWORK}.OwnLoss}}", "loss.ce.weight=0"]
    found = warnings_of(*STUDENT, *own)
    assert len(found) == 2 and all(
        line.startswith("student: warning: in ") and "The metrics on validation and test" in line for line in found
    )


def test_a_sigmoid_is_said_and_no_more(kdlab, workplace):
    assert [line[:46] for line in warnings_of(*STUDENT, "+student.end=sigmoid")] == [
        "student: warning: in evaluation mode all answe",
        "student: warning: in training mode all answers",
    ]
    code, out, err = kdlab("train", *STUDENT, "+student.end=sigmoid", "strategy=supervised", *SHORT)
    assert code == 0 and out.count("warning") == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["student=mlp"],
        ["student=cnn", "~student.hidden"],
        [*STUDENT, "+student.end=log_softmax"],
        [*STUDENT, "+student.end=sigmoid", "+student.mode=never"],
        [*STUDENT, "+student.end=log_softmax", "+student.scale=0"],
    ],
)
def test_logits_are_no_matter_for_warnings(workplace, overrides):
    kept = [text for text in overrides if not text.startswith("~")]
    options = [text for text in SHORT if "hidden" not in text] if "student=cnn" in kept else SHORT
    assert assembled(compose([*options, "strategy=supervised", *kept])).notes == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_what_probabilities_are(dtype, classes):
    logits = torch.randn(64, classes, generator=torch.Generator().manual_seed(0))
    assert are_probabilities(logits.softmax(1).to(dtype)) and not are_probabilities(logits.to(dtype))
    assert not are_probabilities(logits.sigmoid().to(dtype)) and not are_probabilities(logits.log_softmax(1).to(dtype))
    assert not are_probabilities(logits.abs().to(dtype)) and not are_probabilities(torch.zeros(4, classes))
    one_off = logits.softmax(1)
    one_off[3, 0] += 0.1
    assert not are_probabilities(one_off.to(dtype))
    assert look_like_sigmoids(logits.sigmoid().to(dtype), True) and not look_like_sigmoids(logits.to(dtype), True)
    assert look_like_sigmoids(logits.sigmoid().to(dtype), False) == (classes > 2) and not look_like_sigmoids(
        torch.zeros(4, classes), True
    )
