"""Finished runs recognised without importing what they were trained with.

A run's hash depends on the defaults of the classes that its config names. To compute it, torch and Lightning are
imported, which takes seconds even if nothing is to be done. So the hash of a finished run is stored under a *key* that
is cheap to compute. The key covers the composed config, the state of kdlab's own files, and the state of every file and
folder that the config names. A note holds only the hash; whether that run exists and is finished is always looked up.
Where anything has changed, the new key has no note, and the hash is computed. A note is written only if nothing has
changed between the computation of the hash and the end of training. For this the key is computed before the hash, and
again at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdlab.config.keys import NOT_IDENTITY
from kdlab.config.references import replace_configs

from .files import write_text
from .run import Run, RunStore

FOLDER = ".known"
_LIBRARIES = ("kdlab", "torch", "lightning", "torchvision", "timm", "transformers")
_MOST_FILES = 2000


def finished(config: dict, key: str | None = None) -> Run | None:
    """The finished run of a composed config, if a note has its hash. None does not mean that there is no such run.

    Args:
        key: :func:`key_of` the config, where it is known already.
    """
    key = key or key_of(config)
    if key is None:
        return None
    store = RunStore(config["paths"]["runs"])
    try:
        digest = (store.root / FOLDER / key).read_text(encoding="ascii").strip()
        run = store.run(config, digest)
        return run if run.finished else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note(config: dict, digest: str, key: str | None) -> None:
    """Note the hash of a finished run. If the note cannot be written, the next run only takes longer to start.

    Args:
        key: :func:`key_of` the config, computed before its hash.
    """
    if key is None or key != key_of(config):
        return
    with contextlib.suppress(OSError):
        write_text(Path(config["paths"]["runs"]) / FOLDER / key, digest)


def key_of(config: dict) -> str | None:
    """The key of a config; None where it names the user's own classes, whose files are not known beforehand."""
    kept = counted(config)
    entries = list(_entries(kept))
    if any(name == "_target_" and value.partition(".")[0] not in _LIBRARIES for name, value in entries):
        return None
    states = [(value, _state(value)) for value in sorted({value for name, value in entries if name != "_target_"})]
    if any(state is None for _, state in states):
        return None
    text = json.dumps([kept, [entry for entry in states if entry[1]], _OWN_FILES], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def counted(config: dict) -> dict:
    """The config and a teacher's config inside it, without the keys that are no part of the identity. Numbers are
    normalised."""
    inner = replace_configs(config, lambda one: counted(one.config))
    kept = {key: _normal(value) for key, value in inner.items() if key not in NOT_IDENTITY}
    for dotted in NOT_IDENTITY:
        group, _, key = dotted.partition(".")
        if key and isinstance(kept.get(group), dict):
            kept[group] = {name: value for name, value in kept[group].items() if name != key}
    return kept


def _normal(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _normal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_normal(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _entries(node: object, name: str = "") -> Iterator[tuple[str, str]]:
    """The strings of a config, each with its key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _entries(value, str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _entries(value, name)
    elif isinstance(node, str):
        yield name, node


def _state(text: str) -> list | None:
    """Names, sizes and times of the files that a string of the config names: empty if it names none, None if they are
    too many to look at."""
    path = Path(text)
    try:
        if not text or len(text) > 1000 or not path.exists():
            return []
    except (OSError, ValueError):  # a text that cannot be a path
        return []
    try:
        files = [path] if path.is_file() else []
        for folder, folders, names in os.walk(path, onerror=_raise) if path.is_dir() else ():
            files += [Path(folder) / name for name in names]
            # reading the folder may follow a link out of it
            if len(files) > _MOST_FILES or any(os.path.islink(os.path.join(folder, name)) for name in folders):
                return None
        return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files)]
    except OSError:  # a link to nothing, a file that is being taken away, a folder that cannot be read
        return None


def _raise(error: OSError) -> None:
    raise error


def _own_files() -> list:
    package = Path(__file__).resolve().parents[1]
    return [
        (str(path.relative_to(package)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(package.rglob("*.py"))
    ]


_OWN_FILES = _own_files()  # computed at import: the files may change during a training
