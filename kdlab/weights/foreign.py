"""The weights of one network in a file of another project: only a part that fits the network exactly is taken, never a
guess.

A file may hold its weights below keys (``{"state_dict": …}``, ``{"net": …}``, one level further), under names with a
prefix (``module.`` of DataParallel, ``model.`` of Lightning, ``_orig_mod.`` of torch.compile), for several networks
(student and teacher of a distillation), and as an average in addition to the plain weights. A *part* of a file is a
table of tensors in it and a prefix of their names. It is written as the keys and the prefix, joined by dots:
``state_dict.student``. Only a part that fits the network exactly, by names and shapes, is loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from kdlab.config.quoting import typed
from kdlab.errors import InputError

from .fit import OtherClasses, misfits, other_classes
from .reading import StandIn, whole_network

#: what wrappers insert into the names of the wrapped network, at any place
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
#: counters that old files lack or that profilers leave; they do not affect the outputs
COUNTER, PROFILED = "num_batches_tracked", ("total_ops", "total_params")
_AVERAGE = re.compile(r"(^|[._])(ema|swa|averaged?|shadow)([._]|$)", re.IGNORECASE)
_OF_OPTIMIZERS = re.compile(r"optim|sched|scaler|state\.", re.IGNORECASE)
DEEPEST = 4
Place = tuple[str, ...]  # the keys of a file, from the outermost on


class WrongClasses(InputError):
    """A file holds weights that fit, except for the number of classes."""

    def __init__(self, message: str, other: OtherClasses):
        super().__init__(message)
        self.other = other


@dataclass
class Part:
    """Weights that fit a network.

    ``place`` holds the keys of the file. ``prefix`` was removed from the names, ``added`` was put before them. ``rest``
    names what else the file holds. ``lacking`` and ``excess`` are counters that the file lacks or has in excess.
    ``other`` is a head for another number of classes, which is not among the weights.
    """

    place: tuple[str, ...]
    prefix: str
    weights: dict[str, Tensor]
    lacking: list[str]
    excess: list[str]
    other: OtherClasses | None
    rest: list[str]
    wrapped: bool = False
    added: str = ""

    @property
    def name(self) -> str:
        """The keys of the file and the prefix, joined by dots; empty where it is the whole file."""
        return ".".join(filter(None, (*self.place, self.prefix)))

    @property
    def average(self) -> bool:
        """Whether its name is that of averaged weights (EMA, SWA)."""
        return bool(_AVERAGE.search(self.name))


def weights_for(
    network: nn.Module, content: object, path: Path, key: str, part: str | None = None, new_head: bool = False
) -> Part:
    """The part of a file that fits a network exactly.

    Where several fit, plain weights are preferred to averages (EMA, SWA). If several plain ones fit, or only several
    averages, the user must choose one with ``part``.

    Args:
        content: of the file, by :func:`kdlab.weights.reading.read_checkpoint`.
        key: the config's key that names the file; the key of the part is its sibling.
        part: the name of the part to take; None: the one that fits.
        new_head: weights of another number of classes fit too; they come without their head.

    Raises:
        InputError: no part fits, or several do; its numbers are integers or not finite; as :class:`WrongClasses` where
            only the number of classes differs.
    """
    expected, tables = network.state_dict(), dict(_tables(content))
    if not tables:
        raise InputError(f"{key}: {_no_tables(content, path)}")
    fitting = [found for place, table in tables.items() for found in _parts(place, table, expected, new_head)]
    for found in fitting:
        found.rest += [".".join(place) for place, table in tables.items() if place != found.place and len(table) > 1]
    part_key = f"{key.rpartition('.')[0]}.part"
    if part is not None:
        chosen = [found for found in fitting if found.name == part]
        if not chosen:
            names = ", ".join(found.name or "null (all of it)" for found in fitting)
            raise InputError(
                f"{part_key}={part}: {path} has no such part that fits {type(network).__name__}; "
                + (f"these do: {names}" if names else closest(tables, expected))
            )
        return _usable(chosen[0], expected, path, key)
    several = _different([found for found in fitting if not found.average]) or _different(fitting)
    if not several:
        other = None if new_head else _other_classes(tables, expected)
        if other is not None:
            raise WrongClasses(
                f"{key}: {path} knows {other.theirs} classes ({other.names[0]}), "
                f"{type(network).__name__} has {other.ours}",
                other,
            )
        whole = _whole_network(content)
        raise InputError(
            f"{key}: {_of_whole(path, *whole)}"
            if whole
            else f"{key}: {path} does not fit {type(network).__name__}: {closest(tables, expected)}"
        )
    if len(several) > 1:
        lines = "".join(f"\n  {typed(part_key, found.name)}" for found in several if found.name)
        raise InputError(
            f"{key}: {path} holds {len(several)} networks that fit {type(network).__name__}; "
            f"add the one that is meant:{lines}"
        )
    return _usable(several[0], expected, path, key)


def _usable(part: Part, expected: Mapping[str, Tensor], path: Path, key: str) -> Part:
    """The part, if its numbers are weights. Integers in place of floats are no weights (a quantised network keeps its
    scales elsewhere). Nor are numbers that are not finite.

    Raises:
        InputError: they are not.
    """
    for name, value in part.weights.items():
        if not expected[name].is_floating_point():
            continue
        if not value.is_floating_point():
            raise InputError(
                f"{key}: {path}: '{name}' holds {str(value.dtype).removeprefix('torch.')}, and the network "
                f"wants {str(expected[name].dtype).removeprefix('torch.')}. Weights of a quantised network "
                "are read wrong without their scales; save them as floats"
            )
        if not value.isfinite().all():
            raise InputError(
                f"{key}: {path}: '{name}' holds numbers that are not finite (NaN or infinity), so its "
                "training has diverged; take an earlier checkpoint"
            )
    return part


def _other_classes(tables: Mapping[Place, dict[str, Tensor]], expected: Mapping[str, Tensor]) -> OtherClasses | None:
    found = [part.other for place, table in tables.items() for part in _parts(place, table, expected, new_head=True)]
    return found[0] if found else None


def lines_of(part: Part, path: Path, key: str) -> list[str]:
    """Notes for the user on how a file was read; empty where the file holds only the weights, under their own names."""
    lines = []
    if part.prefix:
        lines.append(f"the prefix '{part.prefix}.' of its names is taken off")
    if part.wrapped:
        lines.append(f"the names of wrappers ({', '.join(sorted(WRAPPERS))}) are left out of its names")
    if part.added:
        lines.append(f"'{part.added}.' is put before its names")
    rest = [name for name in part.rest if not _OF_OPTIMIZERS.search(name)]
    if rest or part.average:
        lines.append(
            f"loaded is '{part.name}'"
            + (", an average" if part.average else "")
            + (f"; left out: {', '.join(rest[:4])}{', …' if len(rest) > 4 else ''}" if rest else "")
        )
    if part.lacking:
        lines.append(f"it has no {COUNTER}, which begin at 0")
    if part.excess:
        lines.append(f"a profiler's {part.excess[0].rpartition('.')[2]} are left out")
    return [f"{key}: {path}: {'; '.join(lines)}"] if lines else []


def _tables(content: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping in a file that names tensors, by its keys."""
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return
    table = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if table:
        yield place, table
    if len(place) < DEEPEST:
        for name, value in content.items():
            yield from _tables(value, (*place, name))


def _parts(place: Place, table: dict[str, Tensor], expected: Mapping[str, Tensor], new_head: bool) -> list[Part]:
    """The prefixes below which a table holds exactly a network's weights. If there is none, names are tried without
    wrappers inside them, and with a wrapper that only the network has."""
    own = {name: name for name in table}
    found = list(_below(place, table, own, expected, new_head))
    if not found:
        found = [replace(part, wrapped=True) for part in _below(place, table, _unwrapped(table), expected, new_head)]
    outer = {name.partition(".")[0] for name in expected}
    if not found and len(outer) == 1 and all("." in name for name in expected):
        added = outer.pop()
        inner = {name.partition(".")[2]: value for name, value in expected.items()}
        for part in _below(place, table, own, inner, new_head):
            other = part.other and replace(part.other, names=[f"{added}.{name}" for name in part.other.names])
            weights = {f"{added}.{name}": value for name, value in part.weights.items()}
            found.append(replace(part, added=added, weights=weights, other=other))
    return found


def _below(
    place: Place, table: dict[str, Tensor], names: Mapping[str, str], expected: Mapping[str, Tensor], new_head: bool
) -> Iterator[Part]:
    """The parts that lie exactly below some prefix.

    Args:
        names: under which each of the table's names is known -> the name.
    """
    for prefix in sorted(_prefixes(names, expected)):
        start = f"{prefix}." if prefix else ""
        own = {short.removeprefix(start): table[name] for short, name in names.items() if short.startswith(start)}
        rest = sorted({short.partition(".")[0] for short in names if not short.startswith(start)})
        lacking = [name for name in expected if name not in own and name.rpartition(".")[2] == COUNTER]
        excess = [name for name in own if name not in expected and name.rpartition(".")[2] in PROFILED]
        own = {**own, **{name: expected[name] for name in lacking}}
        own = {name: value for name, value in own.items() if name not in excess}
        other = other_classes(own, expected) if new_head else None
        head = other.names if other else []
        if own.keys() != expected.keys():
            continue
        if all(own[name].shape == value.shape for name, value in expected.items() if name not in head):
            weights = {name: value for name, value in own.items() if name not in head}
            yield Part(place, prefix, weights, lacking, excess, other, rest)


def _unwrapped(table: Mapping[str, Tensor]) -> dict[str, str]:
    """The names without wrappers inside them -> the original names; empty where nothing changes, or two names become
    equal."""
    names = {".".join(word for word in name.split(".") if word not in WRAPPERS): name for name in table}
    return names if len(names) == len(table) and set(names) != set(table) else {}


def _prefixes(names: Mapping[str, str], expected: Mapping[str, Tensor]) -> set[str]:
    """All prefixes that precede one of the network's names."""
    first = next((name for name in expected if name.rpartition(".")[2] != COUNTER), None)
    return {f".{name}".removesuffix(f".{first}")[1:] for name in names if f".{name}".endswith(f".{first}")}


def _different(parts: list[Part]) -> list[Part]:
    """The parts without those that hold the same weights as one before."""
    found: list[Part] = []
    for part in parts:
        if not any(_equal(part.weights, other.weights) for other in found):
            found.append(part)
    return found


def _equal(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(weights[name], value) for name, value in others.items())


def closest(tables: Mapping[tuple[str, ...], Mapping[str, Tensor]], expected: Mapping[str, Tensor]) -> str:
    """How the closest weights in the file differ from the network's, with one name from each."""
    best: tuple[int, str, Mapping[str, Tensor]] = (0, "", max(tables.values(), key=len))
    for table in tables.values():
        shared: Counter = Counter()
        for name in table:
            words = name.split(".")
            shared.update(".".join(words[:cut]) for cut in range(len(words)) if ".".join(words[cut:]) in expected)
        for prefix, count in shared.items():
            if count > best[0]:
                best = count, prefix, table
    count, prefix, table = best
    if not count:
        return (
            f"the file has {next(iter(table))}, the network wants {next(iter(expected))}, "
            "and no name of it is in the file"
        )
    start = f"{prefix}." if prefix else ""
    below = f" (below '{start}')" if prefix else ""
    own = {name.removeprefix(start): value for name, value in table.items() if name.startswith(start)}
    return misfits(own, expected) + below


def _whole_network(content: object, place: tuple[str, ...] = ()) -> tuple[tuple[str, ...], type] | None:
    """Where a pickled module lies in a file, and its class."""
    if isinstance(content, StandIn):
        state = getattr(content, "state", None)
        return (place, type(content)) if isinstance(state, dict) and "_modules" in state else None
    inner = content.items() if isinstance(content, Mapping) and len(place) < DEEPEST else ()
    found = (_whole_network(value, (*place, str(name))) for name, value in inner)
    return next((one for one in found if one is not None), None)


def _of_whole(path: Path, place: tuple[str, ...], cls: type) -> str:
    return whole_network(path, f"{cls.__module__}.{cls.__qualname__}", place)


def _no_tables(content: object, path: Path) -> str:
    whole = _whole_network(content)
    if whole is not None:
        return _of_whole(path, *whole)
    has = f"it holds a {type(content).__name__}"
    if isinstance(content, Mapping):
        has = f"its keys are {', '.join(map(str, list(content)[:6]))}"
    return f"{path} holds no state dict (names of parameters with tensors); {has}"
