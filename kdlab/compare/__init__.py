"""Comparison: collect runs, group them over seeds, describe each group, print and write the table."""

from pathlib import Path

from .collect import Group, groups
from .page import write_report
from .statistics import Interval, interval
from .table import Table, comparison

__all__ = ["Group", "Interval", "Table", "compare", "comparison", "groups", "interval", "report", "write_report"]


def compare(*folders: str | Path, metric: str = "accuracy") -> Table:
    """The comparison of all runs in or below folders: what ``kdlab compare`` prints."""
    from kdlab.runs.run import find_runs

    return comparison(list(find_runs(folders)), metric)


def report(*folders: str | Path, metric: str = "accuracy", baseline: str | None = None, folder: str | Path | None = None) -> Path:
    """Write the report of all runs in or below folders: what ``kdlab compare --report`` writes.

    Args:
        baseline: as for :func:`comparison`.
        folder: where to; default: ``report`` in the first of the folders.

    Returns:
        The path of its page.
    """
    from kdlab.runs.run import find_runs

    runs = list(find_runs(folders))
    found, _ = groups(runs)
    return write_report(found, comparison(runs, metric), Path(folders[0]) / "report" if folder is None else folder,
                        f"Comparison of {', '.join(map(str, folders))}")
