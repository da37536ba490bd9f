"""results/runs.jsonl: one line per run. It holds the content of run.json without paths and times of one machine, and
values from the predictions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdlab.errors import InputError
from kdlab.runs.files import finite, write_text
from kdlab.runs.networks import kept_name
from kdlab.runs.run import FINISHED, Run
from kdlab.runs.schema import problem
from kdlab.tasks.metric import Report

from .digest import config_digest
from .study import Row, Study
from .training import Trained

FILE, RERUN = "runs.jsonl", "rerun.jsonl"
# keys of run.json, in this order; its other keys depend on the machine, or are in the study
KEPT = (
    "hash",
    "group",
    "status",
    "task",
    "seed",
    "overrides",
    "choices",
    "threads",
    "weights",
    "uses_teacher",
    "taught",
    "metrics",
    "networks",
    "kept",
    "parameters",
    "trainable_parameters",
    "network_parameters",
    "flops",
    "checkpoint_bytes",
    "teacher",
    "durations",
    "teacher_share",
    "peak_memory_bytes",
    "peak_memory_of",
    "versions",
    "code",
    "hardware",
)
TEACHER = ("name", "terms", "column", "rows", "members", "test", "parameters", "runs")
TEACHERS_RUN = ("hash", "metrics", "parameters", "durations")
HARDWARE = ("machine", "processor", "model", "vector", "capability", "cores", "gpus", "cuda")


def gathered(study: Study, trained: Mapping[tuple[str, ...], Trained]) -> list[dict]:
    """A record of every run of a study, in the order of the study's rows. A run of several rows has one record, which
    names them all."""
    found: dict[str, dict] = {}
    for table in study.tables:
        for row in table.rows:
            for seed in row.seeds:
                one = trained[row.run_overrides(seed)]
                if one.digest not in found:
                    found[one.digest] = (
                        _kept_record(one.kept, row.run_overrides(seed))
                        if one.kept
                        else record_of(one, row.run_overrides(seed))
                    )
                record, asked = found[one.digest], list(row.run_overrides(seed))
                record["rows"].append([table.name, row.name])
                if asked not in [record["overrides"], *record.get("also", [])]:
                    record["also"] = [*record.get("also", []), asked]  # the same run from other overrides
                if record["status"] == FINISHED and not one.kept:
                    record.update(_scores(one.run, record, row))
    return list(found.values())


def _kept_record(record: dict, overrides: Iterable[str]) -> dict:
    """A record in git, without the rows and overrides that it had there."""
    kept = {key: value for key, value in record.items() if key != "also"}
    return {**kept, "rows": [], "overrides": list(overrides)}


def record_of(one: Trained, overrides: Iterable[str]) -> dict:
    """The record of a run; for an unfinished run, the known part. ``rows`` is filled later."""
    begun = (one.run.path / "run.json").exists()
    record = one.run.record if begun else {"status": "not started", "seed": one.config["seed"]}
    record = {**record, "hash": one.digest, "overrides": list(overrides)}
    kept = {key: record[key] for key in KEPT if record.get(key) is not None}
    if "teacher" in kept:
        kept["teacher"] = _teacher(kept["teacher"])
    if "hardware" in kept:
        kept["hardware"] = {key: kept["hardware"].get(key) for key in HARDWARE if key in kept["hardware"]}
    if kept["status"] != FINISHED:
        kept["error"] = (str(record.get("error") or one.message).strip().splitlines() or [""])[-1]
    return {"rows": [], "config": config_digest(one.config), **kept}


def _teacher(teacher: dict) -> dict:
    """The teacher's entry in a record, without the place of its run."""
    kept = {key: teacher[key] for key in TEACHER if teacher.get(key) is not None}
    if "members" in kept:
        kept["members"] = {name: _teacher(member) for name, member in kept["members"].items()}
    kept["runs"] = [{key: run[key] for key in TEACHERS_RUN if key in run} for run in kept.get("runs", [])]
    return kept


# -- what the predictions give -----------------------------------------------------------------------------------------


def view_of(row: Row) -> str:
    """The part of a run's predictions that a row shows, as a key of the record: network and bias.

    >>> view_of(Row("a", (), (1,))), view_of(Row("a", (), (1,), {3: 2.0}, "peer2"))
    ('', 'network=peer2 bias 3=2')
    """
    parts = [f"network={row.network}"] if row.network else []
    return " ".join(parts + [f"bias {number}={amount:g}" for number, amount in sorted(row.bias.items())])


def _scores(run: Run, record: dict, row: Row) -> dict:
    """Entries for the record of a row's run: the recall of every class and, if the row has a bias, the metrics with it.

    Raises:
        InputError: a run has no such network, no predictions, or no such class.
    """
    from kdlab.tasks import task_of

    view = view_of(row)
    if view in record.get("class_recall", {}):
        return {}
    metrics: dict[str, float] = {}
    recall: dict = {}
    task = task_of(run.config)
    if Report.of(record).answers != "classes" or not task.keeps_logits:
        if row.bias:
            raise InputError(f"row '{row.name}': bias: task={task.name} keeps no logits of classes; leave it out")
        metrics = _of_network(record, row)
        return _entries(record, view, recall, metrics)
    predictions = run.predictions()
    for which in [which for which in ("last", "best") if which in predictions]:
        network = row.network or kept_name(record, which)
        name = which if network == kept_name(record, which) else f"{which}.{network}"
        if name not in predictions:
            known = [
                kept_name(record, which),
                *(key.partition(".")[2] for key in predictions if key.startswith(f"{which}.")),
            ]
            raise InputError(
                f"row '{row.name}': its runs have no network '{network}' (they have {', '.join(dict.fromkeys(known))})"
            )
        logits, target = predictions[name].clone(), predictions["target"]
        for number, amount in row.bias.items():
            if number >= logits.shape[-1]:
                raise InputError(
                    f"row '{row.name}': bias: there is no class {number}; the classes are 0 to {logits.shape[-1] - 1}"
                )
            logits[:, number] += amount
        suffix = "" if which == "last" else "_best"
        if view:
            metrics |= {f"test/{key}{suffix}": value for key, value in task.score(logits, target).items()}
        right = logits.argmax(-1) == target
        recall[which] = [
            float(right[target == number].double().mean()) if bool((target == number).any()) else None
            for number in range(logits.shape[-1])
        ]
    return _entries(record, view, recall, metrics)


def _of_network(record: dict, row: Row) -> dict[str, float]:
    """The metrics on test of a row's network, from the run's record."""
    networks = record.get("networks") or {kept_name(record): record["metrics"]}
    if row.network is not None and row.network not in networks:
        raise InputError(
            f"row '{row.name}': its runs have no network '{row.network}' (they have {', '.join(networks)})"
        )
    scores = networks[row.network or kept_name(record)]
    return {key: value for key, value in scores.items() if key.startswith("test/")}


def _entries(record: dict, view: str, recall: dict, metrics: dict[str, float]) -> dict:
    entries = {"class_recall": {**record.get("class_recall", {}), view: recall}}
    if view:
        entries["views"] = {**record.get("views", {}), view: metrics}
    return entries


def tasks_of(records: Iterable[Mapping]) -> dict[tuple[str, ...], Report]:
    """The report of each finished run, by its overrides: for :meth:`Study.with_headlines`."""
    return {
        tuple(texts): Report.of(record)
        for record in records
        if record["status"] == FINISHED
        for texts in (record["overrides"], *record.get("also", []))
    }


def row_record(record: dict, row: Row) -> dict:
    """A run's record for a row: with the metrics of the row's network and bias, and with ``test/class_0``,
    ``test/class_1`` and so on."""
    if record["status"] != FINISHED:
        return record
    view = view_of(row)
    if view not in record["class_recall"] or view and view not in record.get("views", {}):
        raise InputError(
            f"run {record['hash']} (row '{row.name}', seed {record['seed']}): the record does not have the row's "
            f"{view or 'own numbers'}; kdlab reproduce STUDY --write writes it"
        )
    metrics = dict(record["metrics"])
    if view:
        metrics = {key: value for key, value in metrics.items() if not key.startswith("test/")} | record["views"][view]
    for which, values in record["class_recall"][view].items():
        suffix = "" if which == "last" else "_best"
        metrics |= {f"test/class_{number}{suffix}": value for number, value in enumerate(values) if value is not None}
    result = {**record, "metrics": metrics}
    if row.network:
        result.update(networks={}, parameters=(record.get("network_parameters") or {}).get(row.network))
        result.pop("kept", None)
        if row.network != kept_name(record):  # these entries belong to the network that the run keeps, not to this one
            for key in ("flops", "checkpoint_bytes"):
                result.pop(key, None)
    return result


# -- the file ----------------------------------------------------------------------------------------------------------


def write_records(folder: Path, records: Iterable[dict], file: str = FILE) -> Path:
    """Write runs.jsonl, or the file of a rerun. Each run is one line, so a changed run changes one line."""
    write_text(
        folder / file,
        "".join(json.dumps(finite(record), allow_nan=False, ensure_ascii=False) + "\n" for record in records),
    )
    return folder / file


def _is_record(record: Any) -> bool:
    if problem(record, ("rows", "hash", "status", "seed", "overrides", "config")):
        return False
    rows, wordings = (
        record["rows"],
        [record["overrides"], *also] if isinstance(also := record.get("also", []), list) else [None],
    )
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in wordings):
        return False
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == 2 and all(isinstance(name, str) for name in row) for row in rows
    ):
        return False
    return record["status"] != FINISHED or all(
        isinstance(record.get(key), dict) for key in ("metrics", "class_recall", "durations")
    )


def read_records(folder: Path, file: str = FILE) -> list[dict]:
    """The records of a results folder, or of its rerun; none where there is no file.

    Raises:
        InputError: a line is no record.
    """
    path = folder / file
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            records.append(record)
            if not _is_record(record):
                raise ValueError("it is no record of a run")
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: {error}; move the file away, and kdlab reproduce STUDY --write writes it again"
            ) from error
    return records
