"""The progress of studies: which of their runs are finished below a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kdlab.errors import InputError
from kdlab.runs.run import FINISHED, find_runs

from .records import FILE, read_records
from .study import Study
from .training import FREE

Wording = frozenset[str]  # the overrides of a run, in any order


@dataclass
class Finished:
    """The finished runs below a folder.

    Args:
        hashes: those of the runs.
        wordings: the overrides that they were trained with, without those that do not change the result -> hash.
        others: other overrides that, according to reproductions below the folder, give the same run -> its hash.
    """

    hashes: set[str] = field(default_factory=set)
    wordings: dict[Wording, str] = field(default_factory=dict)
    others: dict[Wording, str] = field(default_factory=dict)


def finished_runs(folder: str) -> Finished:
    """The finished runs in or below a folder."""
    found = Finished()
    for run in find_runs([folder]):
        try:
            record = run.record
        except InputError:
            continue
        overrides = record.get("overrides")
        if (
            record["status"] == FINISHED
            and isinstance(overrides, list)
            and all(isinstance(text, str) for text in overrides)
        ):
            found.hashes.add(record["hash"])
            found.wordings[frozenset(text for text in overrides if text.lstrip("+").partition("=")[0] not in FREE)] = (
                record["hash"]
            )
    for path in Path(folder).rglob(f"reproduced/{FILE}"):
        found.others |= dict(_wordings(path.parent))
    return found


def _wordings(results: Path) -> Iterator[tuple[Wording, str]]:
    """All overrides that give the runs in a results folder. Empty where it cannot be read; ``kdlab reproduce`` reports
    that."""
    try:
        for record in read_records(results):
            yield from ((frozenset(texts), record["hash"]) for texts in (record["overrides"], *record.get("also", [])))
    except InputError:
        return


def counts(study: Study, finished: Finished) -> tuple[int, int]:
    """How many runs a study has, and how many of them are among the finished ones.

    Rows with other overrides may give the same run. It counts once if the study's records show this. No config is
    composed, so later changes of a config are not noticed.
    """
    hashes = dict(_wordings(study.results)) | finished.others
    runs, done = set(), set()
    for wording in map(frozenset, study.run_overrides()):
        digest = hashes.get(wording) or finished.wordings.get(wording)
        runs.add(digest or wording)
        if digest in finished.hashes or wording in finished.wordings:
            done.add(digest)
    return len(runs), len(done)
