"""Files of the search path as they are written: a strategy's, a loss term's, a preset's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf

from .paths import config_folders


def find(sources: Iterable, group: str, name: str | None) -> Path | None:
    """The file of a choice; None where no folder of the search path holds it.

    Args:
        sources: Hydra's search path, ``hydra.runtime.config_sources``.
    """
    return next(
        (path for path in (folder / group / f"{name}.yaml" for folder in config_folders(sources)) if path.is_file()),
        None,
    )


def as_dict(node: object, resolve: bool = True) -> dict:
    """A node of named keys as a plain dict, all the way down."""
    return cast(dict, OmegaConf.to_container(node, resolve=resolve))


def as_list(node: object, resolve: bool = True) -> list:
    """A list of a config as a plain list, all the way down."""
    return cast(list, OmegaConf.to_container(node, resolve=resolve))


def content(path: Path | None) -> dict:
    """The content of a file, with its references unresolved; empty for None."""
    found = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path is not None else {}
    return found if isinstance(found, dict) else {}
