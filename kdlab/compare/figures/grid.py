"""Finds the two numbers of the config whose values make the largest grid of groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

from kdlab.runs.differences import differing_keys

MOST_CELLS = 15  # values along an axis
LEAST_FILLED = 0.75  # the least share of filled cells in a grid
METHOD = ("loss.", "strategy.")


def grid(configs: Sequence[dict]) -> tuple[str, str, dict[tuple[float, float], int]] | None:
    """Two keys, and (value of the first, value of the second) -> place in ``configs``, of the largest set of flat
    configs that differ only in these two numbers. None where no two numbers make a grid. Pairs of the method's own
    numbers are preferred.

    A number that follows from another one (``loss.ce.weight`` from ``loss.kd.weight``) is not counted as a difference.

    >>> pairs = [(t, w) for t in (1, 4) for w in (0.5, 0.9)]
    >>> swept = [{"loss.kd.temperature": t, "loss.kd.weight": w, "loss.ce.weight": 1 - w} for t, w in pairs]
    >>> grid([*swept, {"losses": "ce"}])
    ('loss.kd.temperature', 'loss.kd.weight', {(1, 0.5): 0, (1, 0.9): 1, (4, 0.5): 2, (4, 0.9): 3})
    >>> grid([{"loss.kd.weight": w} for w in (0.5, 0.9)]) is None
    True
    """
    columns = {key: _codes(configs, key) for key in differing_keys(list(configs))}
    numeric = [key for key in columns if any(_is_number(config.get(key)) for config in configs)]
    # a weight that is computed from another comes last, so that the other one names the axis
    numeric.sort(key=lambda key: key == "loss.ce.weight")
    having = {key: [place for place, config in enumerate(configs) if _is_number(config.get(key))] for key in numeric}
    following = {
        axis: {key for key in columns if key != axis and _follows(columns[key], columns[axis], having[axis])}
        for axis in numeric
    }
    best: tuple[str, str, dict] | None = None
    for across, up in combinations(numeric, 2):
        both = set(having[up])
        rest = [columns[key] for key in columns if key not in {across, up} | following[across] | following[up]]
        found = _largest(configs, [place for place in having[across] if place in both], across, up, rest)
        if found and (best is None or _standing(across, up, found) > _standing(*best)):
            best = (across, up, found)
    return None if best is None else _laid(*best)


def _codes(configs: Sequence[dict], key: str) -> list[int]:
    """An integer code for each value of a key."""
    known: dict[str, int] = {}
    return [known.setdefault(repr(config.get(key)), len(known)) for config in configs]


def _standing(across: str, up: str, cells: dict) -> tuple[bool, int]:
    return across.startswith(METHOD) and up.startswith(METHOD), len(cells)


def _laid(across: str, up: str, cells: dict) -> tuple[str, str, dict]:
    """The number with more values is on the horizontal axis; if equal, the one that is no weight."""
    few, many = (len({key[axis] for key in cells}) for axis in (0, 1))
    if few > many or few == many and not across.endswith("weight"):
        return across, up, cells
    return up, across, {(y, x): place for (x, y), place in cells.items()}


def _largest(configs: Sequence[dict], having: list[int], across: str, up: str, rest: Sequence[list[int]]) -> dict:
    """The cells of the largest part in which the other keys do not differ.

    Args:
        rest: the codes of all other keys, without those that follow from one of the two.
    """
    parts: dict[tuple, dict] = defaultdict(dict)
    for place in having:
        parts[tuple(codes[place] for codes in rest)].setdefault((configs[place][across], configs[place][up]), place)
    wide = [
        cells
        for cells in parts.values()
        if _is_grid(len({key[0] for key in cells}), len({key[1] for key in cells}), len(cells))
    ]
    return max(wide, key=len, default={})


def _is_grid(across: int, up: int, cells: int) -> bool:
    return 2 <= min(across, up) and max(across, up) <= MOST_CELLS and cells >= LEAST_FILLED * across * up


def _follows(codes: list[int], axis: list[int], having: list[int]) -> bool:
    """Whether a key and an axis determine each other's values."""
    pairs = {(codes[place], axis[place]) for place in having}
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
