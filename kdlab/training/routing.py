"""Which member of a teacher answers which row: by a column of the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.config.quoting import typed
from kdlab.config.references import RoutedByColumn, teacher_reference
from kdlab.data import Data
from kdlab.data.column import Column, Origin
from kdlab.errors import InputError
from kdlab.teachers import Routed, Teacher

_NAMED = 5  # values without a member that a message names


def keep_column(config: dict, data: Data) -> None:
    """Have the data keep the column by which the config's teacher is routed, before they are read.

    Raises:
        InputError: they have no columns.
    """
    one = teacher_reference(config)
    if isinstance(one, RoutedByColumn):
        data.keep_column(f"{one.key}.column", one.column)


def routed(one: RoutedByColumn, members: Mapping[str, Teacher], data: Data | None) -> Routed:
    """The teacher of a reference. Its routes are read from the data when they are first needed."""
    return Routed(members, partial(routes_of, one, data))


def routes_of(one: RoutedByColumn, data: Data | None) -> dict[str, Tensor]:
    """For each stored sample of ``train`` and ``test`` the number of its member, -1 where it has none and no run asks
    for one.

    Raises:
        InputError: there is no such column, or a row that is used has no member.
    """
    key = f"{one.key}.column"
    if data is None:
        raise InputError(f"{key}={one.column}: there are no data that have it")
    columns = data.column(key, one.column)
    used = {"train": torch.cat([data.part("train"), data.part("validation")])}
    numbers = {name: number for number, name in enumerate(one.members)}
    routes, found = one.routes, {}
    lacking: dict[str | None, list[Origin]] = {}
    for split, column in columns.items():
        names = [one.default if value is None else routes.get(value, one.default) for value in column.values]
        found[split] = torch.tensor([-1 if name is None else numbers[name] for name in names], dtype=torch.long)
        for value, samples in _without(column, found[split], used.get(split)).items():
            lacking.setdefault(value, []).extend(column.origins[sample] for sample in samples)
    if lacking:
        places = {value: columns["train"].places(origins) for value, origins in lacking.items()}
        raise InputError(*_problems(one, places))
    return found


def _without(column: Column, numbers: Tensor, used: Tensor | None) -> dict[str | None, list[int]]:
    """The samples that are used and have no member, by their values."""
    without = numbers < 0
    if used is not None:
        counts = torch.zeros_like(without)
        counts[used] = True
        without &= counts
    found: dict[str | None, list[int]] = {}
    for sample in without.nonzero().flatten().tolist():
        found.setdefault(column.values[sample], []).append(sample)
    return found


def _problems(one: RoutedByColumn, lacking: Mapping[str | None, str]) -> Iterator[str]:
    members = list(one.members)
    default = f"{one.key}.default={members[0]} takes all rows that have none"
    for value, places in list(lacking.items())[:_NAMED]:
        where = f"{one.key}.column={one.column}: {places}"
        if value is None:
            yield f"{where}: the column is empty, so no member answers; {default}"
            continue
        cure = typed(f"{one.key}.routes", {**one.given, value: members[0]})
        yield (
            f"{where}: no member is for {value!r} ({one.key}.members has {', '.join(members)}); {cure} names one, and "
            f"{default}"
        )
    if len(lacking) > _NAMED:
        yield f"{one.key}.column={one.column}: {len(lacking) - _NAMED} more values have no member"


class OwnRows:
    """The rows of a loader's batches that a member answers. Batches without such rows are left out.

    Args:
        name: of the member.
    """

    def __init__(self, loader: Iterable[Batch], teacher: Routed, name: str):
        self.loader, self.teacher, self.name = loader, teacher, name

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            places = self.teacher.own(self.name, batch)
            if len(places):
                yield batch.take(places)


def rows_of_members(teacher: Routed, data: Data) -> dict[str, dict[str, int]]:
    """How many samples of each split each member answers."""
    index = {
        "train": data.part("train"),
        "validation": data.part("validation"),
        "test": torch.arange(len(teacher.routes["test"])),
    }
    by_split = {split: teacher.counts(split, rows) for split, rows in index.items()}
    return {name: {split: counts[name] for split, counts in by_split.items()} for name in teacher.members}


def idle_members(teacher: Teacher | None, data: Data) -> list[str]:
    """A warning for each member that answers no training row."""
    if not isinstance(teacher, Routed):
        return []
    return [
        f"teacher.members.{name}: warning: no training row is its own, so nothing is learned from it"
        for name, counts in rows_of_members(teacher, data).items()
        if not counts["train"]
    ]
