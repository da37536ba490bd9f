"""What differs between configs."""

from __future__ import annotations

from collections.abc import Sequence


def flat(node: object, key: str = "") -> dict:
    """Nested containers as dotted keys.

    >>> flat({"loss": {"kd": {"weight": 0.9}}, "seed": 1})
    {'loss.kd.weight': 0.9, 'seed': 1}
    """
    if isinstance(node, dict) and node:
        result: dict = {}
        for name, value in node.items():
            result.update(flat(value, f"{key}.{name}" if key else str(name)))
        return result
    return {key: node}


def differing_keys(configs: Sequence[dict]) -> list[str]:
    """The dotted keys whose values are not the same in all of some flat configs, in the order of the first that has
    them."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({repr(config.get(key, "-")) for config in configs}) > 1]
