"""Optimiser and learning-rate schedule of a strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import lightning as L
import torch


@dataclass
class OptimizerRecipe:
    """How to make the optimiser once every parameter exists.

    Args:
        optimizer: called with ``params=``.
        scheduler: called with ``optimizer=`` (and the horizon); None for a constant rate.
        interval: ``epoch`` or ``step``: how often the schedule moves.
        horizon: the scheduler's argument that receives the number of intervals in the whole training (``T_max``, ``total_steps``);
            None where the scheduler has no such argument.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    scheduler: Callable | None = None
    interval: str = "epoch"
    horizon: str | None = None

    def configure(self, module: L.LightningModule):
        """For Lightning: one optimiser over everything that is trainable in the strategy: students, connectors, attached parts."""
        optimizer = self.optimizer(params=[parameter for parameter in module.parameters() if parameter.requires_grad])
        if self.scheduler is None:
            return optimizer
        trainer = module.trainer
        intervals = trainer.max_epochs if self.interval == "epoch" else int(trainer.estimated_stepping_batches)
        horizon = {self.horizon: intervals} if self.horizon else {}
        scheduler = self.scheduler(optimizer=optimizer, **horizon)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}
