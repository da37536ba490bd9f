"""Plan: from composed configs to jobs, all of them checked before the first begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdlab.errors import InputError
from kdlab.runs import known, processes

from .job import Job
from .worker import examine


@dataclass
class Plan:
    """What is to be done: the jobs, how many GPUs there are for them, the names of the numbers that their runs will have, and of the networks and
    ensembles of each (by its hash); these only as far as something is to be trained and was tried."""

    jobs: list[Job]
    gpus: int
    metrics: set[str]
    networks: dict[str, list[str]]


def plan(overrides: Sequence[Sequence[str]], configs: Sequence[dict], labels: Sequence[str] | None = None) -> Plan:
    """The plan of a sweep.

    Finished runs that are known are looked up and nothing more; the others are examined in a warm process, since this one has
    imported nothing heavy.

    Args:
        labels: what a person knows each job by; default: those of its overrides that are not common to all.

    Raises:
        InputError: some jobs have problems; nothing was begun. Each problem is named once, with the jobs that have it.
    """
    labels = list(labels) if labels is not None else _labels(overrides)
    keys = [known.key_of(config) for config in configs]         # before the hashes, which come from the examination
    found = {number: run for number, config in enumerate(configs) if not config.get("fresh") and (run := known.finished(config, keys[number]))}
    rest = [number for number in range(len(configs)) if number not in found]
    answers = dict(zip(rest, _examined([configs[number] for number in rest])))
    _refuse(answers, labels)
    for line in dict.fromkeys(line for _, description in answers.values() for line in description["notes"]):
        print(line)         # what the jobs print goes to files
    jobs = []
    for number, config in enumerate(configs):
        if number in found:
            jobs.append(Job(labels[number], list(overrides[number]), config, found[number].hash, number=number + 1))
        else:
            jobs.append(_job(config, answers[number][1], labels[number], list(overrides[number]), number + 1, keys[number]))
    told = [description for _, description in answers.values()]
    return Plan(jobs, max((one["gpus"] for one in told), default=0), set().union(*(one["metrics"] for one in told)),
                {one["digest"]: one["networks"] for one in told if one["networks"]})


def _job(config: dict, description: dict, label: str, overrides: list[str], number: int | None = None, key: str | None = None,
         role: str = "teacher") -> Job:
    earlier = [_job(theirs, told, name, theirs["overrides"], role=their_role) for their_role, name, theirs, told in description["earlier"]]
    return Job(label, overrides, config, description["digest"], description["need"], earlier, number, key, role)


def _labels(overrides: Sequence[Sequence[str]]) -> list[str]:
    """For each job the overrides that are not common to all."""
    common = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(text for text in job if text not in common) or "the run" for job in overrides]


def _examined(configs: list[dict]) -> list[tuple[list[str], dict]]:
    if not configs:
        return []
    line, far_end = processes.context().Pipe()
    process = processes.start(examine, configs, far_end, name="examine")
    far_end.close()
    try:
        return line.recv()
    except EOFError:
        raise RuntimeError("the process that checks the jobs of the sweep has died; its output is above") from None
    finally:
        processes.stop([process])


def _refuse(answers: dict[int, tuple[list[str], dict]], labels: list[str]) -> None:
    """Raises InputError where jobs have problems: each problem once, behind it whose it is."""
    whose: dict[str, list[str]] = {}
    for number, (problems, _) in answers.items():
        for problem in problems:
            whose.setdefault(problem, []).append(labels[number])
    if not whose:
        return
    bad = sum(bool(problems) for problems, _ in answers.values())
    texts = [problem if len(of) == len(labels) else f"{problem} [in {_several(of)}]" for problem, of in whose.items()]
    raise InputError(*texts, advice="" if len(labels) == 1 else f"{bad} of the {len(labels)} jobs cannot be run as they are, so none was begun")


def _several(labels: list[str]) -> str:
    shown = "; ".join(labels[:2])
    return shown if len(labels) <= 2 else f"{shown} and {len(labels) - 2} more jobs"
