"""What a config determines about its run is computed once."""

import pytest

from kdlab.config.compose import compose
from kdlab.config.references import ExperimentRun, FinishedRun
from kdlab.errors import InputError
from kdlab.runs import known
from kdlab.runs.identity import group_hash, run_hash
from kdlab.training import plan as planning
from kdlab.training.plan import Plan


def test_a_plan_holds_what_its_config_says(tmp_path):
    config = compose([f"paths.runs={tmp_path}", "trainer=ddp_cpu"])
    plan = Plan.of(config)
    assert (plan.hash, plan.group, plan.key) == (run_hash(config), group_hash(config), known.key_of(config))
    assert isinstance(plan.teacher, ExperimentRun) and plan.initial is None and plan.world == 2
    assert plan.run().path.parent == tmp_path / "quickstart" and plan.run().path.name.endswith(f"-{plan.hash}")
    alone = Plan.of(compose(["strategy=supervised"]))
    assert (alone.teacher, alone.world) == (None, 1)


def test_what_a_student_begins_with(tmp_path):
    (tmp_path / "run.json").write_text('{"hash": "a"}')
    plan = Plan.of(compose(["initial=run", f"student.initial.run={tmp_path}", "student.initial.new_head=true"]))
    assert isinstance(plan.initial.source, FinishedRun) and plan.initial.new_head and plan.initial.weights


def test_nothing_is_computed_a_second_time(monkeypatch, tmp_path):
    def never(*arguments):
        raise AssertionError("computed again")

    config = compose(["strategy=supervised", f"paths.runs={tmp_path}"])
    key = known.key_of(config)
    monkeypatch.setattr(known, "key_of", never)
    plan = Plan.of(config, key)
    assert plan.key == key
    for module in (planning, __import__("kdlab.runs.run", fromlist=["run_hash"])):
        monkeypatch.setattr(module, "run_hash", never)
    assert plan.run().path == plan.run().path
    groups = []
    monkeypatch.setattr(planning, "group_hash", lambda config: groups.append(config) or "g")
    assert (plan.group, plan.group) == ("g", "g") and groups == [config]


def test_a_wrong_config_has_no_plan():
    with pytest.raises(InputError, match="trainer.max_epochs must be a whole number"):
        Plan.of(compose(["strategy=supervised", "trainer.max_epochs=0"]))
