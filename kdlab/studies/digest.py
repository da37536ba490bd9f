"""The digest of a composed config. It shows whether a run had this config, without importing the classes that the
config names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kdlab.runs.known import counted

# keys of downloadable data that give only their place and workers; the folder of the user's own data counts
PLACES = (
    "folder",
    "download",
    "workers",
)


#: keys of configs that came after digests were kept in git -> the default with which nothing changes
_LATER = {"cache_codec": "dense"}


def config_digest(config: dict) -> str:
    """12 hexadecimal digits: a hash of the keys of a composed config that count.

    If two digests are equal, the runs are the same. If they differ, the runs may still be the same (a new key with its
    default); their hashes decide.

    >>> here, there = ({"seed": seed, "name": name, "data": {"folder": name, "download": False}} for seed,
    ...     name in ((1, "a"), (1.0, "b")))
    >>> config_digest(here) == config_digest(there), config_digest(here) == config_digest({**here, "seed": 2})
    (True, False)
    """
    return hashlib.sha256(json.dumps(_placeless(counted(config)), default=str).encode()).hexdigest()[:12]


def _placeless(node: Any, name: str = "") -> Any:
    """A config without the places of its data, including those in the configs of earlier runs."""
    if isinstance(node, list):
        return [_placeless(value) for value in node]
    if not isinstance(node, dict):
        return node
    known = name == "data" and ("download" in node or "folder" not in node)
    return {
        key: _placeless(value, key)
        for key, value in node.items()
        if not (known and key in PLACES) and not (key in _LATER and value == _LATER[key])
    }
