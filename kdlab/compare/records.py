"""The part of a run's record (run.json, or a line of a study's results) that a comparison uses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from kdlab.errors import InputError
from kdlab.tasks.metric import CLASSIFICATION, Report

# numbers at the top level of the record
MEASURED = ("checkpoint_bytes", "peak_memory_bytes", "teacher_share")

# entries of a record that are nodes, or texts
KINDS = {
    **dict.fromkeys(("networks", "weights", "kept", "code", "hardware", "versions"), (Mapping, "hold names")),
    **dict.fromkeys(("peak_memory_of", "ended", "hash", "group"), (str, "be a text")),
    "overrides": (list, "be a list"),
}


def problem(record: Mapping) -> str:
    """What is damaged in the part of a record that a comparison uses; empty if nothing is.

    >>> fine, damaged = {"test/accuracy": 0.9}, {"test/accuracy": "high"}
    >>> problem({"hash": "a", "metrics": fine, "seed": 1}), problem({"hash": "a", "metrics": damaged})
    ('', "metrics.test/accuracy is 'high', not a number")
    """
    for place in ("metrics", "durations", "network_parameters"):
        if wrong := _numbers(record.get(place), place):
            return wrong
    for key in ("seed", "parameters", "flops", *MEASURED):
        if not _number(record.get(key)):
            return f"{key} is {record[key]!r}, not a number"
    for key, (kind, words) in KINDS.items():
        if not isinstance(record.get(key), (kind, type(None))):
            return f"{key} is {record[key]!r}, and should {words}"
    hardware, code = record.get("hardware") or {}, record.get("code") or {}
    if not isinstance(hardware.get("gpus") or [], list) or not isinstance(code.get("commit") or "", str):
        return (
            f"hardware.gpus is {hardware.get('gpus')!r} and code.commit {code.get('commit')!r}, and they should be "
            "a list and a text"
        )
    networks, kept = record.get("networks"), record.get("kept")
    for name, scores in (networks or {}).items():
        if not isinstance(scores, Mapping):
            return f"networks.{name} is {scores!r}, and should hold metrics"
        if wrong := _numbers(scores, f"networks.{name}"):
            return wrong
    if any(not isinstance((kept or {}).get(which), (Mapping, type(None))) for which in ("last", "best")):
        return f"kept is {kept!r}, and should name a network of each checkpoint"
    try:
        Report.of(record)
    except ValueError as error:
        return str(error)
    return _teacher_problem(record.get("teacher"), "teacher")


def _teacher_problem(teacher, place: str) -> str:
    if teacher is None:
        return ""
    if not isinstance(teacher, Mapping) or not isinstance(teacher.get("name"), str):
        return f"{place} is {teacher!r}, and should tell of a teacher"
    runs, members = teacher.get("runs", []), teacher.get("members", {})
    if not isinstance(runs, list) or not all(
        isinstance(run, Mapping) and isinstance(run.get("hash"), str) for run in runs
    ):
        return f"{place}.runs is {runs!r}, and should list runs"
    if not isinstance(members, Mapping):
        return f"{place}.members is {members!r}, and should hold names"
    checked = [(teacher.get("test"), f"{place}.test")] + [
        (run.get(key), f"{place}.runs.{key}") for run in runs for key in ("metrics", "durations")
    ]
    wrong = [text for numbers, where in checked if (text := _numbers(numbers, where))]
    if not wrong and not _number(teacher.get("parameters")):
        wrong = [f"{place}.parameters is {teacher['parameters']!r}, not a number"]
    wrong += [text for name, member in members.items() if (text := _teacher_problem(member, f"{place}.members.{name}"))]
    return wrong[0] if wrong else ""


def _number(value) -> bool:
    return value is None or isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(values, place: str) -> str:
    """What is wrong with named numbers. null is correct: it replaces a number that is not finite."""
    if values is None:
        return ""
    if not isinstance(values, Mapping):
        return f"{place} is {values!r}, and should hold numbers by name"
    return next(
        (f"{place}.{name} is {value!r}, not a number" for name, value in values.items() if not _number(value)), ""
    )


def report_of(records: Iterable[Mapping]) -> Report:
    """The report of the records' task.

    Raises:
        InputError: they are of several tasks.
    """
    found = dict.fromkeys(Report.of(record) for record in records)
    if len(found) > 1:
        raise InputError(
            f"the runs are of different tasks ({', '.join(sorted({one.task for one in found}))}), which cannot be "
            "compared in one table; name the folders of one task"
        )
    return next(iter(found), CLASSIFICATION)


def tested(record: Mapping, name: str) -> float | None:
    """A metric on test; None where it is absent or not finite."""
    value = (record.get("metrics") or {}).get(f"test/{name}")
    return value if value is not None and math.isfinite(value) else None


def metrics_of(record: Mapping) -> list[str]:
    """The names of a record's metrics on test at the last epoch."""
    return [
        key.removeprefix("test/")
        for key in record.get("metrics") or {}
        if key.startswith("test/") and not key.endswith("_best")
    ]
