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

import copy
import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from kdlab.config.keys import ADDED, NOT_IDENTITY, SPELLINGS, run_nodes, takes_over_the_seed
from kdlab.config.signature import locate, signature
from kdlab.errors import InputError

from .files import content_hash


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
        "config" in node and _is_respelled(node["config"]) for node in run_nodes(config).values()
    )


def _digest(canonical: dict) -> str:
    text = json.dumps(canonical, sort_keys=False, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def group_hash(config: dict) -> str:
    """The same hash for runs that differ only in the seed, and in the seed of earlier runs that take it over."""
    return run_hash(_seedless(config))


def _seedless(config: dict) -> dict:
    result = {**copy.deepcopy(config), "seed": 0}
    for node in run_nodes(result).values():
        if "config" in node and takes_over_the_seed(node) and node["config"]["seed"] == config["seed"]:
            node["config"] = _seedless(node["config"])
    return result


def canonical(config: dict, spellings: Mapping[str, Mapping[str, str]] = SPELLINGS) -> dict:
    """The config in its canonical form; see the module's docstring."""
    kept = _counted(config, "", spellings)
    if kept.get("teacher"):
        kept["teacher"] = _teacher(config["teacher"], spellings)
    if "initial" in kept["student"]:
        initial = kept["student"].pop("initial")
        if initial is not None:
            kept["student"]["initial"] = _initial(initial, spellings)
    return _normal(kept)


def _initial(node: dict, spellings: Mapping[str, Mapping[str, str]]) -> dict:
    """What a student begins with: the hash of a run, or the content of a file; and which parts of it."""
    return {
        **_network(node, "student.initial", spellings),
        "weights": node.get("weights", True),
        "losses": node.get("losses", False),
        **_added(node, "student.initial", "new_head"),
    }


def _counted(node, key: str, spellings: Mapping[str, Mapping[str, str]]):
    """A node without the keys that do not count, each value in one of its spellings."""
    if not isinstance(node, dict):
        return spellings.get(key, {}).get(str(node), node)
    below = {name: f"{key}.{name}" if key else name for name in node}
    return {
        name: _counted(value, below[name], spellings)
        for name, value in node.items()
        if below[name] not in NOT_IDENTITY and not _is_added_default(below[name], value)
    }


def _is_added_default(key: str, value) -> bool:
    return any(fnmatchcase(key, pattern) and _normal(value) == _normal(default) for pattern, default in ADDED.items())


def _added(node: dict, key: str, name: str) -> dict:
    """What a key that was added later adds to a node's description: nothing where it has its default."""
    return {name: node[name]} if name in node and not _is_added_default(f"{key}.{name}", node[name]) else {}


def _normal(node, ordered: bool = False):
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
                if path.is_dir():
                    node[key] = folders[key](path)
            elif (path.is_file() and (path.suffix or len(path.parts) > 1)) or (key in folders and path.is_dir()):
                node[key] = content_hash(path)
    return node


@cache
def _first_arguments() -> dict[str, list[str]]:
    """The arguments that always count, by class. Frozen: all existing hashes depend on it, so nothing may be added."""
    return json.loads(Path(__file__).with_name("first_arguments.json").read_text(encoding="utf-8"))


def _name_of(found) -> str:
    """The package below kdlab and the name of a class or function; files may be renamed.

    >>> from kdlab.losses import HintonKD
    >>> _name_of(HintonKD)
    'losses.HintonKD'
    """
    return f"{found.__module__.split('.')[1]}.{found.__qualname__}"


def _plain(value) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _teacher(node: dict, spellings: Mapping[str, Mapping[str, str]], key: str = "teacher") -> dict:
    """A teacher's identity: its run's hash, its file's content, or its network's description. The normalisation of its
    inputs counts where the config gives it; otherwise it follows from the rest."""
    said = {"normalisation": node["normalisation"]} if node.get("normalisation") else {}
    return {
        **_network({name: value for name, value in node.items() if name != "normalisation"}, key, spellings),
        **said,
    }


def _network(node: dict, key: str, spellings: Mapping[str, Mapping[str, str]]) -> dict:
    if "config" in node:
        return {"run": _digest(canonical(node["config"], spellings))}
    if "run" in node:
        try:
            return {"run": run_identity(Path(node["run"])), "which": node.get("which", "last")}
        except InputError as error:
            raise InputError(f"{key}.run: {error}") from error
    if "checkpoint" in node:
        path = Path(node["checkpoint"])
        if not path.exists():
            raise InputError(f"{key}.checkpoint: there is no file {path}")
        return {"content": content_hash(path), "network": node.get("network"), **_added(node, key, "part")}
    if "terms" in node:
        return {
            "terms": {
                term: _teacher(node["members"][name], spellings, f"{key}.members.{name}")
                for term, name in node["terms"].items()
            }
        }
    if "members" in node:
        members = [_teacher(member, spellings, f"{key}.members.{name}") for name, member in node["members"].items()]
        return {"members": members, "average": node.get("average"), "weights": node.get("weights")}
    return node


def run_identity(path: Path) -> str:
    """The hash of the run in a directory."""
    try:
        return json.loads((path / "run.json").read_text(encoding="utf-8"))["hash"]
    except FileNotFoundError as error:
        raise InputError(f"{path} is no run directory: it holds no run.json") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}/run.json cannot be read ({error}); the run is damaged") from error


def readable_name(config: dict) -> str:
    """What a person recognises a run by, before the hash: losses, student, generation (of a chain), seed.

    >>> readable_name({"loss": {"ce": {}, "kd": {}}, "choices": {"student": "mlp", "strategy": "offline"}, "seed": 1})
    'offline-ce+kd-mlp-s1'
    """
    choices = config.get("choices", {})
    generation = config.get("strategy", {}).get("generation")
    parts = [
        choices.get("strategy") or "strategy",
        "+".join(config["loss"]),
        choices.get("student") or "student",
        *([f"g{generation}"] if generation else []),
        f"s{config['seed']}",
    ]
    text = "-".join(str(part) for part in parts)
    return "".join(letter if letter.isalnum() or letter in "+-_." else "_" for letter in text)[:80]
