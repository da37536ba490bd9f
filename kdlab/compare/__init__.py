"""Comparison: collect runs, group them over seeds, describe each group, compare it with a baseline, print and write the
table and the report."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .collect import Group, groups
from .page import write_report
from .statistics import Difference, Interval, differences, interval
from .table import Row, Table, comparison, table_of

__all__ = [
    "Difference",
    "Group",
    "Interval",
    "Row",
    "Table",
    "compare",
    "comparison",
    "differences",
    "groups",
    "interval",
    "report",
    "table_of",
    "write_report",
]


def compare(
    *folders: str | Path, metric: str | None = None, baseline: str | None = None, further: Sequence[str] = ()
) -> Table:
    """The comparison of all runs in or below folders, as ``kdlab compare`` prints it. Arguments as for
    :func:`kdlab.compare.table_of`."""
    from kdlab.runs.run import runs_in

    return comparison(runs_in(folders), metric, baseline, further)


def report(
    *folders: str | Path,
    metric: str | None = None,
    baseline: str | None = None,
    further: Sequence[str] = (),
    folder: str | Path | None = None,
) -> Path:
    """Write the report of all runs in or below folders, as ``kdlab compare --report`` does.

    Args:
        metric, baseline, further: as for :func:`kdlab.compare.table_of`.
        folder: the report's folder; default: ``report`` in the first of the folders, or next to it where that is a run.

    Returns:
        The path of its page.
    """
    from kdlab.runs.run import runs_in

    found, left_out = groups(runs_in(folders))
    return write_report(
        found,
        table_of(found, metric, baseline, left_out, further),
        place(folders) / "report" if folder is None else folder,
        f"Comparison of {', '.join(map(str, folders))}",
    )


def place(folders: Sequence[str | Path]) -> Path:
    """The default folder for the files of a comparison: the first of the folders, or its parent where that is a run."""
    first = Path(folders[0])
    return first.parent if (first / "run.json").exists() else first


def __getattr__(name: str) -> Any:
    if name == "figures":  # matplotlib is imported where it is drawn
        return import_module("kdlab.compare.figures")
    raise AttributeError(f"module 'kdlab.compare' has no attribute '{name}'")
