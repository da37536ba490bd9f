"""From run directories to groups: runs that differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kdlab.errors import InputError
from kdlab.runs.differences import differing_keys, flat
from kdlab.runs.run import FINISHED, Run

TEACHER, BASELINE, VARIANT = "teacher", "student baseline", "variant"
NETWORK = "network"         # one of several in the runs of a group
# the groups whose choice stands for what is in their node
_NODES = {"student": "student", "data": "data", "optimizer": "optimizer", "scheduler": "scheduler", "mixing": "data.mixing"}


@dataclass
class Group:
    """Runs of one configuration over seeds.

    Args:
        runs: the finished ones; none where the records come from elsewhere.
        records: what the finished runs' run.json hold.
        unfinished: those that were begun, failed or were interrupted; they are listed, never dropped.
        config: flat, of the first run.
        role: teacher, student baseline (no loss asks a teacher, nor a network that learns beside it), or variant.
    """

    runs: list[Run] = field(default_factory=list)
    unfinished: list[Run] = field(default_factory=list)
    config: dict = field(default_factory=dict)
    role: str = VARIANT
    label: str = ""
    records: list[dict] = field(default_factory=list)


def groups(runs: Iterable[Run]) -> tuple[list[Group], list[str]]:
    """The groups, labelled by what differs between them, and lines about directories that are not in them."""
    found: dict[str, Group] = {}
    left_out, seen = [], {}
    taught = set()
    for run in runs:
        try:
            record, config = run.record, run.config
            key = record["group"]
        except (InputError, KeyError, TypeError) as error:
            left_out.append(f"could not be read: {run.path}: {str(error).splitlines()[0]}")
            continue
        if record["hash"] in seen and record["status"] == FINISHED:
            left_out.append(f"the same run as {seen[record['hash']]}, counted once: {run.path}")
            continue
        if record["status"] == FINISHED:
            seen[record["hash"]] = run.path
        taught |= {teacher["hash"] for teacher in (record.get("teacher") or {}).get("runs", [])}
        group = found.setdefault(key, Group(config=_described(config), role=VARIANT if record.get("uses_teacher") or record.get("taught") else BASELINE))
        if record["status"] == FINISHED:
            group.runs.append(run)
            group.records.append(record)
        else:
            group.unfinished.append(run)
    result = list(found.values())
    for group in result:
        if any(record["hash"] in taught for record in group.records):
            group.role = TEACHER
    _label(result)
    return result, left_out


def _described(config: dict) -> dict:
    """A flat config of what may tell groups apart, in the words of the command line."""
    choices = {group: choice for group, choice in config.get("choices", {}).items() if group in _NODES}
    config = _without_earlier(config)
    teacher = config["teacher"] or {}
    kept = {key: value for key, value in config.items()
            if key not in ("seed", "choices", "overrides", "paths", "progress", "logger", "fresh", "name", "teacher")}
    kept["loss"] = config["loss"]
    result = {"strategy": config.get("choices", {}).get("strategy"), "losses": "+".join(config["loss"]), **choices}
    return {**result, **{key: value for key, value in flat({**kept, "teacher": teacher}).items()
                         if not key.endswith("_target_") and (key, value) != ("strategy.generation", 0)}}       # as every run is that is in no chain


def _without_earlier(node):
    """A config without those of the runs before it: what names them tells as much. The seed that they take over tells nothing."""
    if not isinstance(node, dict):
        return node
    inherited = "same_but" in node and node.get("seed") is None
    return {key: _without_earlier(value) for key, value in node.items() if key != "config" and not (inherited and key == "seed")}


def _label(found: list[Group]) -> None:
    """Name each group by the keys in which the groups differ."""
    differing = differing_keys([group.config for group in found])
    shown = [key for key in differing if not _implied(key, differing, found)]
    for group in found:
        parts = [f"{group.config['strategy']} {group.config['losses']}"]
        parts += [f"{key.removeprefix('loss.')}={_short(group.config[key])}" for key in shown
                  if key in group.config and key not in ("strategy", "losses") and not _told(key, group, found)]
        group.label = "  ".join(parts)
    for group in found:         # what was left out as implied is shown where it is all that tells two groups apart
        twins = [other for other in found if other.label == group.label]
        if len(twins) > 1:
            hidden = [key for key in differing_keys([twin.config for twin in twins]) if key not in shown]
            for number, twin in enumerate(twins, start=1):
                rest = [f"{key.removeprefix('loss.')}={_short(twin.config.get(key, '-'))}" for key in hidden] or [f"({number})"]
                twin.label = "  ".join([twin.label, *rest])


def _told(key: str, group: Group, found: list[Group]) -> bool:
    """Whether strategy and losses tell a group's value already: every other group of that strategy and those losses has the same."""
    if not key.startswith(("strategy.", "loss.", "teacher.", "data.mixing.")) and (key, group.config[key]) != ("mixing", "none"):
        return False
    names = (group.config["strategy"], group.config["losses"])
    alike = [other for other in found if (other.config["strategy"], other.config["losses"]) == names]
    return len(alike) < len(found) and len({repr(other.config.get(key)) for other in alike}) == 1


def _implied(key: str, differing: list[str], found: list[Group]) -> bool:
    """Whether a key need not be shown: it belongs to a term that only some groups have, and is the same in all that have it; or it is
    the weight that is tied to another; or it follows from the generation; or it belongs to a
    node whose choice is shown."""
    having = [group.config[key] for group in found if key in group.config]
    if len(having) < len(found) and len({repr(value) for value in having}) == 1:
        return True
    if key == "loss.ce.weight" and "loss.kd.weight" in differing:
        return all(abs(group.config.get("loss.ce.weight", 0) + group.config.get("loss.kd.weight", 0) - 1) < 1e-9
                   for group in found if isinstance(group.config.get("loss.kd.weight"), (int, float)))
    if key == "teacher.same_but" and "strategy.generation" in differing:
        return True
    return any(f"{key}.".startswith(f"{node}.") and key != group and group in differing for group, node in _NODES.items())


def _short(value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
