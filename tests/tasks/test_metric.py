"""What run.json keeps of a task, and where the names of its metrics stand."""

import ast
from pathlib import Path

import pytest

import kdlab
from kdlab.tasks import Classification, MultiLabel, Regression
from kdlab.tasks.metric import CLASSIFICATION, MULTILABEL, REGRESSION, REPORTS, Metric, Report, report_of

PACKAGE = Path(kdlab.__file__).parent


def test_no_other_package_names_the_metric_of_classifiers():
    """Only docstrings may: they give examples."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] == "tasks":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {
            node.body[0].value
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        found += [
            f"{path.relative_to(PACKAGE)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in documented
            and "accuracy" in node.value
            and " " not in node.value.strip()
        ]
    assert found == []


def test_a_report_survives_run_json():
    for report in REPORTS.values():
        assert Report.of({"task": report.as_record()}) == report
    assert Report.of({}) is CLASSIFICATION


@pytest.mark.parametrize("damaged", ["classification", {"name": "a"}, {"name": "a", "answers": "b", "metrics": []}, 3])
def test_a_damaged_report_is_refused(damaged):
    with pytest.raises(ValueError, match="task is .*, and should name a task and its metrics"):
        Report.of({"task": damaged})


@pytest.mark.parametrize("task", [Classification(3), MultiLabel(3), Regression(2)], ids=lambda task: task.name)
def test_everything_that_is_measured_is_reported_in_its_direction(task):
    names = {metric.name for metric in task.report.metrics}
    assert {*task.metrics(), *task.test_metrics(), *task.fidelity()} == names
    assert task.headline.name in task.metrics()
    for collection in (task.test_metrics(), task.fidelity()):
        for name, metric in collection.items():
            if metric.higher_is_better is not None:
                assert metric.higher_is_better == task.report.higher_is_better(name), name


def test_directions():
    assert [REGRESSION.higher_is_better(name) for name in ("mse", "test/mae_best", "val/r2")] == [False, False, True]
    assert MULTILABEL.higher_is_better("f1") and not MULTILABEL.higher_is_better("bce")
    own = Report("own", "values", (Metric("error", False, "m"),))
    assert own.headline.name == "error" and not own.higher_is_better("val/error")
    assert own.higher_is_better("unknown") and not own.higher_is_better("train/loss")


def test_the_report_of_a_config():
    assert report_of({"task": {"_target_": "kdlab.tasks.MultiLabel"}}) is MULTILABEL
    assert report_of({"task": {"_target_": "tests.tasks.tagging.Tagging"}}) is CLASSIFICATION
    with pytest.raises(LookupError):
        report_of({"task": {"_target_": "kdlab.tasks.Nothing"}})
