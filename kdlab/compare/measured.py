"""The measurements of groups of runs, as far as they can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kdlab.runs.measurements import machine_name, read

from .collect import Group


def measurements_of(groups: Sequence[Group]) -> tuple[dict[Path, dict], list[str]]:
    """The comparable measurements of runs, and lines about them.

    Only runs with the most frequent machine, number of threads and largest batch are included, since times of two
    machines cannot be compared. The lines name the machine, and what is left out, missing or damaged."""
    read_of = {run.path: read(run.path) for group in groups for run in group.runs}
    found, lines = (
        {path: measured for path, (measured, _) in read_of.items() if measured},
        [wrong for _, wrong in read_of.values() if wrong],
    )
    ways = Counter(map(_way, found.values())).most_common()
    if not ways:
        return {}, lines
    (machine, batch), count = ways[0]
    lines.insert(0, f"times and memory of a forward pass: measured on {machine}, with up to {batch} samples at once")
    if others := len(found) - count:
        lines.append(
            f"measurements of {others} run{'s' if others > 1 else ''} left out: made on another machine, or of another "
            "batch"
        )
    if missing := sum(
        run.path not in found for group in groups for run in group.runs if any(one.path in found for one in group.runs)
    ):
        lines.append(
            f"not measured: {missing} run{'s' if missing > 1 else ''} of rows of which others were; kdlab measure "
            "measures them"
        )
    return {path: measured for path, measured in found.items() if _way(measured) == (machine, batch)}, lines


def _way(measured: dict) -> tuple[str, int]:
    return machine_name(measured), max(map(int, measured["batches"]), default=0)
