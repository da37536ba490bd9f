"""The clock of a training: when a row of the curve ends, and how a run is resumed between two rows.

Without ``trainer.every_n_train_steps`` a row is an epoch. With it, a row is that many optimiser steps, also across
epochs: then validation, the row of metrics.csv, and the checkpoints come after every n-th step and at the end of the
training. Lightning's own ``val_check_interval`` counts batches, and its checkpoints inside an epoch do not resume to
the same bits; so its loops are told here when to validate and where to resume.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.trainer import call
from torch import Tensor

from kdlab.batch import Batch
from kdlab.strategies import Strategy, random_numbers
from kdlab.strategies.base import distributed
from kdlab.strategies.optimization import epochs_of

from .direct_step import DirectStep, needs_lightning

STATE = "kdlab.Clock"  # the key of its state among the callbacks' in a checkpoint


def trainer_arguments(trainer: dict) -> dict:
    """What Lightning's Trainer gets in addition to the config's ``trainer``. With a step clock, Lightning's callbacks
    (early stopping) must take a validation, not an epoch, as what they wait for."""
    every = trainer.get("every_n_train_steps")
    if every is None:
        return {}
    batches = every * (trainer.get("accumulate_grad_batches") or 1)
    return {"check_val_every_n_epoch": None, "val_check_interval": batches}


def unfit(strategy: Strategy) -> list[str]:
    """The problem of a strategy that may lose its state in a resume inside an epoch; empty if there is none."""
    kind = type(strategy)
    own = kind.on_train_epoch_start.__module__
    if own.partition(".")[0] == "kdlab" or kind.inside_epoch is not Strategy.inside_epoch:
        return []
    return [
        f"strategy: with trainer.every_n_train_steps a run may be resumed inside an epoch, which calls "
        f"on_train_epoch_start of {kind.__name__} again. Define inside_epoch(), which returns what it must not lose "
        "({} if nothing), and resume_inside_epoch(state, random); or leave trainer.every_n_train_steps out"
    ]


class Clock(L.Callback):
    """Says when a row of the curve ends, and keeps what a checkpoint inside an epoch needs.

    Args:
        every: optimiser steps of a row; None: a row is an epoch.
    """

    def __init__(self, every: int | None):
        self.every = every
        self._inside: list[dict] | None = None  # of each process, while a checkpoint inside an epoch is written
        self._resumed: list[dict] | None = None
        self._step: Callable[[Any], None]  # of the present epoch
        self._next: Tensor | None = None  # the samples of the first batch after a resume inside an epoch

    @property
    def unit(self) -> str:
        """What the training is counted in: ``step`` or ``epoch``."""
        return "epoch" if self.every is None else "step"

    @property
    def state_key(self) -> str:
        """The key of its state among the callbacks' in a checkpoint."""
        return STATE

    def state_dict(self) -> dict:
        """Empty in a checkpoint at the end of an epoch. Inside an epoch: for each process the states of its random
        number generators, and what its strategy adds."""
        return {} if self._inside is None else {"processes": self._inside}

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of a checkpoint inside an epoch."""
        self._resumed = state["processes"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Where steps alone end the training, tell Lightning how many epochs these are: its progress bar shows it."""
        if trainer.max_epochs == -1:
            trainer.fit_loop.max_epochs = epochs_of(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, batch_index: int
    ) -> None:
        """After a resume inside an epoch: raises RuntimeError where the first batch is not the one that comes next."""
        if self._next is not None and not torch.equal(self._next, batch.index.cpu()):
            raise RuntimeError(
                f"the run is resumed inside an epoch, and its data do not continue with batch {batch_index + 1}: a "
                "loader must take its batches from plan() of kdlab.data.loader.BatchLoader, which leaves out those "
                "that are done. fresh=true trains from the beginning"
            )
        self._next = None

    # -- what is asked -------------------------------------------------------------------------------------------------

    def place(self, trainer: L.Trainer) -> tuple[int, int]:
        """How many steps (or epochs) are done, with the present one, and how many the whole training has."""
        if self.every is None:
            return trainer.current_epoch + 1, epochs_of(trainer)
        return trainer.global_step, int(trainer.estimated_stepping_batches)

    def row_is_due(self, trainer: L.Trainer) -> bool:
        """Whether a row ends after the present batch (or epoch)."""
        if self.every is None:
            return True
        if self.ends(trainer):
            return True
        return not trainer.fit_loop.epoch_loop._should_accumulate() and trainer.global_step % self.every == 0

    def ends(self, trainer: L.Trainer) -> bool:
        """Whether the training ends after the present batch: all steps or epochs are done, or it is stopped."""
        last = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        return (
            steps_are_done(trainer)
            or (last and 0 < (trainer.max_epochs or 0) <= trainer.current_epoch + 1)
            or (trainer.should_stop and trainer.fit_loop._can_stop_early)
        )

    # -- Lightning's loops ---------------------------------------------------------------------------------------------

    def rule(self, trainer: L.Trainer, module: Strategy, record: Callable[[L.Trainer, Strategy], None]) -> None:
        """Let Lightning's loops follow this clock.

        Args:
            record: writes a row and its checkpoints.
        """
        # its methods are replaced below
        fit: Any = trainer.fit_loop
        epoch: Any = fit.epoch_loop
        if self.every is not None:
            module.row_is_due = lambda: self.row_is_due(trainer)
        load, begin, advance, end, check = (
            fit.load_state_dict,
            fit.on_advance_start,
            epoch.advance,
            epoch.on_advance_end,
            epoch._should_check_val_fx,
        )

        def load_state_dict(state: dict, prefix: str = "") -> None:
            load(state, prefix)
            progress = fit.epoch_progress.current
            if progress.processed == progress.ready:
                # the epoch is finished; with max_steps Lightning would repeat its end
                cast(Any, _Loop.restarting).fset(fit, False)

        def on_advance_start() -> None:
            inside = fit.restarted_mid_epoch
            begin()
            self._step = DirectStep(trainer, module) if needs_lightning(trainer, module) is None else advance
            if inside:
                self._resume(trainer, module)

        def advance_batch(fetcher: Any) -> None:
            if epoch.restarting:  # its counters are restored by now; Lightning would look for a validation to repeat
                epoch.restarting = False
            self._step(fetcher)

        def on_advance_end(fetcher: Any) -> None:
            if self.every is None and isinstance(self._step, DirectStep) and self._step.ends_quietly():
                self._step.end_quietly()
                return
            due = self.every is not None and self.row_is_due(trainer)
            random = random_numbers.states(module.device) if due else None
            end(fetcher)  # validates
            if random is not None:
                random_numbers.restore(random)  # a validation must not change what the networks draw
            if due and not epoch.done:  # otherwise the row is recorded at the end of the epoch
                module.follow_metric()
                state = move_data_to_device({"random": random, "strategy": module.inside_epoch()}, "cpu")
                self._inside = of_all_processes(state)
                record(trainer, module)
                self._inside = None

        def should_check_val(fetcher: Any) -> bool:
            if self.every is None:
                return check(fetcher) or (steps_are_done(trainer) and epoch._should_check_val_epoch())
            return trainer.enable_validation and self.row_is_due(trainer)

        fit.load_state_dict, fit.on_advance_start = load_state_dict, on_advance_start
        epoch.advance, epoch.on_advance_end, epoch._should_check_val_fx = (
            advance_batch,
            on_advance_end,
            should_check_val,
        )

    def _resume(self, trainer: L.Trainer, module: Strategy) -> None:
        """Continue inside an epoch: after the batches that are done."""
        fit: Any = trainer.fit_loop
        (loader,) = fit._combined_loader.flattened
        loader.sampler.skip(fit.epoch_loop.batch_progress.current.ready)
        self._next, _ = next(iter(loader.plan()))
        call._call_lightning_module_hook(trainer, "on_train_epoch_start")
        processes = self._resumed or []
        mine = processes[trainer.global_rank] if len(processes) == trainer.world_size else {}
        module.resume_inside_epoch(mine.get("strategy", {}), mine.get("random"))
        self._resumed = None


def of_all_processes(mine: dict) -> list[dict]:
    """What each process has, by rank."""
    if not distributed():
        return [mine]
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, mine)
    return found


def steps_are_done(trainer: L.Trainer) -> bool:
    """Whether ``trainer.max_steps`` is reached."""
    return 0 <= trainer.max_steps <= trainer.global_step
