"""The rows of one entry of a study: a sweep in Hydra's grammar gives a row for each of its jobs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kdlab.errors import InputError


def expanded(overrides: Sequence[str], name: str) -> list[tuple[str, tuple[str, ...]]]:
    """Names and overrides of the rows.

    Args:
        overrides: of the entry.
        name: of the entry; ``{KEY}`` in it is the value of that override, and it must contain all keys of a sweep.

    Raises:
        InputError: an override cannot be parsed, sets the seed, or is a sweep whose key is not in the name.

    >>> expanded(["strategy=offline", "loss.kd.temperature=2,4"], "T = {loss.kd.temperature}")
    [('T = 2', ('strategy=offline', 'loss.kd.temperature=2')), ('T = 4', ('strategy=offline', 'loss.kd.temperature=4'))]
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType
    from hydra.errors import HydraException

    from kdlab.config.explain import explain

    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise InputError(explain(error, list(overrides))) from error
    keys = [override.key_or_group for override in parsed]
    problems = []
    for override in parsed:
        key, text = override.key_or_group, override.input_line
        if key == "seed":
            problems.append(f"{text}: give the seeds with the key seeds")
        elif key.startswith("hydra"):
            problems.append(f"{text}: options of the launcher belong on the command line")
        elif key in ("name", "fresh", "progress") or key.startswith("paths"):
            problems.append(
                f"{text}: where and how a run is kept belongs in the experiment's file or on the command line"
            )
        elif override.value_type == ValueType.GLOB_CHOICE_SWEEP:
            problems.append(f"{text}: a study names its choices one by one, so that a new file adds no row to it")
        elif override.is_sweep_override() and f"{{{key}}}" not in name:
            problems.append(
                f"{text} is a sweep with a row for each value; the name must contain the value: write {{{key}}} into it"
            )
    problems += [
        f"the name has {{{key}}}, and no override is of that key"
        for key in re.findall(r"\{([^{}]*)\}", name)
        if key not in keys
    ]
    if problems:
        raise InputError(*problems)
    sweeps = [override for override in parsed if override.is_sweep_override()]
    (jobs,) = BasicSweeper.split_arguments(sweeps, None)
    rows = []
    for job in jobs:
        values = iter(job)  # an override that is no sweep stays as it is written
        texts = [next(values) if override in sweeps else str(override.input_line) for override in parsed]
        rows.append((_named(name, keys, texts), tuple(texts)))
    return rows


def _named(name: str, keys: Sequence[str], job: Sequence[str]) -> str:
    for key, text in zip(keys, job):
        name = name.replace(f"{{{key}}}", text.partition("=")[2])
    return name
