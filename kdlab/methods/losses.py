"""A method that is a term of a loss, or a function that strategies compose."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdlab.config.build import build
from kdlab.config.presets import Preset
from kdlab.config.tie import KEY
from kdlab.config.written import content
from kdlab.errors import InputError
from kdlab.functional.sources import Method, required_method
from kdlab.losses import Loss
from kdlab.schedules import at

from .docstrings import prose, told_by

#: kind of network -> the task to choose for it; a classifier needs no choice
TASKS = {"classifier": "", "multi-label": "multilabel", "regression": "regression"}


@dataclass(frozen=True)
class Entry:
    """One method.

    Args:
        name: the name in ``loss=[…]``; of a piece, the function's name.
        function: its mathematics.
        loss: the loss with its defaults; None for a piece.
        defaults: its YAML file without ``_target_``: the term's weight, and the loss's arguments.
        with_ce: the weight of ce in the file, unresolved; None where the file has none.
        presets: the numbers of the method in the protocols that kdlab knows.
    """

    name: str
    function: Callable
    loss: Loss | None
    defaults: dict[str, Any]
    with_ce: object = None
    presets: list[Preset] = field(default_factory=list)

    @property
    def method(self) -> Method:
        """Family, paper, verification and the networks it serves, as its function declares them."""
        return required_method(self.function)

    @property
    def kind(self) -> str:
        """A ``loss``, or a ``piece`` that strategies compose."""
        return "piece" if self.loss is None else "loss"

    @property
    def documented(self) -> Callable:
        """The object whose docstring has the formula."""
        return self.function

    @property
    def where(self) -> str:
        """The places in the code."""
        loss = (
            f"   loss: kdlab.losses.{type(self.loss).__name__}   file: conf/loss/{self.name}.yaml"
            if self.loss is not None
            else ""
        )
        return f"function: kdlab.functional.{self.function.__name__}{loss}"

    @property
    def claims(self) -> dict[str, str]:
        """Repository -> the entries of tests/golden that are compared with it, separated by blanks."""
        return dict(self.method.verified)

    @property
    def brief(self) -> str:
        """The line of the list."""
        return str(self.method.paper)

    @property
    def needs(self) -> list[str]:
        """What it needs from a training step."""
        if self.loss is None:
            return ["a strategy that calls it"]
        taps = [
            f"{role}'s {', '.join(names)}"
            for role, names in (("student", self.loss.student_taps), ("teacher", self.loss.teacher_taps))
            if names
        ]
        wanted = {
            "teacher": self.loss.needs_teacher,
            "target": self.loss.needs_target,
            "index": self.loss.needs_index,
            "two views": self.loss.views == 2,
            "a student as wide as its teacher": self.loss.needs_equal_widths,
        }
        return [*(name for name, asked in wanted.items() if asked), *(taps or ["logits"])]

    @property
    def parameters(self) -> dict[str, Any]:
        """Names and defaults: those of the YAML file; of a piece, those of the function."""
        if self.loss is not None:
            return self.defaults
        given = inspect.signature(self.function).parameters.values()
        return {parameter.name: parameter.default for parameter in given if parameter.default is not parameter.empty}

    @property
    def notes(self) -> str:
        """Notes on the loss in addition to the formula; empty for most."""
        text = prose(inspect.cleandoc(type(self.loss).__doc__ or "")) if self.loss is not None else ""
        return text if "\n" in text else ""

    @property
    def example(self) -> str:
        """A command that trains with it; empty for a piece, and for a loss that reads modules of the user's own
        networks."""
        task = next((task for kind, task in TASKS.items() if kind in self.method.serves), None)
        if self.loss is None or task is None:
            return ""
        numbers = [
            f" loss.{self.name}.{key}={value}" for key, value in self.defaults.items() if isinstance(value, float)
        ]
        number = numbers[min(1, len(numbers) - 1)] if numbers else ""  # a parameter of its own rather than the weight
        wide = "student=cnn_wide" if self.loss.needs_equal_widths else "student=cnn"
        networks = f""" {wide} 'teacher.overrides=["student=cnn_wide"]'""" if self.loss.student_taps else ""
        labels = {"": "ce", "multilabel": "bce", "regression": "mse"}[task]
        losses = self.name if self.name == labels else f"{labels},{self.name}"
        chosen = f" task={task}" if task else ""
        return f"kdlab train{chosen} 'loss=[{losses}]'{number}{networks}"

    def described(self) -> dict[str, str]:
        """Parameter -> its description in the docstrings of the function, the class and its bases."""
        return {
            "weight": "the term's weight in the total",
            **told_by(self.function, *reversed(type(self.loss).__mro__)),
        }


def of_loss_file(path: Path, arguments: dict[str, Any], presets: Sequence[Preset] = ()) -> Entry:
    """The method of a file of ``conf/loss/``.

    Args:
        arguments: the node as it is composed.
        presets: of the method.
    """
    # unresolved: a value that is tied to another key (the weight of ce) is shown as a reference
    [(name, written)] = content(path).items()
    loss = build(at({key: value for key, value in arguments.items() if key != "weight"}, 0.0), f"loss.{name}")
    function = getattr(loss, "function", None)
    if function is None or not hasattr(function, "method"):
        raise InputError(
            f"loss.{name}: {type(loss).__name__} names no pure function that knows its paper "
            "(kdlab.functional.sources.method)"
        )
    defaults = {key: value for key, value in written.items() if key not in ("_target_", KEY)}
    return Entry(name, function, loss, defaults, written.get(KEY), list(presets))
