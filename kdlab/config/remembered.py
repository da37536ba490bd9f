"""What Hydra composed before, kept for later compositions in this process.

A composition has two parts. The choices (``student=cnn``) decide which files are merged, which takes nearly all of the
time. The changes (``loss.kd.temperature=4``) are then made in the result. The jobs of a sweep mostly differ in their
changes alone, so the first part is kept: for the same choices and the same files, with their times and sizes.
"""

from __future__ import annotations

import functools
import os
import pickle
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.types import RunMode
from omegaconf import DictConfig

from .parsed import parse_once

MOST_FILES = 2000  # and folders in the search path; with more, looking at them takes longer than it saves
MOST_KEPT = 64  # compositions
# changes in Hydra's own node that do not decide how a config is composed
_LAUNCHING = ("hydra.launcher.", "hydra.sweeper.")

# what is in Hydra's ConfigStore if nobody has stored configs of their own there
_OF_HYDRA = ("hydra", "_dummy_empty_config_.yaml")

_kept: dict[tuple, bytes] = {}  # pickled, since the caller changes what it gets


def remember(loader: Any) -> None:
    """Let Hydra's config loader use what was composed before in this process, with the same results and errors.

    Args:
        loader: Hydra's ``config_loader``, changed in place.
    """
    parse_once(loader)
    if not isinstance(loader._load_configuration_impl, functools.partial):
        loader._load_configuration_impl = functools.partial(_composed, loader, loader._load_configuration_impl)


def _composed(
    loader: Any,
    compose: Any,
    config_name: str | None,
    overrides: list[str],
    run_mode: RunMode,
    from_shell: bool = True,
    validate_sweep_overrides: bool = True,
) -> DictConfig:
    try:
        found = _from_kept(loader, compose, config_name, overrides, run_mode)
    except Exception:  # Hydra's own composition reports what is wrong
        found = None
    return compose(config_name, overrides, run_mode, from_shell, validate_sweep_overrides) if found is None else found


def _from_kept(
    loader: Any, compose: Any, config_name: str | None, overrides: list[str], run_mode: RunMode
) -> DictConfig | None:
    """The composed config; None where it must be composed as a whole."""
    parsed = OverridesParser.create().parse_overrides(overrides=overrides)
    if run_mode != RunMode.RUN or any(one.is_sweep_override() or not _is_simple(one) for one in parsed):
        return None
    # as hydra._internal.defaults_list.Overrides divides them
    changes = [one for one in parsed if isinstance(one.value(), dict) or not _is_group(loader, one)]
    choices = [one.input_line for one in parsed if one not in changes]
    state = _state(loader.repository.sources)
    if state is None or not changes:
        return None
    key = (config_name, tuple(choices), JobRuntime.instance().get("name"), state)
    if key not in _kept:
        made = compose(config_name, choices, run_mode)
        if made.hydra.searchpath or made.hydra.job.env_copy:  # further folders, and variables that may change
            return None
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        _kept[key] = pickle.dumps(made)
    return _changed(pickle.loads(_kept[key]), parsed, changes)


def _is_simple(one: Override) -> bool:
    return not one.is_hydra_override() or one.get_key_element().lstrip("+~").startswith(("hydra/", *_LAUNCHING))


def _is_group(loader: Any, one: Override) -> bool:
    return loader.repository.group_exists(one.key_or_group)


def _changed(config: DictConfig, parsed: Sequence[Override], changes: list[Override]) -> DictConfig:
    """A config of the same choices with its changes, and with its overrides in Hydra's own node."""
    ConfigLoaderImpl._apply_overrides_to_config(changes, config)
    hydra = config.hydra
    hydra.overrides.hydra = [one.input_line for one in parsed if one.is_hydra_override()]
    hydra.overrides.task = [one.input_line for one in parsed if not one.is_hydra_override()]
    hydra.runtime.cwd = os.getcwd()
    naming = hydra.job.config.override_dirname
    hydra.job.override_dirname = get_overrides_dirname(
        overrides=[one for one in parsed if not one.is_hydra_override()],
        kv_sep=naming.kv_sep,
        item_sep=naming.item_sep,
        exclude_keys=naming.exclude_keys,
    )
    return config


def _state(sources: Sequence[Any]) -> tuple | None:
    """The search path, with names, sizes and times of the files in its folders; None where they are too many, or where
    configs were stored without a file (Hydra's ConfigStore), whose changes cannot be seen."""
    if any(group not in _OF_HYDRA for group in ConfigStore.instance().repo):
        return None
    found: list[tuple] = [(one.scheme(), one.provider, one.path) for one in sources]
    for one in sources:
        if one.scheme() == "file":
            for folder, _, names in os.walk(one.path, followlinks=True):
                found.append((folder,))  # a folder without files is a group, too
                for name in names:
                    status = os.stat(os.path.join(folder, name))
                    found.append((folder, name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                if len(found) > MOST_FILES:
                    return None
    return tuple(found)
