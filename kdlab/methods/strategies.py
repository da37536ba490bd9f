"""A method that is a strategy: who learns from whom, and from what losses."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kdlab import functional
from kdlab.config.compose import compose
from kdlab.config.signature import locate
from kdlab.config.written import content
from kdlab.functional.sources import Method, method_of, required_method
from kdlab.strategies import Strategy

from .docstrings import told_by

_WITHOUT_PAPER = Method("strategy", None, {}, ("classifier",))


@dataclass(frozen=True)
class StrategyEntry:
    """One strategy.

    Args:
        name: the name in ``strategy=…``.
        strategy: its class.
        method: its source: that of the class, unless this file is one of several ways to use the class.
        description: the comment at the head of its file.
        defaults: the arguments in its file.
        losses: the terms that it learns from by default -> their weights.
        needs_teacher: whether there is a teacher in addition to the networks that learn.
        composes: the functions of the family ``strategy`` that it calls.
    """

    name: str
    strategy: type[Strategy]
    method: Method
    description: str
    defaults: dict[str, Any]
    losses: dict[str, Any]
    needs_teacher: bool
    composes: tuple[Callable, ...]

    kind = "strategy"
    notes = ""

    @property
    def documented(self) -> type[Strategy]:
        """The class, whose docstring describes the strategy."""
        return self.strategy

    @property
    def where(self) -> str:
        """The places in the code: class and config file."""
        return f"class: {self.strategy.__module__}.{self.strategy.__name__}   file: conf/strategy/{self.name}.yaml"

    @property
    def claims(self) -> dict[str, str]:
        """Its own, and those of the functions that it composes."""
        found: dict[str, dict[str, None]] = {}
        for verified in (self.method.verified, *(required_method(function).verified for function in self.composes)):
            for repository, entries in verified.items():
                found.setdefault(repository, {}).update(dict.fromkeys(entries.split()))
        return {repository: " ".join(entries) for repository, entries in found.items()}

    @property
    def brief(self) -> str:
        """The line of the list: the paper; without one, the first line of its file's comment, or its class."""
        return (
            str(self.method.paper)
            if self.method.paper
            else self.description.splitlines()[0]
            if self.description
            else self.strategy.__name__
        )

    @property
    def needs(self) -> list[str]:
        """Whether it needs a teacher."""
        return ["teacher" if self.needs_teacher else "no teacher"]

    @property
    def parameters(self) -> dict[str, Any]:
        """Names and defaults of the arguments in its file."""
        return self.defaults

    @property
    def example(self) -> str:
        """A command that trains with it."""
        causal = " task=causal_lm data=sums student=llama 'loss=[forward_kl]'"
        return f"kdlab train strategy={self.name}" + causal * (self.method.serves == ("language model",))

    def described(self) -> dict[str, str]:
        """Parameter -> its description in the docstrings of the class and its bases."""
        return told_by(*reversed(self.strategy.__mro__))


def strategy_entries(folder: Path) -> dict[str, StrategyEntry]:
    """The strategies in a folder of YAML files, by name."""
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    nodes = {name: _node(path) for name, path in files.items()}
    classes = {name: cast(type[Strategy], locate(node["_target_"])) for name, node in nodes.items()}
    found = {}
    for name, path in files.items():
        strategy, config = classes[name], compose([f"strategy={name}"])
        # a class may serve several files; its paper is that of the file which is named as it is
        own = list(classes.values()).count(strategy) == 1 or name.replace("_", "") == strategy.__name__.lower()
        arguments = {key: value for key, value in nodes[name].items() if key != "_target_"}
        weights = {term: node.get("weight", 1.0) for term, node in config["loss"].items()}
        found[name] = StrategyEntry(
            name,
            strategy,
            (method_of(strategy) if own else None) or _WITHOUT_PAPER,
            _head(path),
            arguments,
            weights,
            config["teacher"] is not None,
            _composed(strategy, name),
        )
    return found


def _node(path: Path) -> dict[str, Any]:
    """The strategy's node of a file, as it is written."""
    written = content(path)
    return written["strategy"] if "strategy" in written else written


def _head(path: Path) -> str:
    """The comment at the head of a file, without Hydra's own lines."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return "\n".join(lines)


def _composed(strategy: type[Strategy], name: str) -> tuple[Callable, ...]:
    """The pieces that are named in the module of a strategy or of its bases; and the function that has its name."""
    found = {_function(getattr(functional, name, None)): None}
    for module in dict.fromkeys(
        base.__module__ for base in strategy.__mro__ if issubclass(base, Strategy) and base is not Strategy
    ):
        known = vars(sys.modules[module])
        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
            if isinstance(node, ast.Name):
                found[_function(known.get(node.id))] = None
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found[_function(getattr(known.get(node.value.id), node.attr, None))] = None
    return tuple(
        function
        for function in found
        if function is not None and (method := method_of(function)) is not None and method.family == "strategy"
    )


def _function(thing: object) -> Callable | None:
    return thing if inspect.isfunction(thing) else None
