"""metrics.csv: one row an epoch, rewritten whole, so that it is never torn and can be cut back to a checkpoint."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from .files import write_text


class MetricsFile:
    """The rows of metrics.csv."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.rows: list[dict[str, float]] = []

    def load(self, before_epoch: int | None = None) -> MetricsFile:
        """Read what is there, keeping only epochs before the given one (what a resumed run repeats)."""
        self.rows = []
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    values = {key: float(value) for key, value in row.items() if key and value not in ("", None)}
                    if "epoch" in values and (before_epoch is None or values["epoch"] < before_epoch):
                        self.rows.append(values)
        return self

    def append(self, row: dict[str, float]) -> None:
        """Add a row and write the file."""
        self.rows.append(row)
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({key: int(value) if key in ("epoch", "step") else value for key, value in row.items()})
        write_text(self.path, text.getvalue())
