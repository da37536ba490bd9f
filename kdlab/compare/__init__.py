"""Comparison: collect runs, group them over seeds, describe each group, print and write the table."""

from .collect import Group, groups
from .statistics import Interval, interval
from .table import Table, comparison

__all__ = ["Group", "Interval", "Table", "comparison", "groups", "interval"]
