"""Checks, before training, whether a study's runs will have the metrics and classes that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdlab.compare.records import MEASURED
from kdlab.errors import did_you_mean
from kdlab.tasks.metric import AGREEMENT, KL_TO_TEACHER, MSE_TO_TEACHER, report_of

from .study import FILE, Study

#: measured on test alone, so it has no curve
TEST_ALONE = "ece"
OF_A_TEACHER = (AGREEMENT.name, KL_TO_TEACHER.name, MSE_TO_TEACHER.name)


def unknown_names(study: Study, configs: Mapping[tuple[str, ...], dict]) -> list[str]:
    """A line for each metric and class that no run of the study, or no run of its row, can have.

    Args:
        configs: the configs of its runs, by overrides; the first seed of every row is enough.
    """
    classes = max(config["data"]["classes"] for config in configs.values())
    reports = dict.fromkeys(report_of(config) for config in configs.values())
    metrics = list(dict.fromkeys(one.name for report in reports for one in report.metrics))
    curves = [f"val/{name}" for name in metrics if name not in (*OF_A_TEACHER, TEST_ALONE)]
    if any(report.answers == "classes" for report in reports):
        metrics += [f"class_{number}" for number in range(classes)]
    asked = [(f"tables.{table.name}.metric", table.metric, metrics) for table in study.tables]
    asked += [
        (f"tables.{table.name}.further", name, [*metrics, *MEASURED])
        for table in study.tables
        for name in table.further
    ]
    asked += [
        (f"{key}, number {number}: metric", one.metric, metrics)
        for key, ones in (("expected", study.expected), ("levels", study.levels))
        for number, one in enumerate(ones, start=1)
        if one.metric
    ]
    if not study.curve_metric.startswith("train/"):  # has a part for each loss
        asked.append(("curves.metric", study.curve_metric, curves))
    path = study.folder / FILE
    problems = [
        f"{path}: {key}: there is no '{name}'{did_you_mean(name, known)} (there are {_listed(known)})"
        for key, name, known in asked
        if name not in known
    ]
    for number, one in enumerate(study.expected, start=1):
        table = study.table(one.table)
        for name in filter(None, (one.row, one.above, one.below)):
            row = table.row(name)
            config = configs.get(row.run_overrides(row.seeds[0]))
            if (one.metric or table.metric) in OF_A_TEACHER and config is not None and config.get("teacher") is None:
                problems.append(
                    f"{path}: expected, number {number}: the runs of '{name}' have no teacher, and so no "
                    f"'{one.metric or table.metric}'"
                )
    for table in study.tables:
        own = [configs.get(row.run_overrides(row.seeds[0])) for row in table.rows]
        taught = [config is None or config.get("teacher") is not None for config in own]
        problems += [
            f"{path}: tables.{table.name}: no row's runs have a teacher, and so none has '{name}'"
            for name in (table.metric, *table.further)
            if name in OF_A_TEACHER and not any(taught)
        ]
    return problems + [
        (
            f"{path}: tables.{table.name}.rows.{row.name}: bias: there is no class {number}; the classes are 0 to "
            f"{classes - 1}"
        )
        for table in study.tables
        for row in table.rows
        for number in row.bias
        if number >= classes
    ]


def unknown_networks(study: Study, networks: Mapping[tuple[str, ...], Sequence[str]]) -> list[str]:
    """A line for each row with a network that its runs will not have.

    Args:
        networks: the networks of the runs that were tried, by overrides.
    """
    return [
        f"{study.folder / FILE}: tables.{table.name}.rows.{row.name}: network: its runs have no "
        f"'{row.network}'{did_you_mean(row.network, known)} (they have {', '.join(known)})"
        for table in study.tables
        for row in table.rows
        if row.network and (known := networks.get(row.run_overrides(row.seeds[0]))) and row.network not in known
    ]


def _listed(names: Sequence[str]) -> str:
    classes = [name for name in names if name.startswith("class_")]
    others = [name for name in names if name not in classes]
    return ", ".join([*others, *([f"class_0 to {classes[-1]}"] if classes else [])])
