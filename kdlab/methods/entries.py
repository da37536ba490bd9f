"""The index: losses, strategies, and the pieces that no strategy names."""

from __future__ import annotations

import functools

from kdlab import functional
from kdlab.config.compose import compose, own_hydra, sharing_teachers
from kdlab.config.paths import conf_dir
from kdlab.config.presets import presets_of
from kdlab.errors import InputError, did_you_mean
from kdlab.functional.sources import FAMILIES, method_of

from .losses import Entry, of_loss_file
from .strategies import StrategyEntry, strategy_entries


@functools.lru_cache
def index() -> dict[str, Entry | StrategyEntry]:
    """Every method by its name, in the order of the families, then of the years. Functions that a strategy composes are
    part of its entry. Functions that no loss and no strategy uses are entries of their own.

    Raises:
        InputError: a loss of ``conf/loss/`` names no pure function, or one without its paper; or a loss and a strategy
            have one name.
    """
    paths = sorted((conf_dir() / "loss").glob("*.yaml"))
    with own_hydra(), sharing_teachers():  # set up once, the default teacher composed once
        # the terms state different weights of ce
        config = compose([f"loss=[{','.join(path.stem for path in paths)}]", "loss.ce.weight=1.0"])
        strategies = strategy_entries(conf_dir() / "strategy")
    losses = [
        of_loss_file(path, config["loss"][path.stem], presets_of(path.stem, conf_dir() / "preset")) for path in paths
    ]
    found: dict[str, Entry | StrategyEntry] = {entry.name: entry for entry in losses}
    used = {entry.function for entry in losses}
    twice = sorted(set(found) & set(strategies))
    if twice:
        raise InputError(
            f"conf/loss/{twice[0]}.yaml and conf/strategy/{twice[0]}.yaml: a loss and a strategy must have different "
            "names"
        )
    found |= strategies
    used |= {function for entry in strategies.values() for function in entry.composes}
    found |= {name: entry for name, entry in _pieces().items() if entry.function not in used}
    return dict(sorted(found.items(), key=_order))


def lookup(name: str) -> Entry | StrategyEntry:
    """The method of that name, or the function that a strategy composes. Raises InputError, with the nearest names,
    where there is none."""
    entries = pieces_of_strategies() | index()
    if name not in entries:
        raise InputError(f"there is no method '{name}'{did_you_mean(name, entries)} (kdlab methods lists them)")
    return entries[name]


def pieces_of_strategies() -> dict[str, Entry | StrategyEntry]:
    """The functions that strategies compose, by name."""
    return {name: entry for name, entry in _pieces().items() if entry.method.family == "strategy"}


def _pieces() -> dict[str, Entry]:
    """The functions with a source, by name, each as an entry of its own."""
    functions = {name: getattr(functional, name) for name in functional.__all__}
    return {
        name: Entry(name, function, None, {}) for name, function in functions.items() if method_of(function) is not None
    }


def _order(item: tuple[str, Entry | StrategyEntry]) -> tuple:
    """Sort key: families, then years. The pieces for strategies come after the strategies."""
    name, entry = item
    family, paper = entry.method.family, entry.method.paper
    return FAMILIES.index(family), family == "strategy" and entry.kind == "piece", paper.year if paper else 0, name
