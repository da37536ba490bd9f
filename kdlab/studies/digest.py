"""The digest of a composed config: whether it is the one that a run had, found without importing what the run was
trained with."""

from __future__ import annotations

import hashlib
import json

from kdlab.runs.known import counted

PLACES = (
    "folder",
    "download",
    "workers",
)  # of data that can be downloaded: where they lie and who reads them; a folder of somebody's own is the data


def config_digest(config: dict) -> str:
    """12 hexadecimal digits over what counts of a config, as it is composed.

    Where two are equal, the runs are the same. Where they differ, the runs may be the same all the same (a key has come
    that has its default): that is for their hashes to tell.

    >>> here, there = ({"seed": seed, "name": name, "data": {"folder": name, "download": False}} for seed,
    ...     name in ((1, "a"), (1.0, "b")))
    >>> config_digest(here) == config_digest(there), config_digest(here) == config_digest({**here, "seed": 2})
    (True, False)
    """
    return hashlib.sha256(json.dumps(_placeless(counted(config)), default=str).encode()).hexdigest()[:12]


def _placeless(node, name: str = ""):
    """A config without the places of its data, those of the runs before it included."""
    if isinstance(node, list):
        return [_placeless(value) for value in node]
    if not isinstance(node, dict):
        return node
    known = name == "data" and ("download" in node or "folder" not in node)
    return {key: _placeless(value, key) for key, value in node.items() if not (known and key in PLACES)}
