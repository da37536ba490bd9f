"""The teacher's entry in the record of a run: how good it is on validation and on test, and what trained it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.config.references import (
    ComposedRun,
    EnsembleOf,
    FinishedRun,
    OnePerTerm,
    Reference,
    RoutedByColumn,
    teacher_reference,
)
from kdlab.data import Data
from kdlab.errors import EndedEarly, InputError, shortened
from kdlab.outputs import Outputs
from kdlab.runs.identity import teacher_identity
from kdlab.runs.named import data_config, run_named
from kdlab.runs.run import Run
from kdlab.tasks import Task
from kdlab.tasks.chance import ChanceTest
from kdlab.teachers import Routed, Teacher

from .evaluation import Remembered, evaluate
from .routing import OwnRows, rows_of_members


def describe(
    config: dict,
    teacher: Teacher,
    task: Task,
    validation: Iterable[Batch],
    device: torch.device,
    say: Callable[[str], None],
    data: Data | None = None,
) -> dict:
    """The teacher's description and its scores on validation, for the record; its headline metric is printed. If terms
    have teachers of their own, each is described by name under ``members``, and there is no common score. A routed
    teacher has both, and each member is measured on its own rows.

    Args:
        data: of the run; they say which rows a routed teacher's members answer.

    Raises:
        InputError: it is no better than chance.
    """
    reference = teacher_reference(config)
    if reference is None:
        raise ValueError("the config names no teacher to describe")
    _warn_of_other_split(config, reference, say)
    if isinstance(reference, RoutedByColumn) and isinstance(teacher, Routed) and data is not None:
        return _routed(reference, teacher, data, task, validation, device, say)
    if not isinstance(reference, OnePerTerm):
        return _described(reference, "teacher", teacher, task, validation, device, say)
    members = {
        name: _described(reference.members[name], f"teacher {name}", member, task, validation, device, say)
        for name, member in teacher.members.items()
    }
    return {
        "name": reference.name,
        "terms": teacher.terms,
        "members": members,
        "parameters": None,
        "runs": [run for member in members.values() for run in member["runs"]],
    }


def _routed(
    reference: RoutedByColumn,
    teacher: Routed,
    data: Data,
    task: Task,
    validation: Iterable[Batch],
    device: torch.device,
    say: Callable[[str], None],
) -> dict:
    """The entry of a routed teacher: its scores on all rows, and those of each member on its own rows."""
    rows, members = rows_of_members(teacher, data), {}
    for name, member in teacher.members.items():
        one, role = reference.members[name], f"teacher {name}"
        numbers = ", ".join(f"{number:,} of {split}" for split, number in rows[name].items())
        say(f"{role}: answers the rows with {reference.column}={_values(reference, name)}: {numbers}")
        if rows[name]["validation"]:
            entry_of_one = _described(one, role, member, task, OwnRows(validation, teacher, name), device, say)
        else:
            say(f"{role}: no validation row is its own, so it is not measured")
            entry_of_one = entry(one.name, member, {}, _trained(one))
        members[name] = {**entry_of_one, "identity": teacher_identity(one)}
    metrics: dict[str, float] = {}
    if teacher.gives_logits:
        metrics = examine(teacher, task, validation, device).metrics
        shown = task.headline.name if task.headline.name in metrics else next(iter(metrics))
        say(f"teacher: {reference.name}, {shown} {metrics[shown]:.4f} on validation")
    runs = [run for member in members.values() for run in member["runs"]]
    whole = {**entry(reference.name, teacher, metrics), "runs": runs}
    return {**whole, "column": reference.column, "rows": rows, "members": members}


def _values(reference: RoutedByColumn, member: str) -> str:
    """The values of the column that are routed to a member, in words."""
    found = [value for value, name in reference.routes.items() if name == member]
    return shortened(found) + (", and all others" if reference.default == member else "")


def _trained(reference: Reference) -> list[Run]:
    """The runs that trained what a reference names."""
    return [run_named(one) for one in reference.singles if isinstance(one, (ComposedRun, FinishedRun))]


def _described(
    reference: Reference,
    role: str,
    teacher: Teacher,
    task: Task,
    validation: Iterable[Batch],
    device: torch.device,
    say: Callable[[str], None],
) -> dict:
    _tell_normalisation(teacher, role, say)
    if not teacher.gives_logits:
        say(
            f"{role}: {reference.name} gives a part of its probabilities alone, so it is not measured on validation, "
            "nor compared with the student on test"
        )
        return entry(reference.name, teacher, {})
    try:
        found = examine(teacher, task, validation, device)
    except EndedEarly as error:
        raise InputError(f"{role}: {error}") from error
    chance, name = found.chance, reference.name
    shown = task.headline.name if task.headline.name in found.metrics else next(iter(found.metrics))
    score = chance.summary or f"{shown} {found.metrics[shown]:.4f}"
    say(f"{role}: {name}, {score} on validation")
    _warn_of_no_logits(reference, role, teacher, found.kind, task, validation, device, say)
    if chance.least_p_value() > 0.01:
        say(
            f"{role}: warning: {chance.rows} validation samples are too few to tell whether it is better than "
            "chance; data.validation=… holds out more"
        )
    elif chance.p_value() > 0.01:
        if chance.tested and not chance.tested.startswith(task.headline.name):  # the score is not what was tested
            score = f"{score}; {chance.tested}"
        raise InputError(
            f"{role}: {name} {chance.failure} ({score}); nothing can be learned from it. Check "
            "its weights, its classes, the normalisation of its inputs, and whether it was trained long enough "
            f'({role}.overrides=["trainer.max_epochs=30"] for a teacher that kdlab trains)'
        )
    return entry(name, teacher, found.metrics, _trained(reference))


@dataclass
class Examined:
    """What a teacher is on validation.

    Args:
        metrics: of the task.
        chance: the test of whether it is better than chance.
        kind: what its answers look like (:meth:`kdlab.tasks.Task.not_logits`).
    """

    metrics: dict[str, float]
    chance: ChanceTest
    kind: str | None


def examine(teacher: Teacher, task: Task, validation: Iterable[Batch], device: torch.device) -> Examined:
    """A teacher on validation, in one pass.

    Raises:
        EndedEarly: the data or the teacher end early.
    """
    chance, kinds = task.chance(), AnswerKinds(task)
    answer = Remembered(teacher.teach, task) if task.compared_with == "teacher" else teacher.teach
    beside = answer if task.compared_with == "teacher" else None  # the metrics of itself
    found = evaluate({"": answer}, validation, task, device, beside, watchers=(chance.update, kinds.update))
    return Examined(found[""].metrics, chance, kinds.kind)


def entry(name: str, teacher: Teacher, metrics: Mapping[str, float], trained: Iterable[Run] = ()) -> dict[str, Any]:
    """A teacher's entry in the record.

    Args:
        metrics: on validation.
        trained: the runs that trained it.
    """
    return {
        "name": name,
        "normalisation": [str(own) for own in teacher.normalisations] or None,
        **{f"validation_{key}": value for key, value in metrics.items()},
        "runs": [
            {
                "path": str(run.path),
                **{key: run.record[key] for key in ("hash", "metrics", "parameters", "durations")},
            }
            for run in trained
        ],
        "parameters": teacher.parameter_count,
    }


def _warn_of_no_logits(
    reference: Reference,
    role: str,
    teacher: Teacher,
    kind: str | None,
    task: Task,
    validation: Iterable[Batch],
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Print a warning where a teacher, or a member of an ensemble, ends in softmax or sigmoid.

    Args:
        kind: what its answers on validation look like (:meth:`kdlab.tasks.Task.not_logits`).
    """
    if teacher.members:  # an ensemble's answers hide it; one batch of each member is enough
        batch = next(iter(validation), None)
        for name, member in teacher.members.items():
            if batch is not None:
                answers = task.not_logits(member.teach(batch.to(device)).logits, trained=True)
                whose = cast(EnsembleOf, reference).members[name], f"{role} {name}"
                _warn_of_no_logits(*whose, member, answers, task, validation, device, say)
    elif kind == "softmax":
        say(
            f"{role}: warning: {reference.name} answers with probabilities (no number is below 0, and each row sums to "
            "1). Losses need logits: they turn probabilities into almost uniform targets. Let it return the logits: "
            "remove the softmax at its end"
        )
    elif kind == "sigmoid":
        say(
            f"{role}: warning: all answers of {reference.name} lie between 0 and 1, like those of a sigmoid. Losses "
            "need logits: if it ends in a sigmoid, remove that"
        )


class AnswerKinds:
    """What a teacher's answers look like, over all batches of validation."""

    def __init__(self, task: Task):
        self._task = task
        self._found: set[str | None] = set()

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Look at the answers to a batch."""
        self._found.add(self._task.not_logits(logits, trained=True))

    @property
    def kind(self) -> str | None:
        """``softmax``, ``sigmoid``, or None: as :meth:`kdlab.tasks.Task.not_logits`."""
        if not self._found or None in self._found:
            return None
        return "softmax" if self._found == {"softmax"} else "sigmoid"


def with_test_scores(described: dict, teacher: Teacher, score: Callable[[Callable[[Batch], Outputs]], dict]) -> dict:
    """A teacher's record with its scores on test under ``test``; where terms have teachers of their own, with those of
    each.

    Args:
        described: by :func:`describe`.
        score: the metrics of an answer. A teacher of whom not all logits are known has none.
    """
    if teacher.terms:
        members = {
            name: with_test_scores(described["members"][name], member, score)
            for name, member in teacher.members.items()
        }
        return {**described, "members": members}
    if not teacher.gives_logits:
        return described
    return {**described, "test": score(teacher.teach)}


def _tell_normalisation(teacher: Teacher, role: str, say: Callable[[str], None]) -> None:
    whose = "a member's" if teacher.members else "its"
    for own in teacher.normalisations:
        say(f"{role}: {whose} inputs are normalised by its own {own}, not the student's")


def _warn_of_other_split(config: dict, teacher: Reference, say: Callable[[str], None]) -> None:
    """Print a warning where the teacher was trained on samples that the student holds out: the validation numbers are
    then too good."""
    for one in teacher.singles:
        theirs, ours = data_config(one), config["data"]
        if theirs and theirs["_target_"] == ours["_target_"]:
            differing = [key for key in ("validation", "split_seed") if theirs.get(key) != ours.get(key)]
            if differing:
                say(
                    f"teacher: warning: its data.{' and data.'.join(differing)} differ from the student's, so it has "
                    "seen samples that the student holds out for validation"
                )
