"""Checks whether a study's files in git are consistent: configs, records, curves, README, expectations. Nothing is
trained."""

from __future__ import annotations

from collections.abc import Sequence

from kdlab.errors import InputError
from kdlab.runs.run import FINISHED

from . import curves, results
from .digest import config_digest
from .expectations import HOLDS, findings, levels
from .names import unknown_names
from .records import FILE, RERUN, read_records, tasks_of, view_of
from .study import Row, Study, StudyTable
from .training import composed


def check(study: Study, compose: bool = True) -> list[str]:
    """All problems, one line each.

    - every record belongs to the rows that it names, which are in study.yaml with its overrides and seed;
    - every row and seed of study.yaml has a record;
    - the README's tables are what the records and study.yaml generate, character by character; curves.csv has the rows
      that study.yaml names;
    - every expectation holds or is explained;
    - a rerun in git has the same runs;
    - the first seed of every row, composed now, has the config of the record (:func:`config_digest`), or at least its
      hash. If an experiment, a choice or a default has changed, the results belong to another study.

    A study without results is correct as long as its README shows none.

    Args:
        compose: whether to do the last of these, which takes a quarter of a second per row.
    """
    try:
        records = read_records(study.results)
        study = study.with_headlines(tasks_of(records))
        problems = [*_records(study, records), *_rerun(study, records), *(_configs(study, records) if compose else [])]
        if not problems:  # no README parts are generated from inconsistent records
            problems = [
                *(curves.check(study, _finished(records)) if records else []),
                *results.differing(study, records),
                *(_expected(study, records) if records else []),
            ]
        return problems
    except InputError as error:
        return list(error.problems)


def _records(study: Study, records: Sequence[dict]) -> list[str]:
    path, problems = study.results / "runs.jsonl", []
    wanted = {
        (table.name, row.name, seed): (table, row) for table in study.tables for row in table.rows for seed in row.seeds
    }
    seen = set()
    for record in records:
        for table_name, row_name in record["rows"]:
            place = (table_name, row_name, record["seed"])
            if place in seen:
                problems.append(
                    f"{path}: table '{table_name}', row '{row_name}', seed {record['seed']} is there several times; "
                    f"remove the wrong lines, or write the file again with kdlab reproduce {study.command} --write"
                )
            seen.add(place)
            where = f"{path}: run {record['hash']} (table '{table_name}', row '{row_name}', seed {record['seed']})"
            if place not in wanted:
                problems.append(f"{where}: study.yaml has no such row and seed")
                continue
            _, row = wanted[place]
            if not _asked(record, row):
                problems.append(
                    f"{where} was trained with {' '.join(record['overrides'])}, but study.yaml has "
                    f"{' '.join(row.run_overrides(record['seed']))}"
                )
            elif record["status"] == FINISHED and view_of(row) not in record["class_recall"]:
                problems.append(
                    f"{where}: the record does not have the row's {view_of(row)}; kdlab reproduce {study.command} "
                    "--write writes it"
                )
    lacking = [place for place in wanted if place not in seen] if records else []
    problems += [
        (
            f"{path}: table '{table}', row '{row}', seed {seed} is missing; kdlab reproduce {study.command} --write "
            "trains it"
        )
        for table, row, seed in lacking
    ]
    return problems


def _rerun(study: Study, records: Sequence[dict]) -> list[str]:
    """Problems of a rerun in git: every run must be that of the same row and seed."""
    path = study.results / RERUN
    known = {(*place, record["seed"]): record["hash"] for record in records for place in record["rows"]}
    return [
        f"{path}: run {record['hash']} (table '{table}', row '{row}', seed {record['seed']}) is not the run of that "
        f"row and seed in {FILE}; remove the file, or let kdlab reproduce {study.command} --keep write it from a rerun "
        "of what is there now"
        for record in results.kept_rerun(study)
        for table, row in record["rows"]
        if known.get((table, row, record["seed"])) != record["hash"]
    ]


def _finished(records: Sequence[dict]) -> set[str]:
    return {name for record in records if record["status"] == FINISHED for _, name in record["rows"]}


def _asked(record: dict, row: Row) -> bool:
    """Whether a row's overrides ask for a run. Other overrides may give the same run; then the record has those too."""
    asked = list(row.run_overrides(record["seed"]))
    return asked == record["overrides"] or asked in record.get("also", [])


def _configs(study: Study, records: Sequence[dict]) -> list[str]:
    """Problems where the first run of a row is no longer the run of the record."""
    first: dict[tuple[str, ...], tuple[StudyTable, Row, dict]] = {}
    for table in study.tables:
        for row in table.rows:
            record = next(
                (
                    record
                    for record in records
                    if [table.name, row.name] in record["rows"] and record["seed"] == row.seeds[0]
                ),
                None,
            )
            if record is not None:
                first.setdefault(row.run_overrides(row.seeds[0]), (table, row, record))
    configs = composed(list(first))
    problems = unknown_names(study, dict(zip(first, configs))) if configs else []
    for config, (table, row, record) in zip(configs, first.values()):
        if config_digest(config) != record["config"] and _hash(config) != record["hash"]:
            problems.append(
                f"{study.results / 'runs.jsonl'}: table '{table.name}', row '{row.name}': its config is no longer that "
                f"of run {record['hash']}: conf/ or study.yaml has changed since; kdlab reproduce {study.command} "
                "--write trains it again"
            )
    return problems


def _hash(config: dict) -> str:
    """The run's hash, which is exact but imports the classes that the config names."""
    from kdlab.runs.identity import run_hash

    return run_hash(config)


def _expected(study: Study, records: Sequence[dict]) -> list[str]:
    problems = []
    for one in (*findings(study, records), *levels(study, records)):
        what = (
            f"{study.folder / 'study.yaml'}: {one.claim} (row '{one.expectation.row}', {one.expected}, found "
            f"{one.found or 'nothing'})"
        )
        if not one.accepted:
            problems.append(f"{what}: {one.why}")
        elif one.verdict == HOLDS and one.expectation.explained:
            problems.append(f"{what} holds, so 'explained' explains nothing")
    return problems
