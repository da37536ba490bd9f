"""The tables of a study, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kdlab.compare.baseline import NO_BASELINE
from kdlab.compare.collect import BASELINE, TEACHER, VARIANT, Group, role_of
from kdlab.compare.records import tested
from kdlab.compare.table import Table, table_of
from kdlab.runs.record import commit_in_words, machine_in_words
from kdlab.runs.run import FINISHED

from .records import row_record
from .study import Row, Study, StudyTable


def groups(table: StudyTable, records: Sequence[dict]) -> list[Group]:
    """A group for each row, in order. A row is a teacher if a network of another size in the table learned from its
    run, unless it is the baseline."""
    own = {
        row.name: [row_record(record, row) for record in records if [table.name, row.name] in record["rows"]]
        for row in table.rows
    }
    taught = {
        run["hash"]
        for record in records
        if any(name == table.name for name, _ in record["rows"])
        for run in (record.get("teacher") or {}).get("runs", [])
        if run.get("parameters") != record.get("parameters")
    }
    found = []
    for row in table.rows:
        finished = [record for record in own[row.name] if record["status"] == FINISHED]
        role = VARIANT if VARIANT in map(role_of, finished) else BASELINE
        role = TEACHER if row.name != table.baseline and any(record["hash"] in taught for record in finished) else role
        config = dict(text.lstrip("+").partition("=")[::2] for text in row.overrides)
        data = (finished[0].get("choices") or {}).get("data") if finished else None
        if data:  # an experiment may have chosen them
            config["data"] = data
        found.append(Group(label=row.name, role=role, records=finished, config=config))
    return found


def missing(table: StudyTable, records: Sequence[dict]) -> list[str]:
    """A line for every row and seed that has no finished run."""
    return [f"not in the table: {row.name}, seed {seed}: {why}" for row, seed, why in _missing(table, records)]


def _missing(table: StudyTable, records: Sequence[dict]) -> Iterator[tuple[Row, int, str]]:
    for row in table.rows:
        own = {record["seed"]: record for record in records if [table.name, row.name] in record["rows"]}
        for seed in row.seeds:
            record = own.get(seed, {"status": "not run"})
            if record["status"] != FINISHED:
                yield row, seed, ": ".join(filter(None, [record["status"], record.get("error")]))


def table(one: StudyTable, records: Sequence[dict]) -> Table:
    """The table, with lines about the runs that are not in it.

    Raises:
        InputError: no run is finished, or none has the metric.
    """
    found, notes = groups(one, records), missing(one, records)
    if one.baseline is None or any(group.label == one.baseline and group.records for group in found):
        return table_of(found, one.metric, one.baseline, notes, one.further, strict=False)
    without = table_of(found, one.metric, NO_BASELINE, notes, one.further, strict=False)
    without.notes.append(f"no differences: the baseline, '{one.baseline}', has no finished run")
    return without


def any_finished(one: StudyTable, records: Sequence[dict]) -> bool:
    """Whether some finished run has the table's metric, so that the table can be made."""
    return any(tested(record, one.metric) is not None for group in groups(one, records) for record in group.records)


def block(study: Study, one: StudyTable, records: Sequence[dict]) -> str:
    """The generated part of the README for a table: its description and origin, then the table."""
    own = [
        record
        for record in records
        if any(name == one.name for name, _ in record["rows"]) and record["status"] == FINISHED
    ]
    scale = study.scale.rstrip(".")
    head = [f"**{one.title}.** {scale[:1].upper()}{scale[1:]}. {origin(own)}"]
    return "\n\n".join([*head, table(one, records).markdown().strip()])


def origin(records: Sequence[dict]) -> str:
    """The number of runs, the duration of their training, the machines, and the code.

    Teachers that were trained for them count too, each once.
    """
    seconds = {record["hash"]: record["durations"].get("train_seconds", 0.0) for record in records}
    for record in records:
        for run in (record.get("teacher") or {}).get("runs", []):
            seconds.setdefault(run["hash"], run.get("durations", {}).get("train_seconds", 0.0))
    machines = dict.fromkeys(_machine(record) for record in records)
    commits = dict.fromkeys(commit_in_words(record.get("code") or {}, 8) for record in records)
    runs = f"{len(seconds)} run{'s' if len(seconds) != 1 else ''}"
    return (
        f"{runs}, {_duration(sum(seconds.values()))} of training ({'; '.join(filter(None, machines))}), "
        f"{' and '.join(filter(None, commits))}."
    )


def _machine(record: dict) -> str:
    machine, threads = record.get("hardware") or {}, record.get("threads")
    by_threads = f"{threads} thread{'s' if threads > 1 else ''} a run" if threads and not machine.get("gpus") else ""
    return ", ".join(filter(None, [machine_in_words(machine), by_threads]))


def _duration(seconds: float) -> str:
    """A duration in words.

    >>> _duration(725.2), _duration(59.6), _duration(7205)
    ('12 min 5 s', '1 min 0 s', '2 h 0 min')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
