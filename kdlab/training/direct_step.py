"""DirectStep: a training step of Lightning's loop that calls only what this run has.

For a small network, Lightning's way to a step costs more than the step: it visits every hook of every callback, the
precision plugin, the wrapper of the optimiser, the profiler and the loggers, also where none of them does anything. The
order of what is called, the counters and the results are Lightning's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from kdlab.batch import Batch
from kdlab.errors import EndedEarly
from kdlab.strategies import Strategy
from kdlab.strategies.base import refuse_other_batches

#: of an epoch that a hook ends early
SKIPPED = (
    "on_train_batch_start returned -1, which ends an epoch early; return None, or set trainer.should_stop to end the "
    "training"
)
#: what a class may define in Lightning's place, and the direct step would not call
_MODULE = ("backward", "configure_gradient_clipping", "optimizer_step", "optimizer_zero_grad")
_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_TRANSFER = ("on_before_batch_transfer", "on_after_batch_transfer", "transfer_batch_to_device")


def needs_lightning(trainer: L.Trainer, module: Strategy) -> str | None:
    """Why this run needs Lightning's own step; None where the direct step does the same.

    Args:
        trainer: with its optimisers.
    """
    precision, optimizers = trainer.precision_plugin, trainer.optimizers
    kind: Any = type(optimizers[0]) if optimizers else None
    if type(trainer.strategy) is not SingleDeviceStrategy:
        return f"of its strategy {type(trainer.strategy).__name__}"
    if type(precision) is not Precision and (type(precision) is not MixedPrecision or precision.scaler is not None):
        return f"of its precision {precision.precision}"
    if trainer.accumulate_grad_batches != 1:
        return "it accumulates gradients"
    profiler: Any = vars(trainer)["profiler"]
    if type(profiler) is not PassThroughProfiler:
        return "of its profiler"
    if not module.automatic_optimization or len(optimizers) != 1:
        return "the strategy steps its optimisers itself"
    if getattr(trainer.fit_loop.epoch_loop.automatic_optimization, "_skip_backward", False):
        return "this epoch has no backward pass"
    # others may need a closure, or call it more than once
    if not kind.__module__.startswith("torch.optim.") or kind is torch.optim.LBFGS:
        return f"of its optimiser {kind.__name__}"
    if type(module).training_step is not Strategy.training_step:
        return f"{type(module).__name__} defines training_step"
    for owner, base, names in (
        (module, L.LightningModule, _MODULE + _TRANSFER),
        (getattr(trainer, "datamodule", None), L.LightningDataModule, _TRANSFER),
    ):
        for name in names if owner is not None else ():
            if _defines(owner, base, name):
                return f"{type(owner).__name__} defines {name}"
    return None


class DirectStep:
    """The step of one epoch: see the module. It is made before the epoch's first batch, with the callbacks of then.

    Args:
        trainer: one for which :func:`needs_lightning` is None.
    """

    def __init__(self, trainer: L.Trainer, module: Strategy):
        self._trainer, self._module = trainer, module
        self._epoch: Any = trainer.fit_loop.epoch_loop
        self._hooks = {name: self._hook(name) for name in _HOOKS}
        plugin = trainer.precision_plugin
        self._context = contextlib.nullcontext if type(plugin) is Precision else plugin.train_step_context
        self._moves = module.device.type != "cpu"
        schedules = trainer.lr_scheduler_configs
        self._rate_moves = any(config.interval == "step" for config in schedules)
        whole: Any = trainer.num_training_batches
        validates_at_the_end = trainer.check_val_every_n_epoch and trainer.val_check_batch == whole
        follows_a_metric = any(config.reduce_on_plateau for config in schedules)
        #: only a batch before this one may end quietly
        self._batches = whole if validates_at_the_end and not follows_a_metric else 0

    def __call__(self, fetcher: Any) -> None:
        """Train on the next batch.

        Raises:
            StopIteration: the data end before the epoch.
            EndedEarly: ``on_train_batch_start`` returned -1.
        """
        epoch, hooks = self._epoch, self._hooks
        logged: Any = self._trainer._logger_connector
        progress = epoch.batch_progress
        if epoch.val_loop.restarting:
            epoch.val_loop.restarting = False
        batch, _, _ = next(fetcher)
        number = progress.current.ready
        progress.is_last_batch = fetcher.done
        refuse_other_batches(batch, "train")
        if self._moves:
            batch = batch.to(self._module.device)
        progress.increment_ready()
        logged.on_batch_start(batch)
        if hooks["on_train_batch_start"](batch, number) == -1:
            raise EndedEarly(SKIPPED)
        progress.increment_started()
        loss = self._optimise(batch, number)
        progress.increment_processed()
        if self._rate_moves:
            epoch.update_lr_schedulers("step", update_plateau_schedulers=False)
        if epoch._num_ready_batches_reached():
            epoch.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        hooks["on_train_batch_end"]({"loss": loss.detach()}, batch, number)
        if all(one.has_reset for one in epoch._results.values()):  # nothing has called log() in this epoch
            epoch._results.batch = None
            progress.increment_completed()
            return
        logged.on_batch_end()
        progress.increment_completed()
        logged.update_train_step_metrics()

    def ends_quietly(self) -> bool:
        """Whether nothing follows the batch: no validation, no end of an epoch or of the training. False where
        validation does not wait for the end of an epoch, or a schedule follows a metric."""
        trainer, progress = self._trainer, self._epoch.batch_progress
        return (
            progress.current.ready < self._batches
            and not progress.is_last_batch
            and trainer.max_steps == -1
            and not trainer.should_stop
            and not trainer.received_sigterm
        )

    def end_quietly(self) -> None:
        """What Lightning counts at the end of such a batch."""
        self._epoch._batches_that_stepped += 1

    def _optimise(self, batch: Batch, number: int) -> Tensor:
        """The loss of a batch, after the optimiser's step."""
        hooks, trainer, module = self._hooks, self._trainer, self._module
        done, optimizer = self._epoch.automatic_optimization.optim_progress.optimizer, trainer.optimizers[0]
        done.step.increment_ready()
        module.__dict__["_current_fx_name"] = "training_step"  # for a log() in it
        with self._context():
            loss = module.training_step(batch, number)
        module.__dict__["_current_fx_name"] = None
        done.zero_grad.increment_ready()
        hooks["on_before_zero_grad"](optimizer)
        done.zero_grad.increment_started()
        optimizer.zero_grad()
        done.zero_grad.increment_completed()
        hooks["on_before_backward"](loss)
        loss.backward()
        hooks["on_after_backward"]()
        hooks["on_before_optimizer_step"](optimizer)
        if trainer.gradient_clip_val:
            module.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        optimizer.step()
        done.step.increment_completed()
        return loss

    def _hook(self, name: str) -> Callable[..., Any]:
        """What the callbacks and the strategy define of a hook, in Lightning's order, as one function. It returns what
        the strategy's returns."""
        trainer, module = self._trainer, self._module
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
        others = [getattr(one, name) for one in callbacks if _defines(one, L.Callback, name)]
        own = getattr(module, name) if _defines(module, L.LightningModule, name) else None
        if own is None and not others:
            return _nothing

        def run(*arguments: Any) -> Any:
            module.__dict__["_current_fx_name"] = name  # for a log() in it; through the module it takes 5 times as long
            for other in others:
                other(trainer, module, *arguments)
            answer = None if own is None else own(*arguments)
            module.__dict__["_current_fx_name"] = None
            return answer

        return run


def _nothing(*arguments: Any) -> None:
    """A hook that nobody defines."""


def _defines(one: object, base: type, name: str) -> bool:
    """Whether an object has its own of a base class's method."""
    return name in vars(one) or getattr(type(one), name) is not getattr(base, name)
