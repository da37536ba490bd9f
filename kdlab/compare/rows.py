"""The rows of a table: the numbers of groups, their networks, and the teachers that taught them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdlab.runs.measurements import scalars
from kdlab.runs.networks import kept_in_short
from kdlab.tasks.metric import CLASSIFICATION, Report

from .collect import NETWORK, TEACHER, Group
from .labels import tested_on
from .records import MEASURED, metrics_of, tested
from .statistics import Difference, Interval, interval

# the end of the name of a run or an experiment that holds its seed
_SEED = re.compile(r"(-s\d+| \(seed \d+\))$")


@dataclass
class Row:
    """A group, or one of its networks, in numbers.

    Args:
        last, best: the test metric at the last epoch, and of the checkpoint that was best on validation.
        values: of the last epoch, by seed.
        difference: to the table's baseline.
        teacher: the teacher's metric, the reference of retention and gap.
        retention: the row's metric as a share of the teacher's.
        gap_closed: the share of the way from the baseline to the teacher.
        seconds: of training, the mean of the runs.
        further: other metrics, by name.
        weights: of the losses.
        kept: which of several networks the variant's numbers belong to, and whether it was chosen on validation.
        runs: the hashes of its runs.
        data: the data it was tested on, from the config; None if unknown.
    """

    role: str
    label: str
    last: Interval | None = None
    best: Interval | None = None
    values: dict[int, float] = field(default_factory=dict)
    difference: Difference | None = None
    teacher: float | None = None
    retention: float | None = None
    gap_closed: float | None = None
    parameters: int | None = None
    flops: int | None = None
    seconds: float | None = None
    further: dict[str, Interval] = field(default_factory=dict)
    weights: str = ""
    kept: str = ""
    runs: frozenset[str] = frozenset()
    data: str | None = None


def rows_of(
    groups: Sequence[Group],
    metric: str,
    measurements: Mapping[Path, dict] | None = None,
    report: Report = CLASSIFICATION,
) -> list[Row]:
    """The rows: teachers that are not among the groups, then each group in its order with its networks below it.

    Args:
        measurements: of the runs (:func:`kdlab.compare.measured.measurements_of`).
        report: of the runs' task.
    """
    result = [_teacher(label, records, metric) for label, records in absent_teachers(groups)]
    teachers = _TeacherScores(groups, metric)
    for group in groups:
        if group.records:
            # a share of a loss, or of r2, has no meaning
            score, shared = teachers.of(group), report.is_share(metric)
            own = [
                _row(
                    group.role,
                    group.label,
                    group.records,
                    metric,
                    score,
                    shared,
                    [scalars((measurements or {}).get(run.path, {})) for run in group.runs],
                ),
                *_networks(group, metric, score, shared),
            ]
            result += [replace(row, data=tested_on(group.config)) for row in own]
    return result


def absent_teachers(groups: Sequence[Group]) -> list[tuple[str, list[dict]]]:
    """The teachers that taught and have no group of their own: labels, and their entries in their students' records.
    Teachers of one size whose names differ only in the seed share a label. Where a name means several teachers, those
    that taught the same groups belong together, and the label names the first of these groups."""
    present = {record["hash"] for group in groups for record in group.records}
    taught: dict[str, dict] = {}
    learners: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for teacher in (
            teacher
            for record in group.records
            if record.get("uses_teacher")
            for teacher in _single(record.get("teacher") or {})
        ):
            runs = teacher.get("runs", [])
            if not (runs and {run["hash"] for run in runs} <= present):
                key = " ".join([teacher["name"], *(run["hash"] for run in runs)])
                taught.setdefault(key, teacher)
                if group.label not in learners[key]:
                    learners[key].append(group.label)
    names = [teacher["name"] for teacher in taught.values()]
    alike: dict[tuple, list[str]] = defaultdict(list)
    for key, teacher in taught.items():
        of = () if names.count(teacher["name"]) == 1 else tuple(learners[key])
        alike[_SEED.sub("", teacher["name"]), of, teacher.get("parameters")].append(key)
    result = []
    for (seedless, of, _), keys in alike.items():
        name = taught[keys[0]]["name"]
        if len(keys) > 1:
            label = f"{seedless}, teacher of {of[0]}" if of else seedless
        else:
            label = name if not of else f"{name} {keys[0].split()[-1][:8]}"
        result.append((label, [taught[key] for key in keys]))
    return result


def _teacher(label: str, teachers: Sequence[dict], metric: str) -> Row:
    scores = [teacher.get("test") or {} for teacher in teachers]
    own = [runs[0] if len(runs := teacher.get("runs", [])) == 1 else {} for teacher in teachers]
    seconds = _interval((run.get("durations") or {}).get("train_seconds") for run in own)
    further = {
        name: over
        for name in dict.fromkeys(name for score in scores for name in score)
        if name != metric and (over := _interval(score.get(name) for score in scores))
    }
    return Row(
        TEACHER,
        label,
        _interval(score.get(metric) for score in scores),
        _interval(tested(run, f"{metric}_best") for run in own),
        parameters=teachers[0].get("parameters"),
        seconds=seconds.mean if seconds else None,
        further=further,
    )


def teacher_scores(teachers: Iterable[dict], metric: str) -> list[float]:
    """The test metric of those teachers whose records have it."""
    scores = [(teacher.get("test") or {}).get(metric) for teacher in teachers]
    return [score for score in scores if score is not None]


def _single(teacher: dict) -> list[dict]:
    """The teachers with a score: the one teacher, or the teachers of the loss terms."""
    several = "members" in teacher and "column" not in teacher  # a routed teacher has a score of its own
    return list(teacher["members"].values()) if several else [teacher] if teacher else []


def _networks(group: Group, metric: str, teacher: float | None, shared: bool) -> list[Row]:
    """A row for each network and each ensemble of runs with several networks."""
    having = [record for record in group.records if record.get("networks")]
    return [
        _row(
            NETWORK,
            f"{group.label} · {name}",
            [
                {
                    "hash": record["hash"],
                    "seed": record.get("seed"),
                    "metrics": record["networks"][name],
                    "parameters": (record.get("network_parameters") or {}).get(name),
                }
                for record in having
                if name in record["networks"]
            ],
            metric,
            teacher,
            shared,
        )
        for name in dict.fromkeys(name for record in having for name in record["networks"])
    ]


class _TeacherScores:
    """The reference of a group's retention: the mean of its teachers. Without teachers, the score of the only teacher
    of all other groups on the same data."""

    def __init__(self, groups: Iterable[Group], metric: str):
        self.metric = metric
        self.elsewhere: dict[str, set[float]] = defaultdict(set)
        for group in groups:
            self.elsewhere[repr(group.config.get("data"))] |= set(self._own(group))

    def _own(self, group: Group) -> list[float]:
        return teacher_scores((record.get("teacher") or {} for record in group.records), self.metric)

    def of(self, group: Group) -> float | None:
        own = self._own(group)
        if own:
            return sum(own) / len(own) if len(own) == len(group.records) else None
        if any(record.get("teacher") for record in group.records):
            return None
        shared = self.elsewhere[repr(group.config.get("data"))]
        return next(iter(shared)) if len(shared) == 1 else None


def _row(
    role: str,
    label: str,
    records: Sequence[dict],
    metric: str,
    teacher: float | None,
    shared: bool,
    measured: Sequence[dict] = (),
) -> Row:
    last = _interval(tested(record, metric) for record in records)
    values = {
        record["seed"]: value
        for record in records
        if record.get("seed") is not None and (value := tested(record, metric)) is not None
    }
    names = dict.fromkeys(name for record in records for name in metrics_of(record) if name != metric)
    further = {name: [tested(record, name) for record in records] for name in names}
    further |= {name: [record.get(name) for record in records] for name in MEASURED}
    # memory of a process in some runs, of a GPU in others
    if len({record.get("peak_memory_of") for record in records}) > 1:
        del further["peak_memory_bytes"]
    further |= {
        name: [one.get(name) for one in measured] for name in dict.fromkeys(name for one in measured for name in one)
    }
    seconds = _interval((record.get("durations") or {}).get("train_seconds") for record in records)
    return Row(
        role,
        label,
        last,
        _interval(tested(record, f"{metric}_best") for record in records),
        values,
        teacher=teacher,
        retention=last.mean / teacher if shared and last and teacher else None,
        parameters=records[0].get("parameters"),
        flops=records[0].get("flops"),
        seconds=seconds.mean if seconds else None,
        further={name: over for name, numbers in further.items() if (over := _interval(numbers))},
        weights=" ".join(
            f"{name}={weight:g}" if isinstance(weight, (int, float)) else f"{name}={weight}"
            for name, weight in (records[0].get("weights") or {}).items()
        ),
        kept=kept_in_short(records) or "student" if any(record.get("networks") for record in records) else "",
        runs=frozenset(record["hash"] for record in records),
    )


def _interval(values: Iterable[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return interval(known) if known else None
