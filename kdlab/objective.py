"""Objective: named, weighted loss terms and the schedules of their scalars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdlab.batch import Batch, Count
from kdlab.chunks import Values, summed
from kdlab.errors import InputError, ended_early
from kdlab.functional import reduce
from kdlab.functional.rows import total_weight
from kdlab.losses.base import Loss, Probe
from kdlab.outputs import LazyLogits, Outputs, SparseTarget
from kdlab.schedules import Schedule


@dataclass
class LossParts:
    """The objective's value for one network's Outputs. The values of several networks can be added.

    Args:
        labels: the weighted sum of the terms that need no teacher; 0 if there is none.
        taught: the weighted sum of the terms that learn from a teacher.
        parts: the terms before their weights, detached, for the logs.
        counts: name of a part -> how it joins the mean over an epoch, for parts that are means over other rows than the
            batch's (those that have a label).

    >>> import torch
    >>> mine, peers = (LossParts(torch.tensor(x), torch.tensor(1.0), {"ce": torch.tensor(x)}) for x in (2.0, 4.0))
    >>> (mine + peers.scaled(labels=0.5).named("peer2")).total, list((mine + peers.named("peer2")).parts)
    (tensor(6.), ['ce', 'ce_peer2'])
    """

    labels: Tensor | float = 0.0
    taught: Tensor | float = 0.0
    parts: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Count] = field(default_factory=dict)

    @property
    def total(self) -> Tensor | float:
        """The loss that is minimised."""
        return _added(self.labels, self.taught)

    def __add__(self, other: LossParts) -> LossParts:
        return LossParts(
            _added(self.labels, other.labels),
            _added(self.taught, other.taught),
            {**self.parts, **other.parts},
            {**self.counts, **other.counts},
        )

    def scaled(self, labels: float = 1.0, taught: float = 1.0) -> LossParts:
        """The two sums, each with a factor. The parts for the logs do not change."""
        return LossParts(self.labels * labels, self.taught * taught, self.parts, self.counts)

    def named(self, network: str) -> LossParts:
        """With the network's name appended to the name of each part."""
        parts = {f"{name}_{network}": value for name, value in self.parts.items()}
        counts = {f"{name}_{network}": count for name, count in self.counts.items()}
        return LossParts(self.labels, self.taught, parts, counts)


def _added(one: Tensor | float, other: Tensor | float) -> Tensor | float:
    """The sum. A part that is not there costs no operation, and no node of the graph."""
    if isinstance(one, float) and one == 0.0:
        return other
    if isinstance(other, float) and other == 0.0:
        return one
    return one + other


def zero_loss(module: nn.Module) -> Tensor | float:
    """0, with a gradient of zeros for every parameter of a module that has no part in this step. DDP requires a
    gradient for connectors and learned temperatures also while there is no teacher."""
    return sum(0.0 * value.sum() for value in module.parameters() if value.requires_grad)


def mean_of(several: Sequence[LossParts]) -> LossParts:
    """The mean of one network's losses to several teachers, also of their parts."""
    names = dict.fromkeys(name for each in several for name in each.parts)
    parts = {name: torch.stack([each.parts[name] for each in several if name in each.parts]).mean() for name in names}
    counts = {name: count for each in several for name, count in each.counts.items()}  # all are of one batch
    labels, taught = (sum(values) / len(several) for values in zip(*((one.labels, one.taught) for one in several)))
    return LossParts(labels, taught, parts, counts)


class Objective(nn.Module):
    r""":math:`L = \sum_k w_k\,\mathrm{reduce}(\ell_k)` over named terms, in the given order.

    Args:
        terms: name -> loss.
        weights: name -> the term's weight.
        schedules: "term.scalar" -> schedule; the scalar is ``weight`` or a float attribute of the loss
            (``kd.temperature``), or of a loss inside it (``kd_standardised.loss.temperature``).

    A term with weight 0 and without parameters is not computed (its part is absent). So a teacher that is stopped early
    costs nothing from then on.

    Raises:
        InputError: a schedule names a scalar that its loss does not have.
    """

    def __init__(
        self, terms: Mapping[str, Loss], weights: Mapping[str, float], schedules: Mapping[str, Schedule] | None = None
    ):
        super().__init__()
        if not terms:
            raise InputError("loss: no term is chosen; for example loss=[ce,kd]")
        self.terms = nn.ModuleDict(terms)
        #: name -> loss: ``terms`` as what they are
        self.losses: dict[str, Loss] = dict(terms)
        self.weights = {name: float(weights[name]) for name in terms}
        self.schedules = dict(schedules or {})
        for key in self.schedules:
            name, _, scalar = key.partition(".")
            if name not in self.terms:
                raise InputError(
                    f"loss.{key}: there is no term '{name}' to give a schedule; the terms are {', '.join(self.terms)}"
                )
            term = self.losses[name]
            if scalar in term.fixed:
                raise InputError(
                    f"loss.{key}: {type(term).__name__} reads it once, before training, so it can have no schedule"
                )
            if scalar != "weight" and not isinstance(self._scalar(key), float):
                raise InputError(
                    f"loss.{key}: only a term's weight and its numbers can have a schedule, and "
                    f"{type(term).__name__} has no number '{scalar}' that may change"
                )
        self.advance(0.0, 0)

    def advance(self, epoch: float, step: int | None = None) -> None:
        """Sets every scheduled scalar to its value at ``epoch`` (fractional, from 0), or at ``step`` where its schedule
        counts optimiser steps.

        Raises:
            ValueError: a schedule counts steps, and ``step`` is not given.
        """
        for key, schedule in self.schedules.items():
            name, _, scalar = key.partition(".")
            value = schedule.after(epoch, step)
            if scalar == "weight":
                self.weights[name] = value
            else:
                owner, _, attribute = key.rpartition(".")
                setattr(self.terms.get_submodule(owner), attribute, value)

    def scalars(self) -> dict[str, float]:
        """The current value of every scheduled scalar, and the terms' own readings, for the logs."""
        scheduled = {key: self._scalar(key) for key in self.schedules}
        return scheduled | {
            f"{name}.{key}": value for name, term in self.losses.items() for key, value in term.readings().items()
        }

    def _scalar(self, key: str) -> Any:
        """The current value at a schedule's key; None if there is none."""
        name, _, scalar = key.partition(".")
        if scalar == "weight":
            return self.weights[name]
        owner, _, attribute = key.rpartition(".")
        try:
            return getattr(self.terms.get_submodule(owner), attribute, None)
        except AttributeError:  # no such loss inside it
            return None

    def _active(self, name: str) -> bool:
        return self.weights[name] != 0 or any(True for _ in self.terms[name].parameters())

    @property
    def needs_teacher(self) -> bool:
        """Whether any term needs a teacher."""
        return any(term.needs_teacher for term in self.losses.values())

    @property
    def asks_teacher(self) -> bool:
        """Whether any term needs the teacher with the current weights."""
        return bool(self.active_teacher_terms())

    def active_teacher_terms(self) -> list[str]:
        """The terms that need the teacher with the current weights."""
        return [name for name, term in self.losses.items() if term.needs_teacher and self._active(name)]

    @property
    def learns_from_teacher(self) -> bool:
        """Whether the loss uses the teacher at any time: with a weight above 0, now or by its schedule."""
        return any(term.needs_teacher and self.counts(name) for name, term in self.losses.items())

    @property
    def learns_from_labels(self) -> bool:
        """Whether any term that needs no teacher has a weight above 0 at any time."""
        return any(not term.needs_teacher and self.counts(name) for name, term in self.losses.items())

    def counts(self, name: str) -> bool:
        """Whether a term has a weight above 0 at any time, now or by its schedule."""
        return self.weights[name] != 0 or f"{name}.weight" in self.schedules

    @property
    def views(self) -> int:
        """The number of augmented views of a batch that the terms compare."""
        return max(term.views for term in self.losses.values())

    @property
    def student_taps(self) -> set[str]:
        """The student's taps that the terms read."""
        return {tap for term in self.losses.values() for tap in term.student_taps}

    @property
    def teacher_taps(self) -> set[str]:
        """The teacher's taps that the terms read."""
        return {tap for term in self.losses.values() for tap in term.teacher_taps}

    def prepare(self, probe: Probe) -> None:
        """Prepares every term with the probe. An error names the term."""
        for name, term in self.losses.items():
            if term.teacher_taps and probe.teacher is None:
                raise InputError(
                    f"loss.{name}: it reads a teacher's features, but in this strategy no teacher's features are "
                    "known before training; choose a loss on logits (or define taught_by in the strategy)"
                )
            try:
                term.prepare(probe.of_term(name))
            except InputError:
                raise
            except Exception as error:  # a user's loss may fail in any way
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                reason = ended_early(error) or kind + (str(error).splitlines() or [""])[0]
                raise InputError(f"loss.{name}: {reason}") from error

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> LossParts:
        """All terms; without a teacher, those that need none. If no term is left, the loss is 0 with a gradient of
        zeros for the student."""
        loss = self._sum(self.terms, student, teacher, batch)
        return loss if isinstance(loss.total, Tensor) else loss + LossParts(ddp_anchor(student))

    def labels(self, student: Outputs, batch: Batch) -> LossParts:
        """The terms that need no teacher."""
        return self._sum([name for name, term in self.losses.items() if not term.needs_teacher], student, None, batch)

    def taught(self, student: Outputs, teacher: Outputs, batch: Batch) -> LossParts:
        """The terms that learn from a teacher."""
        return self._sum([name for name, term in self.losses.items() if term.needs_teacher], student, teacher, batch)

    def chosen(self, names: Iterable[str], student: Outputs, teacher: Outputs | None, batch: Batch) -> LossParts:
        """The named terms; without a teacher, those of them that need none."""
        return self._sum(names, student, teacher, batch)

    def _sum(self, names: Iterable[str], student: Outputs, teacher: Outputs | None, batch: Batch) -> LossParts:
        student = _without_masked_rows(student, batch)
        teacher = None if teacher is None else _without_masked_rows(teacher, batch)
        names = [
            name for name in names if self._active(name) and not (teacher is None and self.losses[name].needs_teacher)
        ]
        result, losses, every_row = LossParts(), self.losses, batch
        labelled = batch.for_labels()
        if isinstance(student.answer, LazyLogits) and student.answer.rows_at_once is not None:
            by_rows = [name for name in names if losses[name].by_rows]
            if by_rows and not _in_float16():
                result = self._sum_by_rows(by_rows, student, teacher, batch, labelled)
                names = [name for name in names if name not in by_rows]
        for name in names:
            term = losses[name]
            batch = labelled if term.needs_target else every_row
            said = None if teacher is None else teacher.by_term.get(name, teacher)
            try:
                values = term(student, said, batch)
            except KeyError as error:
                if problem := _missing_feature(name, term, student, said):
                    raise InputError(problem) from error
                raise
            except AttributeError as error:
                if getattr(error, "obj", None) is term and type(term).prepare is not Loss.prepare:
                    raise InputError(
                        f"loss.{name}: {type(term).__name__} builds parts from the shapes of both Outputs, and has not "
                        "seen any yet; call objective.prepare(kdlab.losses.Probe(student, teacher, None, classes, "
                        "train_size)) once with those of a few samples, before you make the optimiser"
                    ) from error
                raise
            if term.per == "batch" and values.dim():
                raise ValueError(
                    f"{type(term).__name__}.per is 'batch', so it returns a scalar; got {tuple(values.shape)}"
                )
            values = values.flatten() if term.per == "position" else values
            value = reduce(values, *batch.weighting(term.per, values.numel(), student.mask))
            weighted, parts = self.weights[name] * value, {name: value.detach()}
            counts = {} if batch is every_row else {name: batch.count}
            result = result + (
                LossParts(taught=weighted, parts=parts, counts=counts)
                if term.needs_teacher
                else LossParts(weighted, parts=parts, counts=counts)
            )
        return result

    def _sum_by_rows(
        self, names: Sequence[str], student: Outputs, teacher: Outputs | None, batch: Batch, labelled: Batch
    ) -> LossParts:
        """Terms that need no more of a row than its logits and its label: the logits of a part of the rows exist at a
        time. The values are those of :meth:`_sum` but for rounding."""
        lazy = cast(LazyLogits, student.answer)
        number, weightings = len(lazy.hidden), {}
        kinds = list(dict.fromkeys(self.losses[name].needs_teacher for name in names))  # whether a teacher is needed
        for name in names:
            weights, normaliser = (labelled if self.losses[name].needs_target else batch).weighting("row", number)
            if normaliser is None:  # of all rows, and not of a part of them
                normaliser = float(number if weights is None else total_weight(weights))
            weightings[name] = weights, normaliser

        def values_of(begin: int, end: int) -> Values:
            said_of_part = None if teacher is None else _rows_of(teacher, begin, end)

            def values(start: int, stop: int, logits: Tensor) -> tuple[Tensor, Tensor]:
                theirs = None if said_of_part is None else _rows_of(said_of_part, start - begin, stop - begin)
                return of_rows(start, stop, logits, theirs)

            return values

        def of_rows(start: int, stop: int, logits: Tensor, theirs: Outputs | None) -> tuple[Tensor, Tensor]:
            mine = student.replace(answer=logits, features={}, mask=None, second=None, by_term={})
            sums, parts = {kind: logits.new_zeros(()) for kind in kinds}, []
            for name in names:
                term = self.losses[name]
                rows = (labelled if term.needs_target else batch).rows_part(start, stop)
                said = None if theirs is None else theirs.by_term.get(name, theirs)
                weights, normaliser = weightings[name]
                value = reduce(
                    term.of_rows(mine, said, rows), None if weights is None else weights[start:stop], normaliser
                )
                sums[term.needs_teacher] = sums[term.needs_teacher] + self.weights[name] * value
                parts.append(value.detach())
            return torch.stack(list(sums.values())), torch.stack(parts)

        learned = [one for name in names for one in self.losses[name].parameters()]
        found, parts = summed(values_of, lazy, learned, len(kinds), len(names))
        sums = dict(zip(kinds, found.unbind()))
        return LossParts(
            sums.get(False, 0.0),
            sums.get(True, 0.0),
            dict(zip(names, parts.unbind())),
            {name: labelled.count for name in names if self.losses[name].needs_target and labelled is not batch},
        )


def _in_float16() -> bool:
    """Whether gradients are scaled for float16: those that are computed in the forward pass are not."""
    return any(
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
        for device in ("cpu", "cuda")
    )


def _rows_of(teacher: Outputs, start: int, stop: int) -> Outputs:
    """The logits of some rows of a teacher, also of the terms' own teachers."""

    def part(one: Outputs) -> Outputs:
        if not isinstance(one.answer, LazyLogits):
            return one.replace(answer=one.answer[start:stop], features={}, mask=None, second=None, by_term={})
        with torch.no_grad():
            logits = one.answer.head(one.answer.hidden[start:stop])
        return one.replace(answer=logits, features={}, mask=None, second=None, by_term={})

    return part(teacher).replace(by_term={name: part(one) for name, one in teacher.by_term.items()})


def _missing_feature(name: str, term: Loss, student: Outputs, teacher: Outputs | None) -> str | None:
    """Which feature of a term the Outputs lack, as a message; None if they have all."""
    for whose, outputs, taps in (("student", student, term.student_taps), ("teacher", teacher, term.teacher_taps)):
        held = {} if outputs is None else outputs.features
        for tap in taps:
            if outputs is not None and tap not in held:
                return (
                    f"loss.{name}: it reads the {whose}'s feature '{tap}', and the {whose}'s Outputs have "
                    f"{', '.join(held) or 'no features'}; give them kdlab.Outputs(logits, features={{'{tap}': …}}), or "
                    f"capture them: with kdlab.models.taps.Taps({whose}, ['{tap}']) as features: logits = "
                    f"{whose}(inputs)"
                )
    return None


def ddp_anchor(outputs: Outputs) -> Tensor:
    """0, with a gradient of zeros for all parameters on which the logits depend. It is used for a loss without terms,
    and for DDP, which requires that every parameter is part of the loss (a loss on features alone does not use the
    student's head)."""
    return 0.0 * outputs.logits.masked_fill(~outputs.logits.isfinite(), 0.0).sum()


def _without_masked_rows(outputs: Outputs, batch: Batch) -> Outputs:
    """Outputs with zeros in the rows of weight 0: their values (padding, inf) must not reach a gradient as 0 times
    NaN."""
    if batch.weights is None:
        return outputs
    masked = (batch.weights == 0)[:, None]

    def without(one: Outputs) -> Outputs:
        answer = one.answer
        if isinstance(answer, LazyLogits):
            return one.replace(answer=replace(answer, hidden=answer.hidden.masked_fill(masked, 0.0)))
        if isinstance(answer, SparseTarget):
            return one.replace(answer=answer.without(masked[:, 0]))
        return one.replace(answer=one.logits.masked_fill(masked, 0.0))

    return outputs.map(without)
