"""Collects run directories into groups: runs that differ only in the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kdlab.errors import InputError
from kdlab.runs.run import FINISHED, INTERRUPTED, RUNNING, Run

from .labels import described, labels

TEACHER, BASELINE, VARIANT = "teacher", "student baseline", "variant"
NETWORK = "network"  # one of several networks in the runs of a group
ORDER = (TEACHER, BASELINE, VARIANT)


@dataclass
class Group:
    """Runs of one configuration over seeds.

    Args:
        label: what distinguishes it from the others.
        role: teacher, student baseline (no loss uses a teacher or a peer), or variant.
        records: run.json of the finished runs, or a study's records of them.
        unfinished: a line for each unfinished run (begun, failed or interrupted); these are listed, never dropped
            silently.
        runs: the directories of the records, if available: one per record, or none at all.
        config: the flat config of the first run.
    """

    label: str = ""
    role: str = VARIANT
    records: list[dict] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    config: dict = field(default_factory=dict)


def role_of(record: dict) -> str:
    """The role of a run, from its own record: a variant if a teacher or a peer taught it, else a student baseline."""
    return VARIANT if record.get("uses_teacher") or record.get("taught") else BASELINE


def groups(runs: Iterable[Run]) -> tuple[list[Group], list[str]]:
    """The groups, labelled by their differences, with teachers and baselines first; and lines about directories that
    are left out.

    Of each run, run.json and config.yaml are read once.
    """
    found: dict[str, Group] = {}
    left_out: list[str] = []
    seen: dict[str, Path] = {}
    taught: dict[str, list[dict]] = defaultdict(list)
    for run in runs:
        try:
            record, config = run.record, run.config
        except InputError as error:
            left_out.append(f"could not be read: {run.path}: {str(error).splitlines()[0]}")
            continue
        choices = config.get("choices") or {}
        if not isinstance(choices, Mapping) or not isinstance(choices.get("strategy"), (str, type(None))):
            left_out.append(
                f"could not be read: {run.path}: in its config.yaml, choices is {choices!r}, and should name what was "
                "chosen"
            )
            continue
        finished = record["status"] == FINISHED
        if finished and record["hash"] in seen:
            left_out.append(f"the same run as {seen[record['hash']]}, counted once: {run.path}")
            continue
        for teacher in (record.get("teacher") or {}).get("runs", []):
            taught[teacher["hash"]].append(config)
        group = found.setdefault(record["group"], Group(role=role_of(record), config=described(config)))
        if finished:
            seen[record["hash"]] = run.path
            group.records.append(record if record.get("seed") is not None else {**record, "seed": config.get("seed")})
            group.runs.append(run)
        else:
            group.unfinished.append(f"{run.path} ({_why_unfinished(run, record)})")
    result = list(found.values())
    for group in result:
        if any(
            _is_teacher(one, taught[record["hash"]])
            for one, record in zip(group.runs, group.records)
            if record["hash"] in taught
        ):
            group.role = TEACHER
    _label(result)
    return sorted(result, key=lambda group: (ORDER.index(group.role), group.label)), left_out


def _label(found: list[Group]) -> None:
    """Name the groups. Students are named by their differences to other students: a difference to their teacher alone
    would be repeated in every name."""
    students = [group for group in found if group.role != TEACHER]
    for some in (found, students):
        for group, label in zip(some, labels([group.config for group in some])):
            group.label = label
    taken = {group.label for group in students}
    for group in found:
        if group.role == TEACHER and group.label in taken:
            group.label += "  (teacher)"


def _is_teacher(run: Run, learners: list[dict]) -> bool:
    """Whether a run that taught counts as a teacher in a table. If all its students are the same network on the same
    data, as in born-again networks, it is compared with them and keeps its role."""
    return not all(
        learner["student"] == run.config["student"] and learner["data"] == run.config["data"] for learner in learners
    )


def _why_unfinished(run: Run, record: dict) -> str:
    """Why a run is not finished, in a few words."""
    if record["status"] == RUNNING:
        # asking must not create a folder for locks, since the results are only read
        return (
            RUNNING
            if (run.path.parent / ".locks").is_dir() and run.being_trained
            else "killed, or running on another machine"
        )
    error = str(record.get("error") or "").strip().splitlines()
    return f"{record['status']}: {error[0]}" if error and record["status"] != INTERRUPTED else record["status"]
