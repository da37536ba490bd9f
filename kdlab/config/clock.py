"""The keys of a training's clock: ``trainer.max_epochs``, ``trainer.max_steps``, ``trainer.every_n_train_steps``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kdlab.schedules import is_schedule

from .keys import ADDED

#: Lightning's arguments that set when to validate, with their defaults
VALIDATION = {"check_val_every_n_epoch": 1, "val_check_interval": 1.0}


def leave_out_default_clock(config: dict) -> None:
    """Remove keys that were added later and have their defaults, so that a config of epochs alone does not change.

    >>> config = {"trainer": {"max_epochs": 2, "max_steps": -1, "every_n_train_steps": None}}
    >>> leave_out_default_clock(config)
    >>> config
    {'trainer': {'max_epochs': 2}}
    """
    trainer = config.get("trainer")
    for key in ("max_steps", "every_n_train_steps"):
        if isinstance(trainer, dict) and key in trainer and trainer[key] == ADDED[f"trainer.{key}"]:
            del trainer[key]


def clock_problems(config: dict, prefix: str) -> Iterator[str]:
    """The problems of the length of a training, and of its rows."""
    trainer, scheduler = (config[key] if isinstance(config.get(key), dict) else {} for key in ("trainer", "scheduler"))
    epochs, steps, every = trainer.get("max_epochs"), trainer.get("max_steps", -1), trainer.get("every_n_train_steps")
    if steps != -1 and not _counts(steps):
        yield f"{prefix}trainer.max_steps must be a whole number of at least 1, or -1 for no limit, got {steps!r}"
    elif epochs is None and steps == -1:
        yield (
            f"{prefix}trainer.max_epochs=null: without trainer.max_steps the training has no end; give one of them: "
            "trainer.max_epochs=40 or trainer.max_steps=1000"
        )
    if epochs is not None and not _counts(epochs):
        yield f"{prefix}trainer.max_epochs must be a whole number of at least 1, got {epochs!r}"
    if every is not None and not _counts(every):
        yield (
            f"{prefix}trainer.every_n_train_steps must be a whole number of optimiser steps of at least 1, or null for "
            f"a row an epoch, got {every!r}"
        )
    elif every is not None:
        for key in (key for key, default in VALIDATION.items() if trainer.get(key, default) != default):
            yield (
                f"{prefix}trainer.{key}={trainer[key]}: trainer.every_n_train_steps={every} says already when to "
                f"validate; leave one of the two out"
            )
    yield from _milestones(scheduler, epochs, steps, prefix)
    if epochs is not None or _counts(steps):
        unknown = list(_without_length(config.get("loss"), f"{prefix}loss"))
        # the weight of ce may be the complement of another weight; then the message names that one
        for key in [key for key in unknown if not key.endswith(".of")] or unknown:
            why = "has no value" + (", because trainer.max_epochs=null" if epochs is None else "")
            cure = (
                f"in optimiser steps: +{key}.steps={steps}" if epochs is None else f"in epochs: {key}.epochs={epochs}"
            )
            yield f"{key}.epochs {why}; give the schedule its length, for example {cure}"


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _milestones(scheduler: dict, epochs: Any, steps: Any, prefix: str) -> Iterator[str]:
    milestones, interval = scheduler.get("milestones"), scheduler.get("interval")
    key, end = ("max_epochs", epochs) if interval == "epoch" else ("max_steps", steps)
    if isinstance(milestones, list) and interval in ("epoch", "step") and milestones and _counts(end):
        if min(milestones) >= end:
            yield (
                f"{prefix}scheduler.milestones={milestones}: none of them comes before trainer.{key}={end}, so "
                "the rate would never change"
            )


def _without_length(node: object, key: str) -> Iterator[str]:
    """The dotted keys of the schedules whose length has no value."""
    for name, value in node.items() if isinstance(node, dict) else ():
        if is_schedule(value) and "epochs" in value and value["epochs"] is None and value.get("steps") is None:
            yield f"{key}.{name}"
        yield from _without_length(value, f"{key}.{name}")
