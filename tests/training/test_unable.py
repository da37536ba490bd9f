"""Teachers of another task or of other classes are named by their own key."""

import pytest
import torch

import kdlab as package
from kdlab.batch import Batch
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.models import MLP
from kdlab.tasks import Classification
from kdlab.tasks.metric import MULTILABEL, REGRESSION
from kdlab.teachers import Ensemble, Frozen, PerTerm
from kdlab.training.assemble import assembled
from kdlab.training.unable import wrong_classes

BATCH = Batch(torch.zeros(2, 4), torch.tensor([0, 1]), torch.arange(2))


def node(classes):
    return {"_target_": "kdlab.models.MLP", "classes": classes, "shape": [4], "hidden": [2]}


def network(classes):
    return Frozen(MLP(classes=classes, shape=(4,), hidden=[2]), Classification(3))


def test_a_member_is_named_where_another_has_no_weight():
    teacher = {"members": {"a": node(3), "b": node(3), "c": node(5)}, "weights": [0, 1, 1]}
    config = {"teacher": teacher, "data": {"classes": 3}, "overrides": []}
    members = {name: network(one["classes"]) for name, one in teacher["members"].items()}
    assert wrong_classes(config, Ensemble({"a": members["a"], "b": members["b"]}), BATCH) == []
    [found] = wrong_classes(config, Ensemble(members, weights=[0, 1, 1]), BATCH)
    assert found.startswith("teacher.members.c: kdlab.models.MLP (teacher.members.c.classes=5) answers with 5 classes")


def test_the_teacher_of_a_term_is_named():
    config = {
        "teacher": {"members": {"a": node(3), "b": node(5)}, "terms": {"kd": "a", "dkd": "b"}},
        "data": {"classes": 3},
        "overrides": [],
    }
    [found] = wrong_classes(config, PerTerm({"a": network(3), "b": network(5)}, {"kd": "a", "dkd": "b"}), BATCH)
    assert found.startswith("teacher.members.b: ") and "answers with 5 classes, but the data have 3" in found


def test_a_single_teacher_is_named():
    config = {"teacher": node(5), "data": {"classes": 3}, "overrides": []}
    [found] = wrong_classes(config, network(5), BATCH)
    assert found.startswith("teacher: kdlab.models.MLP (teacher.classes=5) answers with 5 classes")
    assert wrong_classes(config, network(3), BATCH) == []


@pytest.fixture
def of_regression(taught):
    """The teacher of digits, with a record that names another task: its answers have the right width."""
    own = taught.record
    taught.update(task=REGRESSION.as_record())
    yield taught
    taught.update(task=own["task"])


def test_a_run_of_another_task_cannot_teach(workplace, kdlab, of_regression):
    code, _, err = kdlab("train", "teacher=run", f"teacher.run={of_regression.path}")
    assert code == 2 and not (workplace / "runs").exists()
    assert (
        f"teacher: {of_regression.path} learned task=regression (values), and this run has task=classification "
        "(classes); teacher=trained trains one for this task, or name a run of task=classification"
    ) in " ".join(err.split())


def test_nor_can_its_checkpoint_or_a_member(of_regression):
    file = of_regression.checkpoint("last")
    for typed, key in (
        (["teacher=checkpoint", f"teacher.checkpoint={file}"], "teacher"),
        (
            ["teacher=ensemble", "~teacher.members.first", f"+teacher.members.first={{run: {of_regression.path}}}"],
            "teacher.members.first",
        ),
    ):
        with pytest.raises(InputError, match=f"^{key}: {of_regression.path}.* learned task=regression"):
            assembled(compose(typed))


def test_nor_can_a_run_that_would_be_trained(workplace):
    typed = [
        "teacher=same_but",
        'teacher.same_but=["task=multilabel","data=digits","strategy=supervised","teacher=none"]',
    ]
    with pytest.raises(InputError, match=r"^teacher: .* learned task=multilabel \(labels\), and this run has task=cl"):
        assembled(compose(typed))


def test_a_task_that_adds_a_metric_is_the_same(of_regression):
    """The answers are compared, not the names."""
    added = {**MULTILABEL.as_record(), "name": "tagging", "answers": "classes"}
    of_regression.update(task=added)
    assert assembled(compose(["teacher=run", f"teacher.run={of_regression.path}"])).teacher is not None


def test_a_run_of_another_task_cannot_teach_in_python(of_regression):
    batch = [(torch.zeros(4, 64), torch.tensor([0, 1, 2, 3]))]
    with pytest.raises(
        InputError, match=r"^teacher: .* learned task=.?regression.? \(values\), and this run has task="
    ):
        package.distill(MLP(classes=10, shape=(64,), hidden=[4]), of_regression, batch, progress="none")
