"""The differences between groups, as overrides of the command line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

from kdlab.config.references import without_configs
from kdlab.runs.differences import differing_keys, flat

# the config groups whose choice is shown in place of the content of their node
_NODES = {
    "student": "student",
    "data": "data",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "mixing": "data.mixing",
}
# keys that never distinguish two groups
_SILENT = ("seed", "choices", "overrides", "paths", "progress", "logger", "fresh", "name", "teacher")


def described(config: dict) -> dict:
    """A flat config of the keys that may distinguish groups, as on the command line."""
    recorded = config.get("choices") or {}
    choices = {group: choice for group, choice in recorded.items() if group in _NODES}
    config = without_configs(config)
    kept = {key: value for key, value in config.items() if key not in _SILENT}
    result = {"strategy": recorded.get("strategy"), "losses": "+".join(config["loss"]), **choices}
    peers = (config.get("strategy") or {}).get("peers")
    if isinstance(peers, dict):  # by name; their content is shown only where the names do not distinguish them
        result["strategy.peers"] = "+".join(peers)
    return {
        **result,
        **{
            key: value
            for key, value in flat({**kept, "teacher": config.get("teacher") or {}}).items()
            if (key, value) != ("strategy.generation", 0)  # the value of every run outside a chain
            and key != "task._target_"  # runs of two tasks are never compared
        },
    }


def tested_on(config: dict) -> str | None:
    """The data set that a described config's runs were tested on, by name or choice; None where it is unknown. A folder
    does not identify the data: two paths may hold the same images.

    >>> tested_on({"data": "mine", "data.name": "digits"}), tested_on({"data": "image_folder"}), tested_on({})
    ('digits', 'image_folder', None)
    """
    return config.get("data.name") or config.get("data")


def labels(configs: Sequence[dict]) -> list[str]:
    """A name for each described config, made of the keys in which they differ."""
    return _Labels(configs).labels()


def fixed(inside: Sequence[dict], others: Sequence[dict]) -> list[str]:
    """What described configs have in common in which other ones of the same strategy and losses differ from them. What
    follows from a choice that is named is left out.

    >>> one = {"strategy": "offline", "losses": "kd", "student.width": 8}
    >>> fixed([one, one], [{**one, "student.width": 16}]), fixed([one, one], [{**one, "losses": "ce"}])
    (['student.width=8'], [])
    """
    first = inside[0]
    alike = [one for one in others if all(one.get(key) == first.get(key) for key in ("strategy", "losses"))]
    common = [key for key in first if all(key in one and repr(one[key]) == repr(first[key]) for one in inside)]
    found = [key for key in common if any(repr(one.get(key, "-")) != repr(first[key]) for one in alike)]

    def follows(key: str) -> bool:
        """Whether a group with the same choice in place of the key's node has the same value, always."""
        return any(
            key != group
            and f"{key}.".startswith(f"{node}.")
            and all(repr(one.get(key, "-")) == repr(first[key]) for one in alike if one.get(group) == first[group])
            for group, node in _NODES.items()
            if group in found
        )

    return [_override(key, first) for key in found if not key.endswith("_target_") and not follows(key)]


class _Labels:
    def __init__(self, configs: Sequence[dict]):
        self.configs = configs
        self.differing = differing_keys(configs)
        self.shown = [key for key in self.differing if not self._implied(key)]

    def labels(self) -> list[str]:
        named = []
        for config in self.configs:
            parts = [f"{config['strategy']} {config['losses']}"]
            parts += [
                _override(key, config)
                for key in self.shown
                if key in config and key not in ("strategy", "losses") and not self._determined(key, config)
            ]
            named.append("  ".join(parts))
        twins = defaultdict(list)
        for place, label in enumerate(named):
            twins[label].append(place)
        for (
            places
        ) in twins.values():  # keys that were left out as implied are shown if nothing else distinguishes two groups
            if len(places) > 1:
                hidden = [
                    key for key in differing_keys([self.configs[place] for place in places]) if key not in self.shown
                ]
                rests = [[_override(key, self.configs[place]) for key in hidden] for place in places]
                # keys that a group has, without the classes, where they are enough
                few = [
                    [_override(key, self.configs[place]) for key in _own(hidden, self.configs[place])]
                    for place in places
                ]
                if all(few) and len({tuple(one) for one in few}) == len({tuple(one) for one in rests}):
                    rests = few
                for number, (place, rest) in enumerate(zip(places, rests), start=1):
                    named[place] = "  ".join([named[place], *(rest or [f"({number})"])])
        return named

    @cached_property
    def _values(self) -> dict[tuple, dict[str, set]]:
        """For each strategy with its losses, the values of each differing key."""
        found: dict[tuple, dict[str, set]] = defaultdict(lambda: defaultdict(set))
        for config in self.configs:
            for key in self.differing:
                found[config["strategy"], config["losses"]][key].add(repr(config.get(key)))
        return found

    def _determined(self, key: str, config: dict) -> bool:
        """Whether strategy and losses determine a group's value: all groups with that strategy and those losses have
        the same one."""
        if not key.startswith(("strategy.", "loss.", "teacher.", "data.mixing.")) and (key, config[key]) != (
            "mixing",
            "none",
        ):
            return False
        return len(self._values) > 1 and len(self._values[config["strategy"], config["losses"]][key]) == 1

    def _implied(self, key: str) -> bool:
        """Whether a key need not be shown. One of these must hold: it belongs to a term that only some groups have,
        with the same value in all of them; it is a weight that is tied to another; it is a class; it follows from the
        generation; it belongs to a node whose choice is shown."""
        if key.endswith("_target_"):  # the choice, or a loss, determines it
            return True
        having = [config[key] for config in self.configs if key in config]
        if len(having) < len(self.configs) and len({repr(value) for value in having}) == 1:
            return True
        if key == "loss.ce.weight" and "loss.kd.weight" in self.differing:
            return all(
                _number(config.get(key, 0)) and abs(config.get(key, 0) + config["loss.kd.weight"] - 1) < 1e-9
                for config in self.configs
                if _number(config.get("loss.kd.weight"))
            )
        if key == "teacher.same_but" and "strategy.generation" in self.differing:
            return True
        return any(
            f"{key}.".startswith(f"{node}.") and key != group and group in self.differing
            for group, node in _NODES.items()
        )


def _own(keys: Sequence[str], config: dict) -> list[str]:
    return [key for key in keys if key in config and not key.endswith("_target_")]


def _number(value: object) -> bool:
    return isinstance(value, (int, float))


def _override(key: str, config: dict) -> str:
    value = config.get(key, "-")
    return f"{key.removeprefix('loss.')}={f'{value:g}' if isinstance(value, float) else value}"
