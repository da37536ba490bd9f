"""Recorder: the callback that keeps a run's curve and checkpoints at the end of every row: of every epoch, or of every
n optimiser steps (:mod:`kdlab.training.clock`)."""

from __future__ import annotations

import time
from typing import cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from kdlab.measure import memory
from kdlab.runs.curve import MetricsFile, Observe
from kdlab.runs.files import link
from kdlab.runs.run import Run
from kdlab.strategies import Strategy

from .clock import Clock

STATE = "kdlab.Recorder"  # the key of its state among the callbacks' in a checkpoint


def recorded(content: dict) -> dict:
    """The Recorder's state in a checkpoint: the rows of the curve so far, the best score, whether the training was
    stopped there.

    Raises:
        LookupError: there is none: something else has written the checkpoint.
    """
    callbacks = content.get("callbacks") if isinstance(content, dict) else None
    state = callbacks.get(STATE) if isinstance(callbacks, dict) else None
    rows = state.get("rows") if isinstance(state, dict) else None
    if (
        not isinstance(state, dict)
        or not isinstance(rows, list)
        or not rows
        or not all(isinstance(row, dict) and "epoch" in row for row in rows)
        or "stopped" not in state
    ):
        raise LookupError("it holds no state of kdlab's Recorder")
    return state


class Recorder(Checkpoint):
    """Writes a row of metrics.csv at the end of every epoch (or of every n steps), then ``last.ckpt``, and
    ``best.ckpt`` if validation is the best so far.

    The rows are in the checkpoint too, so a resumed run begins its file with those of its checkpoint. A new best is
    written as ``best.ckpt`` and then linked to ``last.ckpt``. If the run is killed between the two, it resumes before
    this row, repeats it, and finds the same best.

    It is a ``Checkpoint`` because Lightning calls these after all callbacks that log.

    Args:
        run: where it is kept.
        monitor: the metric that chooses the best.
        higher_is_better: whether more of it is better.
        lines: print a line per row.
        label: prefix of each line.
        observe: called once the row is saved.
        clock: says when a row ends.
    """

    def __init__(
        self,
        run: Run,
        monitor: str,
        higher_is_better: bool,
        lines: bool,
        label: str = "",
        observe: Observe | None = None,
        clock: Clock | None = None,
    ):
        self.clock = clock or Clock(None)
        self.run, self.monitor, self.higher_is_better, self.lines, self.label = (
            run,
            monitor,
            higher_is_better,
            lines,
            label,
        )
        self.observe = observe
        self.best: float | None = None
        self.stopped = False
        #: over all epochs, and the largest of all processes
        self.peak_memory_bytes: int | None = None
        self.peak_memory_of: str | None = None
        self.file = MetricsFile(run.metrics_file)
        self._began = 0.0

    @property
    def state_key(self) -> str:
        """The key of its state among the callbacks' in a checkpoint."""
        return STATE

    def state_dict(self) -> dict:
        """The state for the checkpoint: rows, best score, whether training was stopped, peak memory in bytes."""
        return {
            "best": self.best,
            "rows": self.file.rows,
            "stopped": self.stopped,
            "peak_memory_bytes": self.peak_memory_bytes,
            "peak_memory_of": self.peak_memory_of,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of a checkpoint. Checkpoints without peak memory are accepted."""
        self.best, self.file.rows, self.stopped = state["best"], list(state["rows"]), state["stopped"]
        self.peak_memory_bytes, self.peak_memory_of = state.get("peak_memory_bytes"), state.get("peak_memory_of")

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin to measure the peak memory, and to time the first row."""
        memory.begin(module.device)
        self._began = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin to time the epoch."""
        if self.clock.every is None:
            self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Record the epoch, where a row ends with it."""
        if self.clock.row_is_due(trainer):
            self.record(trainer, cast(Strategy, module))

    def record(self, trainer: L.Trainer, module: Strategy, seconds: float | None = None) -> None:
        """Save the row and the checkpoints, print its line, and call ``observe``.

        Args:
            seconds: that the row took; None: the time since it was begun.

        Raises:
            FloatingPointError: weights are no longer finite; the row is not saved.
        """
        done, whole = self.clock.place(trainer)
        unit = self.clock.unit
        seconds = time.perf_counter() - self._began if seconds is None else seconds
        # not the loss: with a loss scaler it may overflow in a step that is then skipped
        if not all(bool(torch.isfinite(value).all()) for value in module.parameters()):
            raise FloatingPointError(
                f"the training diverged in {unit} {done}: weights are no longer finite numbers; "
                "a smaller optimizer.lr or trainer.gradient_clip_val=1 may help"
            )
        values = module.epoch_values
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            **values,
            "learning_rate": rate,
            "seconds": seconds,
        }
        self.stopped = trainer.should_stop  # a callback (early stopping) has ended the training here
        self.file.rows.append(row)
        self._measure_memory(trainer, module)
        if trainer.is_global_zero:
            self.file.write()
        score = values.get(self.monitor)  # None in an epoch without validation (trainer.check_val_every_n_epoch)
        improved = score is not None and (
            self.best is None or (score > self.best if self.higher_is_better else score < self.best)
        )
        if improved:
            self.best = score
            trainer.save_checkpoint(self.run.checkpoint("best"))
            if trainer.is_global_zero:
                link(self.run.checkpoint("best"), self.run.checkpoint("last"))
        else:
            trainer.save_checkpoint(self.run.checkpoint("last"))
        if self.lines and trainer.is_global_zero:
            parts = "  ".join(
                f"{key.removeprefix('train/')} {value:.4f}"
                for key, value in values.items()
                if key.startswith("train/loss")
            )
            validated = "" if score is None else f"  {self.monitor} {score:.4f}{' (best)' if improved else ''}"
            # epochs that steps end: the last one may be a part of an epoch
            steps = (
                f" (step {trainer.global_step}/{int(trainer.estimated_stepping_batches)})"
                if unit == "epoch" and trainer.max_steps != -1
                else ""
            )
            print(
                f"{self.label}{unit} {done}/{whole}{steps}  {parts}{validated}  {seconds:.1f} s",
                flush=True,
            )
        if self.observe is not None and trainer.is_global_zero:
            self.observe(done, whole, row, unit)
        if self.clock.every is not None:
            module.begin_row()
            self._began = time.perf_counter()

    def _measure_memory(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note the peak memory so far, in bytes; not in the rows, which hold the curve."""
        used, whose = memory.peak(module.device), memory.whose(module.device)
        if used is None:
            return
        used = int(trainer.strategy.reduce(torch.tensor(used, device=module.device), reduce_op="max"))
        # a run may be resumed on another device
        before = self.peak_memory_bytes if whose == self.peak_memory_of else None
        self.peak_memory_bytes, self.peak_memory_of = max(used, before or 0), whose
