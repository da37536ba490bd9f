"""Checks, before training, whether a study's runs will have the metrics and classes that it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kdlab.compare.records import MEASURED
from kdlab.errors import did_you_mean
from kdlab.tasks.metric import AGREEMENT, KL_TO_TEACHER, MSE_TO_TEACHER, Report, report_of

from .study import FILE, Row, Study

#: measured on test alone, so they have no curve
TEST_ALONE = ("ece", "retrieval_agreement")
OF_A_TEACHER = (AGREEMENT.name, KL_TO_TEACHER.name, MSE_TO_TEACHER.name)


def unknown_names(study: Study, configs: Mapping[tuple[str, ...], dict]) -> list[str]:
    """A line for each metric and class that no run of the study, or no run of its row, can have.

    Args:
        configs: the configs of its runs, by overrides; the first seed of every row is enough.
    """
    path = study.folder / FILE
    classes = max(config["data"]["classes"] for config in configs.values())

    def tasks(rows: Iterable[Row]) -> list[Report]:
        own = [configs[texts] for row in rows if (texts := row.run_overrides(row.seeds[0])) in configs]
        return list(dict.fromkeys(report_of(config) for config in own or configs.values()))

    def metrics(reports: Sequence[Report]) -> list[str]:
        names = list(dict.fromkeys(one.name for report in reports for one in report.metrics))
        return names + (
            [f"class_{number}" for number in range(classes)] if any(one.answers == "classes" for one in reports) else []
        )

    mixed = [
        (key, reports)
        for key, rows in (
            *((f"tables.{table.name}", table.rows) for table in study.tables),
            ("curves.rows", study.rows_of_curves()),
        )
        if len(reports := tasks(rows)) > 1 and rows
    ]
    if mixed:
        return [
            f"{path}: {key}: its rows are of different tasks ({', '.join(one.task for one in reports)}), which cannot "
            "be compared; name rows of one task"
            for key, reports in mixed
        ]
    known = {table.name: metrics(tasks(table.rows)) for table in study.tables}
    asked = [(f"tables.{table.name}.metric", table.metric, known[table.name]) for table in study.tables]
    asked += [
        (f"tables.{table.name}.further", name, [*known[table.name], *MEASURED])
        for table in study.tables
        for name in table.further
    ]
    asked += [
        (f"{key}, number {number}: metric", one.metric, known[one.table])
        for key, ones in (("expected", study.expected), ("levels", study.levels))
        for number, one in enumerate(ones, start=1)
        if one.metric
    ]
    if not study.curve_metric.startswith("train/"):  # has a part for each loss
        names = [name for name in metrics(tasks(study.rows_of_curves())) if not name.startswith("class_")]
        curves = [f"val/{name}" for name in names if name not in (*OF_A_TEACHER, *TEST_ALONE)]
        asked.append(("curves.metric", study.curve_metric, curves))
    problems = [
        f"{path}: {key}: there is no '{name}'{did_you_mean(name, names)} (there are {_listed(names)})"
        for key, name, names in asked
        if name not in names
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
    problems += [
        f"{path}: tables.{table.name}.rows.{row.name}: bias: it is added to the logits of classes, and with "
        f"task={report.task} a network answers with {report.answers}; leave it out"
        for table in study.tables
        for row in table.rows
        for report in tasks([row])
        if row.bias and report.answers != "classes"
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
