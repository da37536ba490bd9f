"""Figures of the test predictions that every run stores. The test set is not evaluated again."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from kdlab.compare.collect import TEACHER, Group
from kdlab.errors import InputError
from kdlab.runs.run import Run

from .agreement import ALL, agreement, agreement_matrix
from .per_class import changes, per_class, recalls
from .reliability import reliability

MOST_RELIABILITY, MOST_CLASSWISE, MOST_AGREEMENT = 4, 2, 12


def reliability_of(rows):
    """Yield notes on runs that are left out, then the reliability diagram of the baseline and the best rows.

    Raises:
        InputError: no row has test predictions.
    """
    chosen, words = rows.chosen(MOST_RELIABILITY)
    logits, notes = _logits(rows, chosen)
    yield from notes
    if not logits:
        raise InputError("no row has test predictions")
    figure = reliability(
        {label: [(pair[0], pair[1]) for pair in found.values()] for label, found in logits.items()}, slots=rows.slots
    )
    figure.caption += words
    yield "reliability", figure


def per_class_of(rows):
    """Yield notes on runs that are left out, then the change of each class's recall against the baseline.

    Raises:
        InputError: there is no baseline, or no row shares a seed with it and has test predictions.
    """
    if rows.baseline is None:
        raise InputError("there is no baseline to compare with")
    chosen, words = rows.chosen(1 + MOST_CLASSWISE)
    logits, notes = _logits(rows, chosen)
    yield from notes
    found = {
        label: {seed: recalls(one.argmax(-1), target, one.shape[-1]) for seed, (one, target) in seeds.items()}
        for label, seeds in logits.items()
    }
    baseline = found.pop(rows.baseline, None)
    if not baseline:
        raise InputError(f"the baseline '{rows.baseline}' has no test predictions")
    paired = {label: changes(seeds, baseline) for label, seeds in found.items() if set(seeds) & set(baseline)}
    if not paired:
        raise InputError("no row has test predictions and a seed in common with the baseline")
    names = class_names(next(group for group in chosen if group.runs), len(next(iter(paired.values()))))
    figure = per_class(paired, rows.baseline, names, slots=rows.slots)
    figure.caption += words
    yield "per_class", figure


def agreement_of(rows):
    """Yield notes on runs that are left out, then the matrix of how often rows and teachers predict the same class.

    Raises:
        InputError: fewer than two rows have test predictions of the same samples.
    """
    chosen, words = rows.chosen(MOST_AGREEMENT)
    logits, notes = _logits(rows, chosen, predictions=True)
    yield from notes
    predictions: dict[str, dict[int | None, np.ndarray]] = {
        label: {seed: classes for seed, (classes, _) in seeds.items()} for label, seeds in logits.items()
    }
    if predictions:
        target = next(iter(next(iter(logits.values())).values()))[1]
        for label, teacher in _teachers(rows):
            with contextlib.suppress(InputError, OSError):
                their_logits, their_target = _in_order(teacher)
                if np.array_equal(target, their_target):
                    predictions = {label: {ALL: their_logits.argmax(-1)}, **predictions}
    if len(predictions) < 2:
        raise InputError("fewer than two rows have test predictions of the same samples")
    figure = agreement(agreement_matrix(predictions), list(predictions))
    figure.caption += words
    yield "agreement", figure


def class_names(group: Group, classes: int) -> list[str]:
    """The class names of a group's data if they are known without reading it; otherwise the class numbers."""
    from kdlab.training import assemble

    return assemble.class_names(group.runs[0].config["data"], classes)


def _teachers(rows: Any) -> list[tuple[str, Run]]:
    """The names and runs of teachers with a single run: rows of the table, or other runs that are found."""
    from kdlab.training.teacher import run_of_teacher

    found = {
        group.runs[0].hash: (group.label, group.runs[0])
        for group in rows.groups
        if group.role == TEACHER and len(group.runs) == 1
    }
    present = {run.hash for group in rows.groups for run in group.runs}
    for group in rows.groups:
        teacher = run_of_teacher(group.runs[0]) if group.runs and group.role != TEACHER else None
        if teacher is not None and teacher.hash not in present:
            found.setdefault(teacher.hash, (group.records[0]["teacher"]["name"], teacher))
    return list(found.values())


def _in_order(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of a run's test samples at the last epoch, in the order of the data set."""
    content = run.predictions()
    logits, target, index = (content[key].numpy() for key in ("last", "target", "index"))
    order = np.argsort(index, kind="stable")
    return logits[order], target[order]


def _logits(
    rows: Any, chosen: list[Group], predictions: bool = False
) -> tuple[dict[str, dict[int, tuple[np.ndarray, np.ndarray]]], list[str]]:
    """Row -> seed -> (logits, labels) at the last epoch; and lines about runs that are left out: those without readable
    predictions, and those with other test samples than the first row.

    Args:
        predictions: return predicted classes in place of the logits, which may be large.
    """
    found: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {}
    unreadable, elsewhere, first = 0, set(), None
    for group in chosen:
        unreadable += len(group.records) - len(group.runs)
        for run, record in zip(group.runs, group.records):
            try:
                outputs, target = _in_order(run)
            except (InputError, OSError):
                unreadable += 1
                continue
            first = target if first is None else first
            if not np.array_equal(first, target):
                elsewhere.add(group.label)
                continue
            found.setdefault(group.label, {})[record.get("seed", len(found.get(group.label, {})))] = (
                outputs.argmax(-1) if predictions else outputs,
                target,
            )
    notes = (
        [f"{unreadable} run{'s' if unreadable > 1 else ''} without readable test predictions left out"]
        if unreadable
        else []
    )
    return found, notes + [f"left out, since it was tested on other samples: {label}" for label in sorted(elsewhere)]
