"""Teachers of other classes are named by their own key."""

import torch

from kdlab.batch import Batch
from kdlab.models import MLP
from kdlab.tasks import Classification
from kdlab.teachers import Ensemble, Frozen, PerTerm
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
