"""``task_of``: the task of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from kdlab.config.build import build
from kdlab.config.keys import DEFAULT_TASK
from kdlab.config.signature import locate, signature
from kdlab.errors import InputError

from .base import Task
from .facts import DataFacts


def task_of(config: Mapping[str, Any], facts: DataFacts | None = None) -> Task:
    """The task that a config names under ``task``. The constructor gets those of the facts that it has arguments for.

    Args:
        facts: of the data; None: those that the config's ``data`` states.

    Raises:
        InputError: the target is no :class:`kdlab.tasks.Task`, or its arguments are wrong.

    >>> task_of({"data": {"classes": 10, "shape": [1, 8, 8]}}).name
    'classification'
    """
    node = config.get("task") or DEFAULT_TASK
    facts = facts or DataFacts.of_node(config["data"])
    found = locate(node["_target_"])
    if isinstance(found, type) and not issubclass(found, Task):
        raise _no_task(node["_target_"])
    if getattr(found, "compared_with", "labels") == "teacher":  # the width of vectors is no fact of the data
        facts = replace(facts, classes=config["data"]["classes"])
    accepted = signature(node["_target_"]).accepted
    given = {one.name: getattr(facts, one.name) for one in fields(facts) if one.name in accepted}
    task = build({**node}, "task", **given)
    if not isinstance(task, Task):
        raise _no_task(node["_target_"])
    known = {metric.name for metric in task.report.metrics}
    if strangers := [name for name in (*task.metrics(), *task.test_metrics(), *task.fidelity()) if name not in known]:
        raise InputError(
            f"task: {node['_target_']} measures {strangers[0]}, and its report does not name it; add "
            f"kdlab.tasks.Metric({strangers[0]!r}, higher_is_better=…) to its metrics"
        )
    return task


def _no_task(target: str) -> InputError:
    return InputError(
        f"task: {target} is no kdlab.tasks.Task; derive it from that, or choose a task of kdlab: task=classification"
    )
