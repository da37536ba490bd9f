"""metrics.csv: one row per epoch, or per ``trainer.every_n_train_steps`` optimiser steps. The file is rewritten as a
whole, so it is never half written."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from .files import write_text

#: called at the end of every row of the curve with the number of finished epochs, the number of all epochs, the row,
#: and ``epoch``; where rows are counted in optimiser steps, with their numbers and ``step``
Observe = Callable[[int, int, dict, str], None]


def unit_of(config: dict) -> str:
    """What the rows of a run's curve are counted in: ``epoch``, or ``step`` of the optimiser.

    >>> unit_of({"trainer": {"max_epochs": 3}}), unit_of({"trainer": {"every_n_train_steps": 50}})
    ('epoch', 'step')
    """
    return "epoch" if (config.get("trainer") or {}).get("every_n_train_steps") is None else "step"


def unit_of_all(configs: Iterable[dict]) -> str:
    """The unit in which the curves of several runs can be compared: ``step`` where one of them counts steps. (The rows
    of epochs have their steps, too.)"""
    return "step" if any(unit_of(config) == "step" for config in configs) else "epoch"


class MetricsFile:
    """The rows of metrics.csv."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.rows: list[dict[str, float]] = []

    def load(self) -> MetricsFile:
        """Read the file, if there is one.

        Raises:
            ValueError: the file is cut short, holds something that is no number, or a row without its epoch.
        """
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                text = file.read()
            lines = list(csv.DictReader(io.StringIO(text)))
            if text and not text.endswith("\n") or any(None in row or None in row.values() for row in lines):
                raise ValueError("it is cut short")
            self.rows = [{key: float(value) for key, value in row.items() if value != ""} for row in lines]
        if not all(math.isfinite(row.get("epoch", math.nan)) for row in self.rows):
            raise ValueError("a row has no epoch")
        return self

    def curve(self, metric: str, unit: str = "epoch") -> dict[int, float]:
        """Epoch (from 1) -> a metric, of the rows that have it; or number of optimiser steps done -> the metric.

        Args:
            unit: ``epoch`` or ``step``. Within an epoch several rows may end, so such a curve must be asked by step.
        """
        place = (lambda row: int(row["epoch"]) + 1) if unit == "epoch" else (lambda row: int(row["step"]))
        return {place(row): row[metric] for row in self.rows if metric in row and unit in row}

    def write(self) -> None:
        """Write all rows to the file, atomically. A value that a row lacks is left empty."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({key: int(value) if key in ("epoch", "step") else value for key, value in row.items()})
        write_text(self.path, text.getvalue())
