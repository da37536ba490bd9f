"""Plan: from composed configs to jobs, all of them checked before the first begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from kdlab.errors import InputError
from kdlab.launch import processes
from kdlab.runs import known

from .job import INTERRUPTED, Job, Need
from .worker import examine

SECONDS_TO_TRY = 20.0  # how long the jobs of a sweep are tried on a few samples before the first of them begins
SECONDS_TO_WAIT = 30.0  # after so long a line says which job is being checked


@dataclass
class Plan:
    """What is to be done: the jobs, how many GPUs there are for them, the names of the numbers that their runs will
    have, and of the networks and ensembles of each (by its hash); these only as far as something is to be trained and
    was tried."""

    jobs: list[Job]
    gpus: int
    metrics: set[str]
    networks: dict[str, list[str]]


@dataclass
class _Answer:
    """What the examination of a job found.

    Args:
        problems: why it is bad input.
        description: as :func:`kdlab.sweep.worker.described` gives it; None where that did not come to its end.
        networks: of its run, where it was tried.
        notes: lines about its data and weights, where it was tried.
        died: how the process died that examined it, where it did.
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
    said: set[str] | None = None,
) -> Plan:
    """The plan of a sweep.

    Finished runs that are known are looked up and nothing more; the others are examined in a warm process, since this
    one has imported nothing heavy. A job that ends that process (out of memory, a library that crashes) is marked as
    one that died, and the others are examined without it: the input was not found bad, so the sweep goes on, and the
    job counts as failed.

    Args:
        labels: what a person knows each job by; default: those of its overrides that are not common to all.
        said: the lines about data and weights that were printed before, and are not printed again; changed.

    Raises:
        InputError: some jobs have problems; nothing was begun. Each problem is named once, with the jobs that have it.
        KeyboardInterrupt: the user's own code raised it.
    """
    labels = list(labels) if labels is not None else labels_of(overrides)
    keys = [known.key_of(config) for config in configs]  # before the hashes, which come from the examination
    found = {
        number: run
        for number, config in enumerate(configs)
        if not config.get("fresh") and (run := known.finished(config, keys[number]))
    }
    rest = [number for number in range(len(configs)) if number not in found]
    answers = dict(zip(rest, _examined([configs[number] for number in rest], [labels[number] for number in rest])))
    _refuse(answers, labels)
    said = set() if said is None else said
    for line in [line for answer in answers.values() for line in answer.notes]:
        if line not in said:
            print(line)  # what the jobs print goes to files
            said.add(line)
    jobs = []
    for number, config in enumerate(configs):
        if number in found:
            jobs.append(Job(labels[number], list(overrides[number]), config, found[number].hash, number=number + 1))
        else:
            answer = answers[number]
            # no hash where the job died before that was known: it is the run of nothing else
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
    told = [answer.description for answer in answers.values() if answer.description is not None]
    return Plan(
        jobs,
        max((one["gpus"] for one in told), default=0),
        set().union(*(one["metrics"] for one in told)),
        {answer.description["digest"]: answer.networks for answer in answers.values() if answer.networks},
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
        _job(theirs, told, name, theirs["overrides"], role=their_role)
        for their_role, name, theirs, told in description["earlier"]
    ]
    return Job(
        label, overrides, config, description["digest"], description["need"], earlier, number, key, role, died=died
    )


def labels_of(overrides: Sequence[Sequence[str]]) -> list[str]:
    """For each job the overrides that are not common to all."""
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(text for text in job if text not in common) or "the run" for job in overrides]


def _examined(configs: Sequence[dict], labels: Sequence[str]) -> list[_Answer]:
    """What is found of each config, in their order. Where the process dies, another takes up the rest, beginning with
    the job that was being examined; that job is given up only if it is the first in its process, so that nothing that
    others left there is taken for its own."""
    answers: list[_Answer] = []
    began = time.monotonic()
    while len(answers) < len(configs):
        done = len(answers)
        tried = {answer.description["group"]: (answer.networks, answer.notes) for answer in answers if answer.networks}
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
    """Examine configs in one process and add what is found to ``answers``. Where it dies: the description of the job
    that it was at, as far as it came, and how it died."""
    line, far_end = processes.context().Pipe()
    process = processes.start(examine, list(configs), tried, seconds, far_end, name="examine")
    far_end.close()
    description = None
    try:
        for label in labels:
            description = None
            description = _heard(line, label)
            problems, networks, notes = _heard(line, label)
            answers.append(_Answer(problems, description, networks, notes))
        return None, ""
    except (EOFError, OSError):
        process.join(timeout=15)
        return description, processes.cause_of_death(process)
    finally:
        processes.stop([process])


def _heard(line, label: str):
    if not line.poll(SECONDS_TO_WAIT):
        print(f"still checking {label}", flush=True)
    said = line.recv()
    if said == INTERRUPTED:
        raise KeyboardInterrupt
    return said


def _refuse(answers: dict[int, _Answer], labels: list[str]) -> None:
    """Raises InputError where jobs have problems: each problem once, after it the jobs that have it; those that died
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
    raise InputError(
        *texts,
        advice=""
        if len(labels) == 1
        else f"{bad} of the {len(labels)} jobs cannot be run as they are, so none was begun",
    )


def _several(labels: list[str]) -> str:
    shown = "; ".join(labels[:2])
    return shown if len(labels) <= 2 else f"{shown} and {len(labels) - 2} more jobs"
