"""Callbacks for the tests of the direct step: they note every hook of a step, and log."""

import lightning as L
import torch

HOOKS = (
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_start",
    "on_train_epoch_end",
)
#: what was called, in order: the hook, optimiser steps done, batches ready
CALLS: list[tuple] = []
#: what the Trainer knew after each batch
LOGGED: list[dict] = []


class Watcher(L.Callback):
    """Notes each hook, and logs a number in every step."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        CALLS.append(("outputs", float(outputs["loss"]), batch.index.tolist(), batch_index))
        module.log("of_step", float(batch_index), on_step=True, on_epoch=True, batch_size=len(batch))
        LOGGED.append(dict(trainer.callback_metrics))


def _noting(name):
    def hook(self, trainer, module, *arguments):
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        CALLS.append((name, trainer.global_step, progress.ready, progress.started, progress.processed))

    return hook


for _name in HOOKS:
    if _name != "on_train_batch_end":
        setattr(Watcher, _name, _noting(_name))


class Skipping(L.Callback):
    """Ends each epoch at its third batch, as Lightning allows a strategy to do."""

    def on_train_start(self, trainer, module):
        usual = module.on_train_batch_start
        module.on_train_batch_start = lambda batch, number: -1 if number == 2 else usual(batch, number)


class OwnSGD(torch.optim.SGD):
    """An optimiser that is not torch's own: it could need a closure."""
