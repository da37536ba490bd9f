"""How far studies are here: which of their runs are finished below a folder."""

from __future__ import annotations

from collections.abc import Iterable

from kdlab.errors import InputError
from kdlab.runs.run import FINISHED, find_runs

from .study import Study
from .training import FREE


def finished_overrides(folder: str) -> set[frozenset[str]]:
    """The overrides of every finished run in or below a folder, without those that change no result."""
    found = set()
    for run in find_runs([folder]):
        try:
            record = run.record
        except InputError:
            continue
        overrides = record.get("overrides")
        if record["status"] == FINISHED and isinstance(overrides, list) and all(isinstance(text, str) for text in overrides):
            found.add(frozenset(text for text in overrides if text.lstrip("+").partition("=")[0] not in FREE))
    return found


def count(study: Study, finished: Iterable[frozenset[str]] | None = None) -> int:
    """How many runs a study has, or how many of them are among the finished ones.

    Args:
        finished: of :func:`finished_overrides`. This is a glance, which composes nothing and so does not see that a config has changed since.
    """
    runs = {frozenset(texts) for texts in study.run_overrides()}
    return len(runs if finished is None else runs & set(finished))
