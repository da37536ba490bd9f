"""Plan: makes jobs of composed configs, and checks all of them before the first begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from kdlab.errors import InputError
from kdlab.launch import processes
from kdlab.runs import known

from .job import INTERRUPTED, Job, Need
from .sharing import share_answers
from .worker import examine

SECONDS_TO_TRY = 20.0  # seconds for which the jobs of a sweep are tried on a few samples before the first begins
SHOWN = 4  # names of jobs after a problem that they share
SECONDS_TO_WAIT = 30.0  # seconds after which a line names the job that is being checked


@dataclass
class Plan:
    """The jobs of a sweep, the number of GPUs for them, the names of the metrics that their runs will have, and the
    names of each run's networks and ensembles (by its hash). The names are known only for jobs that were tried."""

    jobs: list[Job]
    gpus: int
    metrics: set[str]
    networks: dict[str, list[str]]


@dataclass
class _Answer:
    """The result of the examination of a job.

    Args:
        problems: why it is bad input.
        description: the result of :func:`kdlab.sweep.worker.described`; None where that did not finish.
        networks: those of its run, if it was tried.
        notes: lines about its data and weights, if it was tried.
        died: how the process that examined it died, if it did.
    """

    problems: list[str] = field(default_factory=list)
    description: dict | None = None
    networks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    died: str = ""


def plan(
    overrides: Sequence[Sequence[str]],
    configs: Sequence[dict],
    labels: Sequence[str] | None = None,
    printed: set[str] | None = None,
    more: bool = False,
) -> Plan:
    """The plan of a sweep.

    Known finished runs are only looked up. The others are examined in a warm process, since this one has no heavy
    imports. If a job kills that process (out of memory, a crash in a library), the job is marked as died and counts as
    failed. The other jobs are still examined, and the sweep continues, since the input was not found to be bad.

    Args:
        labels: the names of the jobs for people; default: their overrides that are not common to all.
        printed: lines about data and weights that were already printed and are not repeated; changed in place.

    Raises:
        InputError: some jobs have problems; nothing was begun. Each problem is named once, with the jobs that have it.
        KeyboardInterrupt: the user's own code raised it.
    """
    labels = list(labels) if labels is not None else labels_of(overrides)
    keys = [known.key_of(config) for config in configs]  # before the hashes, which the examination computes
    found = {
        number: run
        for number, config in enumerate(configs)
        if not config.get("fresh") and (run := known.finished(config, keys[number]))
    }
    rest = [number for number in range(len(configs)) if number not in found]
    answers = dict(zip(rest, _examined([configs[number] for number in rest], [labels[number] for number in rest])))
    _refuse(answers, labels)
    jobs = []
    for number, config in enumerate(configs):
        if number in found:
            jobs.append(Job(labels[number], list(overrides[number]), config, found[number].hash, number=number + 1))
        else:
            answer = answers[number]
            # a job that died before its hash was known shares its run with no other job
            description = answer.description or {"digest": f"unknown-{number + 1}", "need": Need(), "earlier": []}
            jobs.append(
                _job(
                    config,
                    description,
                    labels[number],
                    list(overrides[number]),
                    number + 1,
                    keys[number],
                    died=answer.died,
                )
            )
    notes = [line for answer in answers.values() for line in answer.notes]
    notes += share_answers(
        jobs, [answers[one].description if one in answers else None for one in range(len(jobs))], more
    )
    printed = set() if printed is None else printed
    for line in notes:
        if line not in printed:
            print(line)  # what the jobs print goes to files
            printed.add(line)
    descriptions = [answer.description for answer in answers.values() if answer.description is not None]
    return Plan(
        jobs,
        max((one["gpus"] for one in descriptions), default=0),
        set().union(*(one["metrics"] for one in descriptions)),
        {
            answer.description["digest"]: answer.networks
            for answer in answers.values()
            if answer.networks and answer.description is not None
        },
    )


def _job(
    config: dict,
    description: dict,
    label: str,
    overrides: list[str],
    number: int | None = None,
    key: str | None = None,
    role: str = "teacher",
    died: str = "",
) -> Job:
    earlier = [
        _job(theirs, its_description, name, theirs["overrides"], role=their_role)
        for their_role, name, theirs, its_description in description["earlier"]
    ]
    return Job(
        label, overrides, config, description["digest"], description["need"], earlier, number, key, role, died=died
    )


def labels_of(overrides: Sequence[Sequence[str]]) -> list[str]:
    """For each job the overrides that are not common to all."""
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(text for text in job if text not in common) or "the run" for job in overrides]


def _examined(configs: Sequence[dict], labels: Sequence[str]) -> list[_Answer]:
    """The answer for each config, in order. If the process dies, a new one continues with the job that was being
    examined. A job is given up only if it was the first in its process, so that it is not blamed for what earlier jobs
    left there."""
    answers: list[_Answer] = []
    began = time.monotonic()
    while len(answers) < len(configs):
        done = len(answers)
        tried = {
            answer.description["group"]: (answer.networks, answer.notes)
            for answer in answers
            if answer.networks and answer.description is not None
        }
        begun, died = _examine(
            configs[done:], tried, SECONDS_TO_TRY - (time.monotonic() - began), labels[done:], answers
        )
        if died and len(answers) == done:
            answers.append(
                _Answer(description=begun, died=f"{died} while the job was checked; its training was not begun")
            )
    return answers


def _examine(
    configs: Sequence[dict], tried: dict, seconds: float, labels: Sequence[str], answers: list[_Answer]
) -> tuple[dict | None, str]:
    """Examine configs in one process and add the results to ``answers``. If the process dies, returns the description
    of the current job, if there is one, and how it died."""
    line, far_end = processes.context().Pipe()
    process = processes.start(examine, list(configs), tried, seconds, far_end, name="examine")
    far_end.close()
    description = None
    try:
        for label in labels:
            description = None
            description = _received(line, label)
            problems, networks, notes = _received(line, label)
            answers.append(_Answer(problems, description, networks, notes))
        return None, ""
    except (EOFError, OSError):
        process.join(timeout=15)
        return description, processes.cause_of_death(process)
    finally:
        processes.stop([process])


def _received(line: Connection, label: str) -> Any:
    if not line.poll(SECONDS_TO_WAIT):
        print(f"still checking {label}", flush=True)
    message = line.recv()
    if message == INTERRUPTED:
        raise KeyboardInterrupt
    return message


def _refuse(answers: dict[int, _Answer], labels: list[str]) -> None:
    """Raises InputError where jobs have problems: each problem once, followed by the jobs that have it. Jobs that died
    are named too."""
    whose: dict[str, list[str]] = {}
    for number, answer in answers.items():
        for problem in answer.problems:
            whose.setdefault(problem, []).append(labels[number])
    if not whose:
        return
    for number, answer in answers.items():
        if answer.died:
            whose.setdefault(answer.died, []).append(labels[number])
    bad = sum(bool(answer.problems or answer.died) for answer in answers.values())
    texts = [problem if len(of) == len(labels) else f"{problem} [in {_several(of)}]" for problem, of in whose.items()]
    raise InputError(*texts, advice="" if len(labels) == 1 else _advice(bad, len(labels)))


def _advice(bad: int, jobs: int) -> str:
    """What a refused sweep did and what to do now.

    >>> _advice(3, 9)
    'No job was started: 3 of the 9 cannot be run. Correct them or leave them out, then start the sweep again'
    """
    if bad == jobs:
        return f"No job was started: none of the {jobs} can be run. Correct the values, then start the sweep again"
    them = "it" if bad == 1 else "them"
    return (
        f"No job was started: {bad} of the {jobs} cannot be run. Correct {them} or leave {them} out, then start the "
        "sweep again"
    )


def _several(labels: list[str]) -> str:
    more = len(labels) - SHOWN
    return "; ".join(labels[:SHOWN]) + (f" and {more} more job{'s' if more > 1 else ''}" if more > 0 else "")
