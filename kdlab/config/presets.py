"""Presets: the numbers of a method in one protocol, ``conf/preset/<method>/<protocol>.yaml``.

A preset holds only numbers of loss terms. It begins with ``# @package loss``. The comment at its head describes it,
with the source of each number (``# source: LINK#L12``). Hydra puts it after the strategy and before the experiment, so
the precedence is: command line, experiment, preset, strategy.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf, open_dict

from kdlab.errors import InputError
from kdlab.schedules import SCHEDULES, is_schedule

from .quoting import value_text
from .signature import signature
from .written import as_dict, content, find

PACKAGE = "# @package loss"
SOURCE = "# source:"
NONE = "none"


@dataclass(frozen=True)
class Preset:
    """One file.

    Args:
        name: the value in ``preset=…``.
        title: the comment at its head, without the sources.
        sources: links, each with the lines.
        terms: term -> its numbers.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    terms: dict[str, dict] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The terms that must be chosen. ``ce`` may be left out; then its weight is ignored."""
        return [name for name in self.terms if name != "ce"]


def read(path: Path, name: str) -> Preset:
    """A preset's file.

    Raises:
        InputError: it does not begin with ``# @package loss``, or holds anything but terms of the loss.
    """
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    terms = content(path)
    wrong = [key for key, node in terms.items() if not isinstance(node, dict)]
    if head[:1] != [PACKAGE] or wrong:
        raise InputError(
            f"preset={name}: {path} must begin with the line '{PACKAGE}' and hold numbers of loss terms alone, for "
            f"example 'dkd: {{beta: 0.5}}'{f'; it has {wrong[0]!r}' if wrong else ''}"
        )
    text = " ".join(line.removeprefix("#").strip() for line in head if not line.startswith((SOURCE, "# @package")))
    return Preset(
        name, text, tuple(line.removeprefix(SOURCE).strip() for line in head if line.startswith(SOURCE)), terms
    )


def presets_of(method: str, folder: Path) -> list[Preset]:
    """The presets of a method in ``folder/<method>``, sorted by name."""
    return [read(path, f"{method}/{path.stem}") for path in sorted((folder / method).glob("*.yaml"))]


def settle_presets(
    config: DictConfig, names: Sequence[str], sources: Iterable, typed: Sequence[str] = ()
) -> list[Preset]:
    """Refuse presets that do not fit the chosen losses, and remove their settings of ``ce`` where it is not chosen.

    Args:
        config: changed in place.
        names: of the chosen presets.
        sources: Hydra's search path.
        typed: the overrides of the command line.

    Raises:
        InputError: a preset gives numbers to a term that is not chosen, two give different numbers to one term, or a
            file is no preset.
    """
    sources = list(sources)
    files = [(name, find(sources, "preset", name)) for name in names]
    presets = [read(path, name) for name, path in files if path is not None]
    terms = config.get("loss")
    if "preset" in config:  # a file without its package
        raise InputError(
            f"preset={'the file of the preset' if not names else names[0]}: it must begin with the line '{PACKAGE}'"
        )
    if not isinstance(terms, DictConfig):
        return presets
    written = as_dict(terms, resolve=False)
    chosen = [name for name, node in written.items() if isinstance(node, dict) and "_target_" in node]
    problems = [_unfit(preset, chosen) for preset in presets if set(preset.methods) - set(chosen)]
    problems += _conflicts(presets)
    problems += _conflicts_of_ce(presets, written["ce"], typed) if "ce" in chosen else []
    if problems:
        raise InputError(*problems)
    theirs = as_dict(OmegaConf.merge(*(preset.terms.get("ce", {}) for preset in presets), {}), resolve=False)
    if theirs and "ce" not in chosen and written.get("ce") == theirs:
        with open_dict(config):
            terms.pop("ce", None)
    return presets


def _conflicts(presets: Sequence[Preset]) -> list[str]:
    """Presets that give different numbers to one method. Hydra would merge them into a mixture of both."""
    return [
        (
            f"preset={first.name} and preset={second.name} both give numbers to {term}, and not the same; leave one of "
            "them out"
        )
        for place, first in enumerate(presets)
        for second in presets[place + 1 :]
        for term in first.methods
        if term in second.terms and first.terms[term] != second.terms[term]
    ]


def _conflicts_of_ce(presets: Sequence[Preset], weighed: dict, typed: Sequence[str]) -> list[str]:
    """Different numbers for ``ce`` in several presets. Hydra would silently use the last one.

    Args:
        weighed: the composed value for ``ce``. If it is not the last preset's, it comes from an experiment or the
            command line.
        typed: the overrides of the command line.
    """
    own = {text.lstrip("+").partition("=")[0] for text in typed}
    problems = []
    for key in dict.fromkeys(key for preset in presets for key in preset.terms.get("ce", {})):
        given = {preset.name: preset.terms["ce"][key] for preset in presets if key in preset.terms.get("ce", {})}
        *_, last = given.values()
        settled = f"loss.ce.{key}" in own or weighed.get(key) != last
        if not settled and any(value != last for value in given.values()):
            each = ", ".join(f"preset={name}: {value_text(value)}" for name, value in given.items())
            cure = shlex.quote(f"loss.ce.{key}={value_text(last)}")
            problems.append(
                f"the presets give loss.ce.{key} different numbers ({each}); choose one, for example {cure}"
            )
    return problems


def _unfit(preset: Preset, chosen: Sequence[str]) -> str:
    missing = [name for name in preset.methods if name not in chosen]
    wanted = ["ce", *preset.methods]
    are = "is" if len(missing) == 1 else "are"
    return (
        f"preset={preset.name}: it gives numbers to {' and '.join(missing)}, which {are} not among the chosen losses "
        f"({', '.join(chosen) or 'none'}); choose them with 'loss=[{','.join(wanted)}]', or leave the preset out with "
        "preset=none"
    )


def holds_schedule(node: object) -> bool:
    """Whether a number of the terms has a schedule."""
    if not isinstance(node, DictConfig) or node._is_none():
        return False
    return any(
        "schedule" in child or holds_schedule(child)
        for _, child in node.items_ex(resolve=False)
        if isinstance(child, DictConfig) and not child._is_none()
    )


def replace_schedules(config: DictConfig, layers: Sequence[dict]) -> None:
    """Make a schedule replace one of another kind completely. Hydra merges the two; the remaining arguments of the
    first are removed here.

    Args:
        config: changed in place.
        layers: the terms in the files of lower precedence: term -> its node.

    >>> merged = {"schedule": "warmup", "start": 0.0, "end": 1.0, "epochs": 5}
    >>> config = OmegaConf.create({"loss": {"kd": {"weight": merged}}})
    >>> replace_schedules(config, [{"kd": {"weight": {"schedule": "linear", "start": 0.0, "end": 1.0, "epochs": 9}}}])
    >>> config
    {'loss': {'kd': {'weight': {'schedule': 'warmup', 'end': 1.0, 'epochs': 5}}}}
    """
    terms = config.get("loss")
    if OmegaConf.is_dict(terms):
        with open_dict(config):
            _replace(terms, as_dict(terms, resolve=False), layers)


def _replace(node: DictConfig, written: dict, layers: Sequence[dict]) -> None:
    for key, value in written.items():
        below = [layer[key] for layer in layers if isinstance(layer, dict) and isinstance(layer.get(key), dict)]
        if not below or not isinstance(value, dict):
            continue
        if not is_schedule(value):
            _replace(cast(DictConfig, node._get_node(key)), value, below)
        elif value["schedule"] in SCHEDULES:
            accepted = signature(f"kdlab.schedules.{SCHEDULES[value['schedule']].__name__}").accepted
            for name in set(value) - set(accepted) - {"schedule"}:
                if any(
                    layer.get("schedule") != value["schedule"] and layer.get(name) == value[name] for layer in below
                ):
                    del node[key][name]
