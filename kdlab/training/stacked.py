"""Trains several runs together, epoch by epoch.

Each run has a Trainer of its own, which restores its checkpoint, makes its optimiser and writes its checkpoints. What
Lightning's loops would do in an epoch is done here for all runs in one :class:`kdlab.training.stack.Stack`. At the end
of an epoch each run is validated and recorded by its own strategy and Recorder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.errors import EndedEarly
from kdlab.runs.curve import Observe
from kdlab.runs.run import Run
from kdlab.strategies import Strategy
from kdlab.strategies.measured import StepTime
from kdlab.strategies.optimization import epochs_of

from .assemble import Parts
from .evaluation import all_batches, short_of
from .execute import made_trainer, run_trainer
from .recorder import Recorder
from .stack import Given, Stack


@dataclass(eq=False)
class Member:
    """A run that is trained with others. It is locked and begun, and its parts are prepared.

    Args:
        label: prefix of its lines.
        observe: called at the end of every epoch.
        error: what ended it, if it failed.
        of_all: whether it failed in what all runs do together; alone it may not.
        steps: that it has taken with the others.
    """

    config: dict
    run: Run
    parts: Parts
    label: str = ""
    observe: Observe | None = None
    error: BaseException | None = None
    of_all: bool = False
    steps: int = 0
    _trainer: L.Trainer | None = field(default=None, repr=False)
    _recorder: Recorder | None = field(default=None, repr=False)

    @property
    def trainer(self) -> L.Trainer:
        """Its Trainer, once it is set up."""
        return cast(L.Trainer, self._trainer)

    @property
    def recorder(self) -> Recorder:
        """Its Recorder, once it is set up."""
        return cast(Recorder, self._recorder)


def fit_stacked(members: Sequence[Member], together: bool = True) -> None:
    """Train runs together, each from its last finished epoch to the end. An error of one run is kept in its ``error``,
    and the others continue.

    Args:
        together: whether the losses are computed in one pass too (:class:`kdlab.training.trial.Trial`).

    Raises:
        KeyboardInterrupt: the user stopped it; finished epochs are kept.
    """
    _Together(members, together).run()


class _Together:
    """The training of several runs."""

    def __init__(self, members: Sequence[Member], together: bool):
        self.members, self.together = list(members), together
        self.ready: list[Member] = []  # whose Trainer has been set up
        self.stopped: KeyboardInterrupt | None = None

    def run(self) -> None:
        for member in self.members:
            try:
                member._trainer, _, member._recorder = made_trainer(
                    member.config, member.run, member.parts, member.label, member.observe
                )
            except Exception as error:
                member.error = error
        self.members = [member for member in self.members if member.error is None]
        self._enter(0)
        if self.stopped is not None:
            raise self.stopped

    def _enter(self, number: int) -> None:
        """Set up the Trainers from this one on, each inside the one before, and train when all are ready."""
        if number == len(self.members):
            try:
                self._train()
            except KeyboardInterrupt as error:
                self.stopped = error
            except Exception as error:
                for member in self._alive():
                    member.error, member.of_all = error, True
            return
        member = self.members[number]
        fit: Any = member.trainer.fit_loop
        entered = False

        def inside() -> None:
            nonlocal entered
            fit.setup_data()
            if not fit.skip:
                fit.reset()
                fit.on_run_start()
                # nothing is logged, and no bar is shown
                cast(Any, member.parts.strategy).log_dict = lambda *values, **options: None
                self.ready.append(member)
            entered = True
            self._enter(number + 1)
            if member in self.ready:
                del member.parts.strategy.log_dict
                if member.error is None and self.stopped is None:
                    fit.on_run_end()

        fit.run = inside
        try:
            run_trainer(member.trainer, member.run, member.parts)
        except KeyboardInterrupt as error:
            self.stopped = self.stopped or error
        except Exception as error:
            member.error = member.error or error
            if not entered:
                self._enter(number + 1)

    def _alive(self) -> list[Member]:
        return [member for member in self.ready if member.error is None]

    def _train(self) -> None:
        if not self.ready:
            return
        epochs = max(epochs_of(member.trainer) for member in self.ready)
        stack: Stack | None = None
        stacked: list[Member] = []
        for epoch in range(min(member.trainer.current_epoch for member in self.ready), epochs):
            # a run that had finished more epochs when it was interrupted joins later
            active = [
                member for member in self._alive() if member.trainer.current_epoch == epoch < epochs_of(member.trainer)
            ]
            if not active:
                continue
            if active != stacked:
                stacked, stack = active, stack_of(active, self.together)
            _Epoch(epoch, active, cast(Stack, stack)).run()


def sources_of(parts: Sequence[Parts]) -> list[int]:
    """For each run the number of its data: runs of one seed share their batches.

    >>> from types import SimpleNamespace as Made
    >>> sources_of([Made(data=Made(seed=seed)) for seed in (3, 1, 3)])
    [0, 1, 0]
    """
    seeds = list(dict.fromkeys(one.data.seed for one in parts))
    return [seeds.index(one.data.seed) for one in parts]


def stack_of(members: Sequence[Member], together: bool) -> Stack:
    """The stack of runs whose Trainers are set up. ``together``: as for :class:`kdlab.training.stack.Stack`."""
    return Stack(
        [member.parts.strategy for member in members],
        [member.trainer.optimizers[0] for member in members],
        sources_of([member.parts for member in members]),
        together,
    )


def given_to(strategies: Sequence[Strategy], batch: Batch) -> Given:
    """What runs that share a batch learn from. Their teacher is asked once, if any of them asks for it."""
    asking = next((one for one in strategies if one.objective.asks_teacher), None)
    return Given(batch, None if asking is None else asking.teach(batch))


class _Epoch:
    """An epoch of several runs.

    Args:
        epoch: its number, from 0.
        members: those that take part.
        stack: of them.
    """

    def __init__(self, epoch: int, members: Sequence[Member], stack: Stack):
        self.epoch, self.members, self.stack = epoch, members, stack
        self.strategies = [member.parts.strategy for member in members]
        #: the runs that learn from each source, by number
        self.of_source = [
            [row for row, source in enumerate(stack.sources) if source == number]
            for number in range(max(stack.sources) + 1)
        ]
        self.leaders = [members[rows[0]] for rows in self.of_source]
        self.planned = int(self.leaders[0].trainer.num_training_batches)
        self.device = self.strategies[0].device
        self.time = StepTime()
        #: (rows, names of the terms) -> the sums of the losses, (1 + terms, rows), and the count of samples
        self.sums: dict[tuple, tuple[Tensor, float]] = {}
        self.schedules = _Schedules([member.trainer for member in members])
        #: whether a loss of each run asked for its teacher in this epoch
        self.asked = [not one.objective.schedules and one.objective.asks_teacher for one in self.strategies]

    def run(self) -> None:
        """Train the epoch, then validate and record each run. An error there is that of the run."""
        began = time.perf_counter()
        for strategy in self.strategies:
            strategy.on_train_epoch_start()
            strategy._time = self.time  # the teacher's time is part of the step of all
        self._train()
        self.stack.write()
        self.schedules.write()
        share = (time.perf_counter() - began) / len(self.members)
        for row, member in enumerate(self.members):
            try:
                self._record(row, member, share)
            except Exception as error:
                member.error = error

    def _train(self) -> None:
        loaders = [cast(Any, leader.trainer.train_dataloader) for leader in self.leaders]
        for loader in loaders:
            loader.sampler.set_epoch(self.epoch)
        batches = [iter(loader) for loader in loaders]
        for number in range(self.planned):
            found = [next(one, None) for one in batches]
            if None in found:
                raise EndedEarly(short_of("train", number, self.planned))
            self._step(number, [cast(Batch, batch).to(self.device) for batch in found])

    def _step(self, number: int, batches: list[Batch]) -> None:
        done, steps = self.epoch + number / self.planned, self.epoch * self.planned + number
        self.time.begin(self.device, number)
        for row, strategy in enumerate(self.strategies):
            if strategy.objective.schedules:
                strategy.objective.advance(done, steps)
                self.asked[row] |= strategy.objective.asks_teacher
        given = [
            given_to([self.strategies[row] for row in rows], batch) for rows, batch in zip(self.of_source, batches)
        ]
        parts = self.stack.step(given)
        samples = float(batches[0].normaliser or len(batches[0]))
        for part in parts:
            values = torch.cat([part.totals[None], part.values])
            if values.device.type == "cpu":  # as a run alone sums them (MeanLosses)
                values = values.double()
            total, count = self.sums.get((part.rows, part.names), (0.0, 0.0))
            self.sums[part.rows, part.names] = total + values * samples, count + samples
        self.schedules.step("step")
        if number == self.planned - 1:
            self.schedules.step("epoch")
        self.time.end()

    def _record(self, row: int, member: Member, share: float) -> None:
        began = time.perf_counter()
        strategy = self.strategies[row]
        if not self.asked[row]:
            strategy._time = StepTime()  # the teacher answered others
        for (rows, names), (total, count) in self.sums.items():
            if row in rows:
                means = total[:, rows.index(row)] / count
                losses = dict(zip(("loss", *(f"loss_{name}" for name in names)), means.unbind()))
                strategy._losses.add(losses, count)
        loader = cast(Any, self.members[0].trainer.val_dataloaders)
        strategy.student.eval()
        with torch.no_grad():
            for number, batch in enumerate(all_batches(loader)):
                strategy.validation_step(batch.to(self.device), number)
        strategy.on_validation_epoch_end()
        strategy.student.train()
        self._count(member.trainer, len(loader))
        strategy.on_train_epoch_end()
        member.recorder.record(member.trainer, strategy, share + time.perf_counter() - began)
        cast(Any, member.trainer.fit_loop).epoch_progress.increment_completed()
        member.steps += self.planned

    def _count(self, trainer: L.Trainer, validated: int) -> None:
        """Set the counters of Lightning's loops to what they are at the end of this epoch: a checkpoint holds them."""
        fit: Any = trainer.fit_loop
        loop = fit.epoch_loop
        epochs, steps = self.epoch + 1, (self.epoch + 1) * self.planned
        ticks = {"step": self.planned, "epoch": 1}
        moves = sum(ticks[config.interval] for config in trainer.lr_scheduler_configs)
        optimizer = loop.automatic_optimization.optim_progress.optimizer
        for progress, whole, now in (
            (loop.batch_progress, steps, self.planned),
            (loop.scheduler_progress, epochs * moves, moves),
            (optimizer.step, steps, self.planned),
            (optimizer.zero_grad, steps, self.planned),
            (loop.val_loop.batch_progress, validated, validated),
            (fit.epoch_progress, epochs, epochs),
        ):
            for counter, value in ((progress.total, whole), (progress.current, now)):
                for name in ("ready", "started", "processed", "completed"):
                    if hasattr(counter, name):
                        setattr(counter, name, value)
        # Lightning completes an epoch after its end was recorded
        fit.epoch_progress.total.completed = fit.epoch_progress.current.completed = self.epoch
        loop.batch_progress.is_last_batch = loop.val_loop.batch_progress.is_last_batch = True
        loop._batches_that_stepped = steps


class _Schedules:
    """The learning-rate schedules of several runs. Runs with the same schedule and options of the optimiser have one
    that moves; the others receive its numbers."""

    def __init__(self, trainers: Sequence[L.Trainer]):
        self.trainers = list(trainers)
        self.leaders: list[int] = []  # for each run, the one that moves
        for number, trainer in enumerate(trainers):
            equal = (leader for leader in dict.fromkeys(self.leaders) if _moves_alike(self.trainers[leader], trainer))
            self.leaders.append(next(equal, number))

    def step(self, interval: str) -> None:
        """Move those that move after each ``step``, or ``epoch``."""
        for number, leader in enumerate(self.leaders):
            trainer = self.trainers[number]
            for config in trainer.lr_scheduler_configs:
                if config.interval == interval and leader == number:
                    cast(Any, config.scheduler).step()
            if leader != number:
                trainer.optimizers[0].param_groups[0].update(_options(self.trainers[leader]))

    def write(self) -> None:
        """Give each schedule its state."""
        for number, leader in enumerate(self.leaders):
            if leader != number:
                for mine, its in zip(
                    self.trainers[number].lr_scheduler_configs, self.trainers[leader].lr_scheduler_configs
                ):
                    mine.scheduler.load_state_dict(deepcopy(its.scheduler.state_dict()))


def _options(trainer: L.Trainer) -> dict:
    return {key: value for key, value in trainer.optimizers[0].param_groups[0].items() if key != "params"}


def _moves_alike(one: L.Trainer, other: L.Trainer) -> bool:
    """Whether the schedules of two runs give the same numbers."""
    mine, its = one.lr_scheduler_configs, other.lr_scheduler_configs
    return (
        len(mine) == len(its)
        and _options(one) == _options(other)
        and all(
            type(a.scheduler) is type(b.scheduler)
            and a.interval == b.interval
            and a.scheduler.state_dict() == b.scheduler.state_dict()
            for a, b in zip(mine, its)
        )
    )
