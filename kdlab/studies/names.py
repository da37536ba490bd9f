"""Whether a study asks for metrics and classes that its runs will have: found before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.compare.records import MEASURED
from kdlab.errors import did_you_mean

from .study import FILE, Study

#: of a classifier on test; the last two where it has a teacher
METRICS = ("accuracy", "nll", "ece", "agreement", "kl_to_teacher")
CURVES = ("val/accuracy", "val/nll")


def unknown_names(study: Study, configs: Sequence[dict]) -> list[str]:
    """A line for each metric and class that no run of the study can have.

    Args:
        configs: of its runs.
    """
    classes = max(config["data"]["classes"] for config in configs)
    metrics = [*METRICS, *(f"class_{number}" for number in range(classes))]
    asked = [(f"tables.{table.name}.metric", table.metric, metrics) for table in study.tables]
    asked += [(f"tables.{table.name}.further", name, [*metrics, *MEASURED]) for table in study.tables for name in table.further]
    asked += [(f"expected, number {number}: metric", one.metric, metrics) for number, one in enumerate(study.expected, start=1) if one.metric]
    if not study.curve_metric.startswith("train/"):         # which has a part for each of the losses
        asked.append(("curves.metric", study.curve_metric, CURVES))
    path = study.folder / FILE
    problems = [f"{path}: {key}: there is no '{name}'{did_you_mean(name, known)} (there are {_listed(known)})" for key, name, known in asked
                if name not in known]
    return problems + [f"{path}: tables.{table.name}.rows.{row.name}: bias: there is no class {number}; the classes are 0 to {classes - 1}"
                       for table in study.tables for row in table.rows for number in row.bias if number >= classes]


def _listed(names: Sequence[str]) -> str:
    classes = [name for name in names if name.startswith("class_")]
    others = [name for name in names if name not in classes]
    return ", ".join([*others, *([f"class_0 to {classes[-1]}"] if classes else [])])
