"""References: the node of a teacher, of a member or of first weights becomes one of a few variants; only kdlab/config
looks at its keys."""

import ast
import copy
from pathlib import Path

import pytest

from kdlab.config.compose import compose
from kdlab.config.references import (
    CheckpointFile,
    EnsembleOf,
    ExperimentRun,
    FinishedRun,
    Network,
    OnePerTerm,
    RoutedByColumn,
    SameButRun,
    StudentRun,
    composed_runs,
    initial_reference,
    reference,
    replace_configs,
    teacher_reference,
    without_configs,
)
from kdlab.errors import InputError

EARLIER = {
    "seed": 3,
    "loss": {"ce": {}},
    "data": {"name": "digits"},
    "choices": {"student": "mlp", "strategy": "supervised"},
}
MEMBERS = {"a": {"run": "runs/a"}, "b": {"checkpoint": "b.pt"}}


@pytest.mark.parametrize(
    ("node", "variant", "name"),
    [
        ({"experiment": "teacher/digits", "config": EARLIER}, ExperimentRun, "teacher/digits (seed 3)"),
        ({"student": "cnn_wide", "config": EARLIER}, StudentRun, "cnn_wide on digits (seed 3)"),
        ({"same_but": ["seed=3"], "config": EARLIER}, SameButRun, "supervised-ce-mlp-s3"),
        ({"run": "runs/./a", "which": "best"}, FinishedRun, "runs/./a"),
        ({"checkpoint": "weights/./a.pt"}, CheckpointFile, "weights/./a.pt"),
        ({"members": MEMBERS}, EnsembleOf, "ensemble of 2 (a, b)"),
        ({"members": MEMBERS, "column": "source"}, RoutedByColumn, "a teacher by source (a, b)"),
        (
            {"members": MEMBERS, "terms": {"kd": "a", "hint": "b"}},
            OnePerTerm,
            "a teacher per term (kd: a, hint: b)",
        ),
        ({"_target_": "kdlab.models.timm_model", "model": "resnet18"}, Network, "resnet18"),
        ({"_target_": "my.network"}, Network, "my.network"),
    ],
)
def test_each_form_is_a_variant_with_a_name(node, variant, name):
    one = reference(node, "teacher")
    assert type(one) is variant and one.name == name and one.node is node and one.role == "teacher"


def test_defaults_are_those_of_the_forms():
    run, file = reference({"run": "runs/a"}, "teacher"), reference({"checkpoint": "a.pt"}, "student.initial")
    assert (run.which, run.path, run.normalisation) == ("last", Path("runs/a"), None)
    assert (file.network, file.part, file.role) == (None, None, "initial")
    begun = initial_reference({"student": {"initial": {"run": "runs/a", "losses": True, "new_head": True}}})
    assert (begun.weights, begun.losses, begun.new_head, begun.source.key) == (True, True, True, "student.initial")
    assert initial_reference({"student": {}}) is None and teacher_reference({"teacher": None}) is None


def test_members_have_keys_of_their_own():
    one = reference({"members": MEMBERS, "average": "logits", "weights": [1, 2]}, "teacher")
    assert [member.key for member in one.members.values()] == ["teacher.members.a", "teacher.members.b"]
    assert [type(single) for single in one.singles] == [FinishedRun, CheckpointFile]
    assert (one.average, one.weights) == ("logits", [1, 2])
    alone = one.members["a"]
    assert alone.singles == [alone]


@pytest.mark.parametrize("node", [{}, {"which": "best"}, {"experiment": "teacher/digits"}, {"config": EARLIER}])
def test_a_node_without_a_form_is_refused(node):
    with pytest.raises(InputError, match="teacher must name a run or a network by one of experiment, student, same"):
        reference(node, "teacher")


def test_the_earlier_runs_of_a_config():
    config = compose(["strategy=assistant", "initial=same_but", 'student.initial.same_but=["initial=none","seed=5"]'])
    teacher, first = composed_runs(config)
    assert (type(teacher), teacher.role, teacher.changed_by) == (SameButRun, "teacher", "teacher.same_but")
    assert (first.role, first.config["seed"], first.takes_over_the_seed) == ("initial", 5, True)
    (largest,) = composed_runs(teacher.config)
    assert (largest.experiment, largest.takes_over_the_seed, largest.changed_by) == (
        "teacher/digits",
        False,
        "teacher.overrides",
    )
    before = copy.deepcopy(config)
    changed = replace_configs(config, lambda one: {"role": one.role})
    assert config == before and changed["teacher"]["config"] == {"role": "teacher"}
    assert changed["student"]["initial"]["config"] == {"role": "initial"}
    assert "config" not in without_configs(config)["teacher"]
    theirs = replace_configs(config, lambda one: one.config)["teacher"]["config"]
    assert theirs is config["teacher"]["config"], "not copied"


def test_two_runs_with_one_config_are_changed_each_for_itself():
    members = {"a": {"same_but": [], "config": EARLIER}, "b": {"same_but": [], "seed": 3, "config": EARLIER}}
    changed = replace_configs({"teacher": {"members": members}}, lambda one: {"own": one.takes_over_the_seed})
    assert {name: one["config"]["own"] for name, one in changed["teacher"]["members"].items()} == {
        "a": True,
        "b": False,
    }


# -- who looks at the keys ---------------------------------------------------------------------------------------------

PACKAGE = Path(__file__).parents[2] / "kdlab"
FORMS = {"experiment", "same_but", "run", "checkpoint", "members", "terms", "config"}
#: places outside config/ that look at a key of that name in something else
ELSEWHERE = {
    ("training/fine_tuning.py", "experiment"),  # the choice of the group ``experiment``
    ("training/fine_tuning.py", "run"),  # the table of forms
    ("sweep/search.py", "run"),  # an attribute of a trial
    ("studies/check.py", "config"),  # the digest in a line of results
    ("models/published.py", "config"),  # the sizes of a published model
    # a teacher's entry in a record
    ("training/teacher_record.py", "members"),
    ("studies/records.py", "members"),
    ("compare/rows.py", "members"),
}


def looked_at(source: str) -> set[str]:
    """The keys of references that a source looks up in some mapping: ``"run" in x``, ``x["run"]``, ``x.get("run")``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
            keys = [node.left]
        elif isinstance(node, ast.Subscript):
            keys = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
            keys = node.args[:1]
        else:
            continue
        found |= {key.value for key in keys if isinstance(key, ast.Constant) and key.value in FORMS}
    return found


def test_no_other_package_looks_at_the_keys_of_a_reference():
    found = {
        (str(path.relative_to(PACKAGE)), key)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "config"
        for key in looked_at(path.read_text(encoding="utf-8"))
    }
    assert found == ELSEWHERE, "use kdlab.config.references; or, for another mapping, add a line to ELSEWHERE"


def test_the_reader_sees_every_way_of_looking():
    source = 'if "run" in a or "terms" not in b: c["members"], d.get("config"), e.pop("checkpoint", None), f["other"]'
    assert looked_at(source) == {"run", "terms", "members", "config", "checkpoint"}


def test_values_are_routed_to_members_by_name_and_as_they_are_given():
    one = reference({"members": MEMBERS, "column": "source", "routes": {3: "a", "b": "a"}, "default": "b"}, "teacher")
    assert (one.column, one.default, one.given) == ("source", "b", {"3": "a", "b": "a"})
    assert one.routes == {"a": "a", "b": "a", "3": "a"} and len(one.singles) == 2
