"""Schedules: a number that changes while training. Any scalar of a loss can have one: its weight, its temperature.

In a config a schedule stands where the number would stand::

    loss.kd.weight={schedule: warmup, end: 0.9, epochs: 5}
    loss.kd.temperature={schedule: linear, start: 8, end: 2, epochs: 20}

A schedule is a function of the epoch alone, counted from 0 and fractional within an epoch, so it needs no state and
resumes exactly. With ``steps`` in place of ``epochs`` it is a function of the optimiser steps done::

    loss.kd.weight={schedule: linear, start: 0, end: 1, steps: 500}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any


class Schedule:
    """Base: ``schedule(epoch)`` is the value at a (fractional) number of epochs done, or of optimiser steps where
    :attr:`unit` is ``step``."""

    #: what is counted: ``epoch`` or ``step``
    unit = "epoch"

    def after(self, epochs: float, steps: int | None) -> float:
        """The value after ``epochs`` epochs, which are ``steps`` optimiser steps.

        >>> schedule({"schedule": "linear", "start": 0, "end": 1, "steps": 100}).after(epochs=3.5, steps=50)
        0.5

        Raises:
            ValueError: it counts steps, and their number is not given.
        """
        if self.unit == "epoch":
            return self(epochs)
        if steps is None:
            raise ValueError("a schedule counts optimiser steps, and their number is not given: advance(epoch, step)")
        return self(steps)

    def __call__(self, epoch: float) -> float:
        """The value at ``epoch``; a subclass must define it.

        Args:
            epoch: epochs done, from 0, with the part of the present one.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(epoch)")


def _length(epochs: float, name: str = "epochs") -> float:
    if not epochs > 0:
        raise ValueError(f"{name} must be greater than 0, got {epochs}")
    return float(epochs)


class Constant(Schedule):
    """Always ``value``."""

    def __init__(self, value: float):
        self.value = float(value)

    def __call__(self, epoch: float) -> float:
        """``value``, whatever the epoch."""
        return self.value


class Linear(Schedule):
    """From ``start`` to ``end`` in a straight line over ``epochs`` epochs, then ``end``.

    >>> Linear(start=8, end=2, epochs=10)(5.0)
    5.0
    """

    def __init__(self, start: float, end: float, epochs: float):
        self.start, self.end, self.epochs = float(start), float(end), _length(epochs)

    def __call__(self, epoch: float) -> float:
        """``start`` up to epoch 0, ``end`` from ``epochs`` on, and a straight line in between."""
        done = min(max(epoch / self.epochs, 0.0), 1.0)
        return self.start + (self.end - self.start) * done


class Cosine(Schedule):
    """From ``start`` to ``end`` on half a cosine over ``epochs`` epochs, then ``end``.

    >>> Cosine(start=1, end=0, epochs=10)(5.0)
    0.5
    """

    def __init__(self, start: float, end: float, epochs: float):
        self.start, self.end, self.epochs = float(start), float(end), _length(epochs)

    def __call__(self, epoch: float) -> float:
        """``start`` up to epoch 0, ``end`` from ``epochs`` on, and half a cosine in between."""
        done = min(max(epoch / self.epochs, 0.0), 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2


class WarmUp(Schedule):
    """``end * min(e / epochs, 1)`` with whole epochs e counted from 1, as DKD warms up (mdistiller, ``WARMUP``).

    >>> [WarmUp(end=1, epochs=4)(epoch) for epoch in (0.0, 0.9, 1.0, 7.0)]
    [0.25, 0.25, 0.5, 1.0]
    """

    def __init__(self, end: float, epochs: int):
        self.end, self.epochs = float(end), _length(epochs)

    def __call__(self, epoch: float) -> float:
        """The value of the epoch under way: it rises by ``end / epochs`` with each whole epoch until it is ``end``."""
        return self.end * min((math.floor(epoch) + 1) / self.epochs, 1.0)


class RampUp(Schedule):
    """From about 0 to ``end`` over ``epochs`` epochs, slowly at first, ``end * exp(-5 (1 - e / epochs)^2)``, as ONE
    lets the weight of its ensemble rise (Lan et al. 2018, https://arxiv.org/abs/1806.04606; in the authors' code whole
    epochs count, here their parts too).

    >>> [round(RampUp(end=1, epochs=80)(epoch), 4) for epoch in (0, 40, 80, 200)]
    [0.0067, 0.2865, 1.0, 1.0]
    """

    def __init__(self, end: float, epochs: float):
        self.end, self.epochs = float(end), _length(epochs)

    def __call__(self, epoch: float) -> float:
        """``end * exp(-5)`` at epoch 0, rising to ``end`` at ``epochs``, where it stays."""
        return self.end * math.exp(-5 * (1 - min(max(epoch / self.epochs, 0.0), 1.0)) ** 2)


class Stop(Schedule):
    """``value`` for ``epochs`` epochs, then 0: a teacher that is stopped early (Cho and Hariharan 2019,
    https://arxiv.org/abs/1910.01348).

    >>> Stop(value=0.9, epochs=2)(1.9), Stop(value=0.9, epochs=2)(2.0)
    (0.9, 0.0)
    """

    def __init__(self, value: float, epochs: float):
        self.value, self.epochs = float(value), _length(epochs)

    def __call__(self, epoch: float) -> float:
        """``value`` before ``epochs``, 0 from then on."""
        return self.value if epoch < self.epochs else 0.0


class Complement(Schedule):
    """One minus another schedule: Hinton's convention for the weight of the labels."""

    def __init__(self, of: Schedule):
        self.of, self.unit = of, of.unit

    def __call__(self, epoch: float) -> float:
        """One minus the other schedule's value at ``epoch``."""
        return 1.0 - self.of(epoch)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
    "warmup": WarmUp,
    "ramp_up": RampUp,
    "stop": Stop,
    "complement": Complement,
}


def is_schedule(value: object) -> bool:
    """Whether a config value is a schedule and not a number."""
    return isinstance(value, dict) and "schedule" in value


def schedule(node: Mapping[str, Any]) -> Schedule:
    """The schedule that a config node describes.

    >>> schedule({"schedule": "stop", "value": 1, "epochs": 3})(3)
    0.0
    >>> schedule({"schedule": "stop", "value": 1, "steps": 300}).unit
    'step'
    """
    arguments = {
        key: schedule(value) if is_schedule(value) else value for key, value in node.items() if key != "schedule"
    }
    steps: Any = arguments.pop("steps", None)
    if steps is None:
        return SCHEDULES[node["schedule"]](**arguments)
    made = SCHEDULES[node["schedule"]](**{**arguments, "epochs": _length(steps, "steps")})
    made.unit = "step"
    return made


def scheduled(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Schedule]]:
    """Every schedule that stands for a number in a node, or in a node inside it, by its dotted key.

    >>> [key for key, _ in scheduled({"weight": 1.0, "loss": {"temperature": {"schedule": "constant", "value": 2}}})]
    ['loss.temperature']
    """
    for key, value in node.items():
        if is_schedule(value):
            yield prefix + key, schedule(value)
        elif isinstance(value, dict):
            yield from scheduled(value, f"{prefix}{key}.")


def at(
    node: Mapping[str, Any], epoch: float, epochs: Mapping[str, float] | None = None, prefix: str = ""
) -> dict[str, Any]:
    """The node with numbers for its schedules: their values at ``epoch`` (or at that step, where they count steps), or
    at an epoch of its own for each dotted key in ``epochs``.

    >>> at({"loss": {"temperature": {"schedule": "linear", "start": 8, "end": 2, "epochs": 2}}}, 1.0)
    {'loss': {'temperature': 5.0}}
    """
    epochs = epochs or {}
    return {
        key: schedule(value)(epochs.get(prefix + key, epoch))
        if is_schedule(value)
        else at(value, epoch, epochs, f"{prefix}{key}.")
        if isinstance(value, dict)
        else value
        for key, value in node.items()
    }
