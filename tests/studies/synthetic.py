"""A study and records that nobody trained: as much of them as expectations and reruns read."""

from pathlib import Path

from kdlab.studies.study import Expectation, Row, Study, StudyTable

SEEDS = (1, 2, 3, 4, 5)


def study(rows, expected=(), levels=(), baseline=None) -> Study:
    """One table, ``t``, of rows of five seeds."""
    table = StudyTable(
        "t", "A table", tuple(Row(name, (f"student={name}",), SEEDS) for name in rows), baseline=baseline
    )
    return Study(
        Path("nowhere"), "synthetic", "A study", "full", (table,), expected=tuple(expected), levels=tuple(levels)
    )


def expect(row, **what) -> Expectation:
    return Expectation("t", row, **what)


def records(**rows) -> list[dict]:
    """Of rows' accuracies by seed, from 1 on."""
    return [
        {
            "rows": [["t", name]],
            "hash": f"{name}-{seed}",
            "group": name,
            "status": "finished",
            "seed": seed,
            "overrides": [f"student={name}", f"seed={seed}"],
            "metrics": {"test/accuracy": value},
            "class_recall": {"": {}},
            "durations": {},
            "config": "",
            "weights": {},
        }
        for name, values in rows.items()
        for seed, value in enumerate(values, start=1)
    ]
