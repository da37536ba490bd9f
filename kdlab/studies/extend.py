"""``kdlab reproduce STUDY --extend``: keeps the runs that the results in git have. Only the others are trained."""

from __future__ import annotations

from collections.abc import Mapping

from kdlab.runs.run import FINISHED

from .curves import kept_curves
from .records import read_records, view_of
from .study import Row, Study
from .training import Configs


def kept_runs(study: Study, configs: Configs) -> dict[tuple[str, ...], dict]:
    """The records in git of the runs that need not be trained, by the runs' overrides.

    A record is kept if its hash is that of the run's config and data, and if it has what every row shows of the run. A
    row's curve in git is the mean of its runs, so it is kept for all of them or for none.
    """
    from kdlab.runs.identity import run_hash

    finished = {record["hash"]: record for record in read_records(study.results) if record["status"] == FINISHED}
    found: dict[tuple[str, ...], dict] = {}
    for texts, config in configs.items():
        record = finished.get(run_hash(config))
        if record is not None and all(view_of(row) in record["class_recall"] for row in _rows(study, texts)):
            found[texts] = record
    curves = kept_curves(study)
    while partly := [
        row for row in study.rows_of_curves() if len(_kept(row, found)) not in (0, len(curves.get(row.name, [])))
    ]:
        for row in partly:  # a run of two rows is dropped from both
            for texts in _kept(row, found):
                del found[texts]
    return found


def _rows(study: Study, texts: tuple[str, ...]) -> list[Row]:
    """The rows that show a run."""
    return [
        row for table in study.tables for row in table.rows for seed in row.seeds if row.run_overrides(seed) == texts
    ]


def _kept(row: Row, found: Mapping[tuple[str, ...], dict]) -> list[tuple[str, ...]]:
    """The overrides of a row's runs that are kept."""
    return [texts for seed in row.seeds if (texts := row.run_overrides(seed)) in found]
