"""A teacher that is trained along: the loss by hand, who learns from whom, features, what is kept."""

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.strategies import CoTrained
from kdlab.strategies.cohort import Peer
from kdlab.training.assemble import assembled
from tests.strategies.cohorts import ce, cohort, gradients, kl, linear, some

SHORT = [
    "strategy=cotrain",
    "strategy.peers.teacher.hidden=[24,20]",
    "data.fraction=0.2",
    "student.hidden=[16]",
    "progress=none",
    "trainer.max_epochs=2",
]


def _state(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


@pytest.mark.parametrize("feedback", [0.0, 0.5])
def test_the_loss_by_hand(feedback):
    student, teacher, batch = linear(0), linear(1), some()
    strategy = cohort(CoTrained, [student], peers={"teacher": Peer(teacher)}, feedback=feedback)
    loss = strategy.distill(batch).loss
    said, taught = student(batch.inputs), teacher(batch.inputs)
    students, teachers = (
        0.3 * ce(said, batch) + 0.7 * kl(taught, said),
        0.3 * ce(taught, batch) + feedback * 0.7 * kl(said, taught),
    )
    assert loss.total.item() == pytest.approx((students + teachers).item(), rel=1e-12)
    for network, own in ((student, students), (teacher, teachers)):
        for found, expected in zip(gradients(network, loss.total), gradients(network, own)):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    assert set(loss.parts) == {"ce_student", "kd_student", "ce_teacher", *(["kd_teacher"] if feedback else [])}


def test_without_feedback_the_teacher_is_trained_as_if_alone(workplace):
    """To the same weights as without any student, but for the random numbers of dropout."""
    common = [*SHORT, "strategy.peers.teacher.dropout=0.0", "loss.kd.weight=0.0", "loss.ce.weight=1.0"]
    first = _state(kdlab.train(common))
    second = _state(kdlab.train([*common, "loss.kd.weight=0.8"]))
    names = [name for name in first if name.startswith("peers.teacher.")]
    assert names and all(torch.equal(first[name], second[name]) for name in names)
    assert not torch.equal(first["student.classifier.weight"], second["student.classifier.weight"])
    third = _state(kdlab.train([*common, "loss.kd.weight=0.8", "strategy.feedback=0.5"]))
    assert not all(torch.equal(first[name], third[name]) for name in names)


@pytest.mark.slow
def test_features_of_the_teachers_own_taps(workplace):
    """The student has no stage2; without feedback the teacher has no connector."""
    overrides = [*SHORT, "loss=[ce,kd,hint]", "loss.hint.student_tap=stage1", "loss.hint.teacher_tap=stage2"]
    run = kdlab.train(overrides)
    state = _state(run)
    connector = [name for name in state if "connector" in name]
    assert all(name.startswith("objective.terms.hint.") for name in connector)
    assert [tuple(state[name].shape) for name in connector if name.endswith("weight")] == [(20, 16)]
    fresh = dict(assembled(compose(overrides)).strategy.named_parameters())
    assert not any(torch.equal(fresh[name], state[name]) for name in connector)
    with pytest.raises(InputError, match="MLP has no module 'stage2'"):  # with feedback each needs what the other has
        kdlab.train([*overrides, "strategy.feedback=0.5"])


def test_which_is_kept(workplace):
    """The student; or whichever is asked for."""
    run = kdlab.train(SHORT)
    assert set(run.record["networks"]) == {"student", "teacher"} and run.student.depth == 1
    assert run.config["strategy"]["peers"]["teacher"]["hidden"] == [24, 20]
    teacher = kdlab.train([*SHORT, "strategy.keep=teacher"])
    assert teacher.student.depth == 2 and torch.equal(
        teacher.student.classifier.weight, _state(run)["peers.teacher.classifier.weight"]
    )


def test_another_teacher_by_one_override(workplace):
    overrides = [
        "strategy=cotrain",
        "student=cnn",
        "student@strategy.peers.teacher=cnn_wide",
        "+strategy.peers.teacher.optimizer.lr=0.003",
    ]
    strategy = assembled(compose(overrides)).strategy
    assert strategy.peers["teacher"].classifier.in_features == 128
    assert [group.get("lr") for group in strategy.parameter_groups()] == [None, 0.003]


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["strategy.feedback=-1.0"], "feedback must be 0 or greater"),
        (
            ["+student@strategy.peers.second=mlp"],
            "strategy.peers must be one network, 'teacher'.* got teacher, second",
        ),
        (["strategy.peers=2"], "strategy.peers=2 and strategy.peers.teacher: .* leave one of the two out"),
        (["loss=[kd]"], "no term learns from the labels"),
        (["teacher=trained"], "so there is no other teacher"),
        (["strategy.peers.teacher.classes=7"], "strategy.peers.teacher.classes .* to 10"),
    ],
)
def test_mistakes_are_refused(workplace, overrides, words):
    with pytest.raises(InputError, match=words):
        kdlab.train(["strategy=cotrain", "progress=none", *overrides])
    assert not (workplace / "runs" / "quickstart").exists()
