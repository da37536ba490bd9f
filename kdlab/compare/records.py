"""The part of a run's record (run.json, or a line of a study's results) that a comparison uses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from kdlab.errors import InputError
from kdlab.tasks.metric import CLASSIFICATION, Report

# numbers at the top level of the record
MEASURED = ("checkpoint_bytes", "peak_memory_bytes", "teacher_share")


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
