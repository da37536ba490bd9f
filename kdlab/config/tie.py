"""The weight of ce that the chosen terms state in ``with_ce``, a key of their files next to ``weight``."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from kdlab.errors import InputError

KEY = "with_ce"


def stated_weights(terms: DictConfig | None) -> dict[str, object]:
    """Term -> the weight of ce that it states: a number, a schedule, or None where it is tied to a value that is no
    number.

    >>> stated_weights(OmegaConf.create({"ce": {"weight": 1.0}, "kd_standardised": {"weight": 9.0, "with_ce": 0.1}}))
    {'kd_standardised': 0.1}
    """
    if not isinstance(terms, DictConfig):
        return {}
    nodes = {name: node for name, node in terms.items_ex(resolve=False) if OmegaConf.is_dict(node) and KEY in node}
    values = {name: node[KEY] for name, node in nodes.items()}
    return {
        str(name): OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for name, value in values.items()
    }


def ce_weight(*, _root_: DictConfig) -> object:
    """``${ce_weight:}``: the weight that the chosen terms state; 1 where none does.

    Raises:
        InputError: two terms state different weights.
    """
    stated = stated_weights(_root_.get("loss"))
    if None in stated.values():
        return None  # the check reports the wrong number under its own key
    different = [value for number, value in enumerate(stated.values()) if value not in list(stated.values())[:number]]
    if len(different) > 1:
        each = ", ".join(f"{name}: {value}" for name, value in stated.items())
        number = next((value for value in different if not isinstance(value, dict)), 1.0)
        raise InputError(
            f"loss.ce.weight: the terms state different weights for it ({each}); give it a number of its own, for "
            f"example loss.ce.weight={number}"
        )
    return different[0] if different else 1.0


def leave_out_stated_weights(terms: object) -> None:
    """Remove the key ``with_ce`` from the terms: it is no part of a composed config.

    >>> terms = {"kd": {"weight": 0.9, "with_ce": 0.1}}
    >>> leave_out_stated_weights(terms)
    >>> terms
    {'kd': {'weight': 0.9}}
    """
    for node in terms.values() if isinstance(terms, dict) else ():
        if isinstance(node, dict):
            node.pop(KEY, None)
