"""Optimiser and learning-rate schedule of a strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from kdlab.errors import KdlabError


def epochs_in_all(batches: int, accumulate: int, max_epochs: int | None, max_steps: int | None) -> int | None:
    """The epochs of a whole training, also the last one where it is not whole: ``max_epochs``, or as many as
    ``max_steps`` optimiser steps are, whichever is smaller. None or -1: no limit.

    Args:
        batches: that are trained on in an epoch.
        accumulate: batches that make an optimiser step.

    >>> epochs_in_all(10, 3, max_epochs=None, max_steps=9), epochs_in_all(10, 3, 2, 9), epochs_in_all(10, 3, 2, -1)
    (3, 2, 2)
    """
    limits = [max_epochs] if max_epochs is not None and max_epochs != -1 else []
    if max_steps is not None and max_steps != -1 and batches:
        limits.append(math.ceil(max_steps / math.ceil(batches / accumulate)))
    return min(limits, default=None)


def epochs_of(trainer: L.Trainer) -> int:
    """The epochs of a Trainer's whole training: see :func:`epochs_in_all`."""
    if trainer.max_steps == -1:
        return cast(int, trainer.max_epochs)
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()  # nothing is read: the number of batches in an epoch
    batches = cast(int, trainer.num_training_batches)  # infinite only for loaders without a length
    epochs = epochs_in_all(batches, trainer.accumulate_grad_batches, trainer.max_epochs, trainer.max_steps)
    return cast(int, epochs)  # max_steps is a limit


class Optimised(Protocol):
    """What an optimiser is made for: a strategy."""

    @property
    def trainer(self) -> L.Trainer:
        """The trainer, which knows how long the training is."""

    def parameter_groups(self) -> list[dict]:
        """The groups of parameters, each with its own options."""


@dataclass
class OptimizerRecipe:
    """How the optimiser is built once every parameter exists.

    Args:
        optimizer: called with ``params=``.
        scheduler: called with ``optimizer=`` (and the horizon); None for a constant rate.
        interval: ``epoch`` or ``step``: how often the schedule moves.
        horizon: the scheduler's argument that receives the number of intervals in the whole training (``T_max``,
            ``total_steps``); None where the scheduler has no such argument.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    scheduler: Callable | None = None
    interval: str = "epoch"
    horizon: str | None = None

    def rehearse(self) -> None:
        """Builds both for a dummy parameter, so that invalid options are found before anything is written."""
        self._schedule(self._tried(), intervals=100)

    def options(self) -> list[str]:
        """The names of the optimiser's options that a group of parameters may set for itself."""
        return sorted(self._tried().defaults)

    def keeps_rates(self) -> bool:
        """Whether a group of parameters keeps its own learning rate under the schedule."""
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
        optimizer = self.optimizer(params=groups)
        optimizer.param_groups[1]["lr"] = optimizer.param_groups[0]["lr"] / 2
        before = [group["lr"] for group in optimizer.param_groups]
        schedule = self._schedule(optimizer, intervals=100)
        return schedule is None or before[0] == 0 or len({group["lr"] for group in optimizer.param_groups}) == 2

    def refusal(self, options: Mapping[str, object]) -> str | None:
        """The optimiser's error for options that a group of parameters sets for itself; None if it accepts them."""
        try:
            self.optimizer(params=[torch.nn.Parameter(torch.zeros(1))], **options)
        except (ValueError, TypeError, KdlabError) as error:
            return str(error)
        return None

    def _tried(self) -> torch.optim.Optimizer:
        return self.optimizer(params=[torch.nn.Parameter(torch.zeros(1))])

    def _schedule(self, optimizer: torch.optim.Optimizer, intervals: int | None) -> Any:
        if self.scheduler is None:
            return None
        return self.scheduler(optimizer=optimizer, **({self.horizon: intervals} if self.horizon else {}))

    def configure(self, module: Optimised, monitor: str) -> OptimizerLRScheduler:
        """For Lightning: one optimiser over everything that is trainable in the strategy: students, connectors,
        attached parts.

        Args:
            module: the strategy.
            monitor: the metric that a schedule may wait for.
        """
        optimizer = self.optimizer(params=module.parameter_groups())
        if self.scheduler is None:
            return optimizer
        trainer = module.trainer
        intervals = epochs_of(trainer) if self.interval == "epoch" else int(trainer.estimated_stepping_batches)
        # only ReduceLROnPlateau reads the monitor
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": self._schedule(optimizer, intervals),
                "interval": self.interval,
                "monitor": monitor,
                "strict": False,  # in an epoch without validation nothing is there to follow
            },
        }
