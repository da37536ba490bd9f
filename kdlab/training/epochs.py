"""Whole epochs: an epoch that one of Lightning's loops ended early is an error, not a result."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from kdlab.errors import EndedEarly, ended_early

from .clock import Clock, steps_are_done
from .direct_step import SKIPPED
from .evaluation import short_of

_LIGHTNING = str(Path(L.__file__).parent)


def refuse_early_ends(trainer: L.Trainer) -> None:
    """Let StopIteration fail the training where a step, a hook, a callback or the data raise it.

    Lightning's loops take it for the end of the data and continue with the next epoch. Here data never end by it: a
    loop requests ``len(loader)`` batches.
    """
    fit = trainer.fit_loop
    epoch = fit.epoch_loop
    for loop, names in (
        (fit, ("on_advance_start", "advance", "on_advance_end")),
        (epoch, ("advance", "on_advance_end")),
    ):
        for name in names:
            setattr(loop, name, _refusing(getattr(loop, name), trainer))
    # not the loop's whole run: there Lightning asks for one batch more than there are
    validation: Any = epoch.val_loop
    validation._evaluation_step = _refusing(validation._evaluation_step, trainer)


def _refusing(function: Callable, trainer: L.Trainer) -> Callable:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except StopIteration as error:
            raise EndedEarly(_message(error, trainer)) from error

    return call


def _message(error: StopIteration, trainer: L.Trainer) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1].filename
    if not place.startswith(_LIGHTNING):
        return str(ended_early(error))
    if place.endswith("training_epoch_loop.py"):
        return SKIPPED
    return short_of("train", trainer.fit_loop.epoch_loop.batch_progress.current.ready, trainer.num_training_batches)


def may_end(trainer: L.Trainer) -> bool:
    """Whether the training may end now, even in the middle of an epoch: ``trainer.max_steps`` is reached, or a callback
    has stopped it (``trainer.max_time``, early stopping)."""
    return steps_are_done(trainer) or trainer.should_stop and trainer.fit_loop._can_stop_early


class WholeEpochs(L.Callback):
    """Counts the batches of an epoch, and fails the training before an incomplete epoch is recorded.

    An epoch is whole if it has all its training batches (as many as ``trainer.limit_train_batches`` allows), and, where
    validation is due (``trainer.check_val_every_n_epoch``), a validation with all its batches. The last epoch may be
    cut short: see :func:`may_end`. With a step clock (:mod:`kdlab.training.clock`) a row has a validation, and not an
    epoch.

    Raises:
        EndedEarly: by its hooks.
    """

    def __init__(self, clock: Clock | None = None):
        self._clock = clock or Clock(None)
        self._trained = self._validated = self._validations = 0
        self._validated_step: int | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Count the batches that are done where the run is resumed inside an epoch."""
        if trainer.fit_loop.restarted_mid_epoch:
            self._trained = trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Set the counts of training batches and of validations to 0."""
        self._trained = self._validations = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Count a training batch."""
        self._trained += 1

    def on_validation_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Set the count of validation batches to 0."""
        self._validated = 0

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_index: int,
        loader_index: int = 0,
    ) -> None:
        """Count a validation batch."""
        self._validated += 1

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Count a validation. Raises EndedEarly where it lacks batches."""
        planned = sum(trainer.num_val_batches)
        if self._validated < planned:
            raise EndedEarly(short_of("validation", self._validated, planned))
        self._validations += 1
        self._validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Raises EndedEarly where the epoch lacks training batches or a validation that was due."""
        if may_end(trainer):
            return
        epoch = trainer.current_epoch + 1
        if self._trained < trainer.num_training_batches:
            raise EndedEarly(
                f"epoch {epoch} has {self._trained} of its {trainer.num_training_batches} training batches; "
                "something ended it early"
            )
        if self._clock.every is not None and self._clock.row_is_due(trainer):
            self.check_row(trainer)
        if self._validation_is_due(trainer) and not self._validations:
            raise EndedEarly(
                f"epoch {epoch} has no validation, although one was due; something ended the epoch before it"
            )

    def check_row(self, trainer: L.Trainer) -> None:
        """Raises EndedEarly where the row that ends with this step lacks its validation."""
        planned = trainer.enable_validation and sum(trainer.num_val_batches) > 0
        if planned and self._validated_step != trainer.global_step:
            raise EndedEarly(
                f"step {trainer.global_step} has no validation, although one was due; something ended it early"
            )

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Raises EndedEarly where epochs or steps are missing and nothing has asked for the end."""
        epochs = trainer.max_epochs
        if epochs is not None and trainer.current_epoch < epochs and not may_end(trainer):
            if trainer.max_steps == -1:
                done = f"{trainer.current_epoch} of {epochs} epochs"
            else:
                done = f"{trainer.global_step} of {int(trainer.estimated_stepping_batches)} steps"
            raise EndedEarly(f"the training ended after {done}, and nothing asked for that")

    def _validation_is_due(self, trainer: L.Trainer) -> bool:
        every, after = trainer.check_val_every_n_epoch, trainer.val_check_batch
        return (
            trainer.enable_validation
            and sum(trainer.num_val_batches) > 0
            and every is not None
            and (trainer.current_epoch + 1) % every == 0
            and after is not None
            and self._trained >= after
        )
