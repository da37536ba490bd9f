"""Identity: which configs are the same run.

The hash is over the canonical config: numbers and spellings are normalised (4 and 4.0 are one;
:data:`kdlab.config.keys.SPELLINGS`), and the order of loss terms is kept. Keys in
:data:`kdlab.config.keys.NOT_IDENTITY` are left out, and so are arguments in a class's own ``NOT_IDENTITY`` (the folder
of a known data set).

A hash must survive upgrades of kdlab, so an option that was added later counts only where it differs from its default:

- an argument of one of kdlab's own classes: the arguments in ``first_arguments.json`` always count, with the
  constructor's default where the config does not name them; any other argument is left out where its value is the
  default;
- a key of kdlab's own that is no argument: :data:`kdlab.config.keys.ADDED` names it with its default.

Files count by their content. A teacher and a student's initial weights count by the hash of their run or file. A
network counts by the files among its arguments, and by the folders that its class names in ``CONTENT``. ``CONTENT`` may
give the function that hashes a folder (class folders: names and sizes of the images). The code does not count; run.json
holds the commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, cast

from kdlab.config.keys import ADDED, NOT_IDENTITY, SPELLINGS, cache_codec
from kdlab.config.references import (
    CheckpointFile,
    ComposedRun,
    EnsembleOf,
    FinishedRun,
    Initial,
    LayersOf,
    Network,
    OnePerTerm,
    Reference,
    RoutedByColumn,
    composed_runs,
    initial_reference,
    replace_configs,
    teacher_reference,
)
from kdlab.config.signature import locate, signature
from kdlab.errors import InputError

from .files import content_hash
from .schema import problem


def run_hash(config: dict) -> str:
    """16 hexadecimal digits that name a run.

    Raises:
        InputError: the teacher is a run, file or folder that does not exist.
    """
    return _digest(canonical(config))


def hash_as_spelled(config: dict) -> str | None:
    """The hash of the config before spellings were normalised; None where it equals :func:`run_hash`."""
    return _digest(canonical(config, spellings={})) if _is_respelled(config) else None


def _is_respelled(config: dict) -> bool:
    """Whether a config, or that of an earlier run in it, has a value in another spelling. Reads no files."""
    return _counted(config, "", SPELLINGS) != _counted(config, "", {}) or any(
        _is_respelled(one.config) for one in composed_runs(config)
    )


def _digest(canonical: dict) -> str:
    text = json.dumps(canonical, sort_keys=False, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def group_hash(config: dict) -> str:
    """The same hash for runs that differ only in the seed, and in the seed of earlier runs that take it over."""
    return run_hash(_seedless(config))


def _seedless(config: dict) -> dict:
    def change(one: ComposedRun) -> dict:
        same = one.takes_over_the_seed and one.config["seed"] == config["seed"]
        return _seedless(one.config) if same else one.config

    return {**replace_configs(config, change), "seed": 0}


def teacher_identity(one: Reference) -> dict:
    """What identifies a teacher: its run's hash, its file's content, or its network's description."""
    return _normal(_teacher(one, SPELLINGS))


#: arguments of a data set that change neither its samples nor what is drawn for an epoch, nor the batches of validation
_BATCHES = ("name", "batch_size", "drop_last", "augment_seed", "replicas", "mixing")


def data_identity(config: dict) -> dict:
    """What identifies the inputs of a config's data set, however they are put in batches."""
    found = _normal(_counted(config["data"], "data", SPELLINGS))
    return {key: value for key, value in found.items() if key not in _BATCHES}


def task_identity(config: dict) -> dict:
    """What identifies the task, which says how a network is called."""
    return _normal(_counted(config.get("task") or {}, "task", SPELLINGS))


def canonical(config: dict, spellings: Mapping[str, Mapping[str, str]] = SPELLINGS) -> dict:
    """The config in its canonical form; see the module's docstring."""
    kept = _counted(config, "", spellings)
    if teacher := teacher_reference(config):
        node = config["teacher"]
        rounded = _added("teacher.cache_dtype", node.get("cache_dtype", "float32"))
        kept["teacher"] = {**_teacher(teacher, spellings), **rounded, **_codec(node)}
    kept["student"].pop("initial", None)
    if initial := initial_reference(config):
        kept["student"]["initial"] = _initial(initial, spellings)
    return _normal(kept)


def _codec(teacher: Mapping[str, Any]) -> dict:
    """What the codec of kept answers adds to a teacher's description: nothing where a student learns from the same
    logits. Hidden states that are rounded give others than rounded logits."""
    found = cache_codec(teacher)
    rounded = (teacher.get("cache_dtype") or "float32") != "float32"
    exact = ("dense",) if rounded else ("dense", "hidden")  # rounded logits count by cache_dtype
    return {} if found["name"] in exact else {"cache_codec": found}


def _initial(initial: Initial, spellings: Mapping[str, Mapping[str, str]]) -> dict:
    """What a student begins with: the hash of a run, or the content of a file; and which parts of it."""
    if isinstance(initial.source, LayersOf):  # the run's teacher counts already
        of = initial.source.source
        rows = _added("student.initial.rows", initial.source.rows)
        return {**initial.source.options, **rows, "of": None if of is None else _network(of, spellings)}
    return {
        **_network(initial.source, spellings),
        "weights": initial.weights,
        "losses": initial.losses,
        **_added("student.initial.new_head", initial.new_head),
    }


def _counted(node: Any, key: str, spellings: Mapping[str, Mapping[str, str]]) -> Any:
    """A node without the keys that do not count, each value in one of its spellings."""
    if not isinstance(node, dict):
        return spellings.get(key, {}).get(str(node), node)
    below = {name: f"{key}.{name}" if key else name for name in node}
    return {
        name: _counted(value, below[name], spellings)
        for name, value in node.items()
        if below[name] not in NOT_IDENTITY and not _is_added_default(below[name], value)
    }


def _is_added_default(key: str, value: object) -> bool:
    return any(fnmatchcase(key, pattern) and _normal(value) == _normal(default) for pattern, default in ADDED.items())


def _added(key: str, value: object) -> dict:
    """What a key that was added later adds to a node's description: nothing where it has its default."""
    return {} if _is_added_default(key, value) else {key.rpartition(".")[2]: value}


def _normal(node: Any, ordered: bool = False) -> Any:
    """Numbers and key order normalised, defaults filled in. Only two orders carry meaning: the loss terms are summed in
    their order, and the order of named peers decides their initial weights, views and turns."""
    if isinstance(node, dict):
        if node.get("_target_"):
            node = _described(node)
        keys = node if ordered else sorted(node)
        result = {key: _normal(node[key], ordered=key in ("loss", "peers")) for key in keys}
        return list(result.items()) if ordered else result
    if isinstance(node, (list, tuple)):
        return [_normal(value) for value in node]
    if isinstance(node, float) and node.is_integer() and abs(node) < 2**53:
        return int(node)
    return node


def _described(node: dict) -> dict:
    """A node with a target: kdlab's defaults filled in, places left out, files replaced by the hash of their
    content."""
    target = node["_target_"]
    try:
        found = locate(target)
    except LookupError:  # its module is not available here; its arguments in the config still count
        return node
    if target.startswith("kdlab."):
        defaults = {key: value for key, value in signature(target).defaults.items() if _plain(value)}
        first = _first_arguments().get(_name_of(found), ())
        node = {
            **{key: value for key, value in defaults.items() if key in first},
            **{
                key: value
                for key, value in node.items()
                if key in first or key not in defaults or _normal(value) != _normal(defaults[key])
            },
        }
    node = {key: value for key, value in node.items() if key not in getattr(found, "NOT_IDENTITY", ())}
    folders = getattr(found, "CONTENT", ())
    for key, value in node.items():
        if isinstance(value, str) and key != "_target_":
            path = Path(value)
            if isinstance(folders, Mapping) and key in folders:
                if path.is_dir() or path.suffix.lower() == ".gguf" and path.is_file():
                    node[key] = folders[key](path)
            elif (path.is_file() and (path.suffix or len(path.parts) > 1)) or (key in folders and path.is_dir()):
                node[key] = content_hash(path)
    return node


@cache
def _first_arguments() -> dict[str, list[str]]:
    """The arguments that always count, by class. Frozen: all existing hashes depend on it, so nothing may be added."""
    return json.loads(Path(__file__).with_name("first_arguments.json").read_text(encoding="utf-8"))


def _name_of(found: Callable) -> str:
    """The package below kdlab and the name of a class or function; files may be renamed.

    >>> from kdlab.losses import HintonKD
    >>> _name_of(HintonKD)
    'losses.HintonKD'
    """
    return f"{found.__module__.split('.')[1]}.{found.__qualname__}"


def _plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _teacher(one: Reference, spellings: Mapping[str, Mapping[str, str]]) -> dict:
    """A teacher's identity: its run's hash, its file's content, or its network's description. The normalisation of its
    inputs counts where the config gives it; otherwise it follows from the rest."""
    inputs = {"normalisation": one.normalisation} if one.normalisation else {}
    return {**_network(one, spellings), **inputs}


def _network(one: Reference, spellings: Mapping[str, Mapping[str, str]]) -> dict:
    if isinstance(one, ComposedRun):
        return {"run": _digest(canonical(one.config, spellings))}
    if isinstance(one, FinishedRun):
        try:
            return {"run": run_identity(one.path), "which": one.which}
        except InputError as error:
            raise InputError(f"{one.key}.run: {error}") from error
    if isinstance(one, CheckpointFile):
        if not one.path.exists():
            raise InputError(f"{one.key}.checkpoint: there is no file {one.path}")
        return {"content": content_hash(one.path), "network": one.network, **_added(f"{one.key}.part", one.part)}
    if isinstance(one, OnePerTerm):
        by_name = one.members
        return {"terms": {term: _teacher(by_name[name], spellings) for term, name in one.terms.items()}}
    if isinstance(one, RoutedByColumn):
        described = {name: _teacher(member, spellings) for name, member in one.members.items()}
        routes = {value: described[name] for value, name in one.routes.items()}
        return {"column": one.column, "routes": routes, "default": described.get(one.default or "")}
    if isinstance(one, EnsembleOf):
        members = [_teacher(member, spellings) for member in one.members.values()]
        return {"members": members, "average": one.average, "weights": one.weights}
    return cast(Network, one).described  # the only other form


def run_identity(path: Path) -> str:
    """The hash of the run in a directory."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is no run directory: it holds no run.json") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}/run.json cannot be read ({error}); the run is damaged") from error
    if wrong := problem(record, ["hash"]):
        raise InputError(f"{path}/run.json cannot be read ({wrong}); the run is damaged")
    return record["hash"]
