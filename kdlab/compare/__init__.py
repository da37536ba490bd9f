"""Comparison: collect runs, group them over seeds, describe each group, print and write the table."""

from pathlib import Path

from .collect import Group, groups
from .statistics import Interval, interval
from .table import Table, comparison

__all__ = ["Group", "Interval", "Table", "compare", "comparison", "groups", "interval"]


def compare(*folders: str | Path, metric: str = "accuracy") -> Table:
    """The comparison of all runs in or below folders: what ``kdlab compare`` prints."""
    from kdlab.runs.run import find_runs

    return comparison(list(find_runs(folders)), metric)
