"""Whether runs can be trained together, and whether that pays: tried on one batch before anything is written."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.data import Data
from kdlab.strategies import Offline, Strategy, Supervised
from kdlab.tasks.samples import Samples

from .assemble import Parts
from .preparation import modes_of, restore_modes
from .stack import Given, Stack, own_attributes, same
from .stacked import given_to, sources_of
from .stacked_optimizer import misfit

ROUNDS = 7  # of timing
ALONE = 4  # runs that are timed alone
LEAST = 1.2  # times faster that a step must be
#: the largest difference of gradients, as a part of the largest gradient
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}


@dataclass(frozen=True)
class Trial:
    """The result of a trial.

    Args:
        why_not: why the runs cannot be stacked, or why that does not pay; empty if they are to be stacked.
        faster: how many times faster a step of all runs is together; None where it was not measured.
        saved: the seconds that a step of all runs together saves.
        together: whether the losses are computed in one pass too.
        error: the largest difference of a gradient, as a part of the run's largest gradient.
    """

    why_not: str = ""
    faster: float | None = None
    saved: float | None = None
    together: bool = True
    error: float = 0.0


def tried(parts: Sequence[Parts], device: torch.device, always: bool = False) -> Trial:
    """Try a step of several runs together and alone: compare the gradients, and time both. No weight changes.

    Args:
        device: where the runs will be trained.
        always: stack also where it does not pay.
    """
    for one in parts:
        if why := unfit(one):
            return Trial(why)
    strategies = [one.strategy for one in parts]
    modes = [modes_of(one) for one in strategies]
    try:
        for strategy in strategies:
            strategy.to(device)
            strategy.student.train()
        with _every_term(strategies):
            return _tried(parts, device, always)
    except Exception as error:  # as in a run alone, which reports it as its own
        return Trial(f"a trial step fails ({_reason(error)})")
    finally:
        for strategy, before in zip(strategies, modes):
            restore_modes(before)
            strategy.to("cpu")


def unfit(parts: Parts) -> str:
    """Why a run cannot be trained with others, as far as its parts show it; empty if it can."""
    strategy, data = parts.strategy, parts.data
    objective, student = strategy.objective, strategy.student
    if type(strategy) not in (Offline, Supervised):
        return f"strategy: {type(strategy).__name__} has steps of its own"
    if not isinstance(strategy.task, Samples) or not type(strategy.task).__module__.startswith("kdlab."):
        return f"task: {strategy.task.name} has rows of its own"
    if not isinstance(data, Data) or data.mixing is not None:
        return "data.mixing draws for each run" if isinstance(data, Data) else "data: the loaders are not kdlab's"
    if data.labelled_samples() is not None:
        return "data: some samples have no label"
    if strategy.views > 1:
        return "loss: a term compares two views"
    if strategy.teacher is not None and strategy.teacher.terms:
        return "teacher: terms have teachers of their own"
    for name, term in objective.losses.items():
        if any(True for _ in (*term.parameters(), *term.buffers())):
            return f"loss.{name}: {type(term).__name__} has parameters or buffers"
        if term.student_taps or term.teacher_taps:
            return f"loss.{name}: {type(term).__name__} reads features"
        if term.needs_index:
            return f"loss.{name}: {type(term).__name__} remembers samples"
    if not all(value.requires_grad for value in student.parameters()):
        return "student: some parameters are frozen"
    if len({value.dtype for value in student.parameters()}) != 1 or next(student.parameters()).dtype not in TOLERANCE:
        return "student: its parameters are not all float32"
    optimizer = strategy.optimization.optimizer(params=strategy.parameter_groups())
    return misfit(optimizer, list(student.parameters()))


def _tried(parts: Sequence[Parts], device: torch.device, always: bool) -> Trial:
    strategies, sources = [one.strategy for one in parts], sources_of(parts)
    leaders = [parts[sources.index(number)] for number in range(max(sources) + 1)]
    batches = [_first(one.data, device) for one in leaders]
    if not isinstance(batches[0].inputs, Tensor):
        return Trial("data: the inputs are several tensors")
    if len({one.inputs.shape for one in batches}) > 1 or len({one.normaliser for one in batches}) > 1:
        return Trial("data: the batches of the seeds differ in size")
    alone = []
    for strategy, source in zip(strategies, sources):
        found, why = _alone(strategy, batches[source])
        if found is None:
            return Trial(why)
        alone.append(found)
    why = ""
    for together in (True, False):
        try:
            stack = _stack(strategies, sources, together)
            gradients, _ = stack.gradients(_given(stack, batches))
        except Exception as error:  # networks and losses may do what vmap cannot
            why = _reason(error)
            continue
        worst = max(_difference(mine, its) for mine, (its, _) in zip(gradients, alone))
        buffers = [
            _difference(stack.buffers[name][row], value)
            for row, (_, after) in enumerate(alone)
            for name, value in after.items()
        ]
        if max([worst, *buffers]) <= TOLERANCE[gradients.dtype]:
            return _timed(stack, batches, together, worst, always)
        what = "gradients" if worst > TOLERANCE[gradients.dtype] else "buffers"
        why = f"the {what} together and alone differ by {max([worst, *buffers]):.1e} of the largest"
    return Trial(f"its step cannot be computed for several runs at once ({why})")


@contextlib.contextmanager
def _every_term(strategies: Sequence[Strategy]) -> Iterator[None]:
    """Gives each term whose weight is 0 now, but not at all times, a weight of 1: such a term has to be tried too."""
    before = [one.objective.weights for one in strategies]
    try:
        for one in strategies:
            objective = one.objective
            objective.weights = {
                name: 1.0 if weight == 0 and objective.counts(name) else weight
                for name, weight in objective.weights.items()
            }
        yield
    finally:
        for one, weights in zip(strategies, before):
            one.objective.weights = weights


def _given(stack: Stack, batches: Sequence[Batch]) -> list[Given]:
    """What the runs of a stack learn from in a step, by the number of their source."""
    return [
        given_to([one for one, source in zip(stack.strategies, stack.sources) if source == number], batch)
        for number, batch in enumerate(batches)
    ]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _first(data: Data, device: torch.device) -> Batch:
    return next(iter(data.train_dataloader())).to(device)


def _stack(strategies: Sequence[Strategy], sources: Sequence[int], together: bool) -> Stack:
    optimizers = [one.optimization.optimizer(params=one.parameter_groups()) for one in strategies]
    return Stack(strategies, optimizers, sources, together)


def _alone(strategy: Strategy, batch: Batch) -> tuple[tuple[Tensor, dict[str, Tensor]] | None, str]:
    """The gradient of a run alone, (D,), and its buffers after the step; or why a step of it cannot be shared."""
    with _buffers_kept(strategy):
        random, attributes = _random(strategy.device), _attributes(strategy)
        loss = strategy.distill(batch).loss.total
        if changed := [name for name, value in _attributes(strategy).items() if not same(attributes.get(name), value)]:
            return None, f"{changed[0]} changes in a step, so it may remember earlier ones"
        if not all(torch.equal(one, other) for one, other in zip(random, _random(strategy.device))):
            return None, "the network or a loss draws random numbers (dropout)"
        after = {name: value.clone() for name, value in strategy.student.named_buffers()}
    try:
        found = torch.autograd.grad(cast(Tensor, loss), list(strategy.student.parameters()))
    except RuntimeError as error:
        return None, f"the loss has no gradient for some parameters ({_reason(error)})"
    return (torch.cat([value.flatten() for value in found]), after), ""


def _attributes(strategy: Strategy) -> dict[str, Any]:
    """What the student's and the losses' modules hold apart from parameters, buffers and modules."""
    parts = {"student": strategy.student, "loss": strategy.objective.terms}
    return {
        ".".join(filter(None, (key, path, name))): copy(value) if isinstance(value, (list, dict, set)) else value
        for key, part in parts.items()
        for path, module in part.named_modules()
        for name, value in own_attributes(module).items()
    }


@contextlib.contextmanager
def _buffers_kept(strategy: Strategy) -> Iterator[None]:
    """Restores the student's buffers, which a step in training mode may change."""
    buffers = {name: value.clone() for name, value in strategy.student.named_buffers()}
    try:
        yield
    finally:
        for name, value in strategy.student.named_buffers():
            value.data.copy_(buffers[name])


def _random(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a part of the largest number of the other; infinite where a number is not finite."""
    if not other.numel():
        return 0.0
    largest = float(other.abs().max())
    difference = float((one - other).abs().max())
    found = difference if largest == 0 else difference / largest
    return found if math.isfinite(found) else math.inf  # max() may pass over NaN


def _timed(stack: Stack, batches: Sequence[Batch], together: bool, worst: float, always: bool) -> Trial:
    """Time a step together and a step alone, in turns. Both ask the teacher. A step alone is without what a training
    loop adds to it."""
    strategies = stack.strategies
    chosen = list(range(len(strategies)))[:ALONE]
    steps = [_step_of(strategies[number], batches[stack.sources[number]]) for number in chosen]
    ratios, saved = [], []
    for number in range(ROUNDS + 1):
        seconds = _seconds(lambda: stack.step(_given(stack, batches)), stack.weights.device)
        with contextlib.ExitStack() as kept:
            for row in chosen:
                kept.enter_context(_buffers_kept(strategies[row]))
            alone = sum(_seconds(step, stack.weights.device) for step in steps) / len(steps)
        if number:  # the first one warms up
            ratios.append(alone * len(strategies) / seconds)
            saved.append(alone * len(strategies) - seconds)
    faster = statistics.median(ratios)
    if faster < LEAST and not always:
        return Trial(f"a step of {len(strategies)} runs together is only {faster:.2f} times faster", faster)
    return Trial("", faster, statistics.median(saved), together, worst)


def _step_of(strategy: Strategy, batch: Batch) -> Callable[[], None]:
    """A step of a run alone that changes none of its weights."""
    parameters = list(strategy.student.parameters())
    copies = [nn.Parameter(value.detach().clone()) for value in parameters]
    optimizer = strategy.optimization.optimizer(params=copies)

    def step() -> None:
        found = torch.autograd.grad(cast(Tensor, strategy.distill(batch).loss.total), parameters)
        for own, gradient in zip(copies, found):
            own.grad = gradient
        optimizer.step()

    return step


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
