"""The seed of a run's random numbers."""

from __future__ import annotations

from kdlab.counter import derived_seed

_GENERATION = 6  # the stream of random numbers of a generation


def run_seed(config: dict) -> int:
    """The seed of all random numbers of a run, made from its seed and its generation in a chain. Generation 0 is a run
    like any other.

    >>> run_seed({"seed": 3, "strategy": {}})
    3
    >>> run_seed({"seed": 3, "strategy": {"generation": 1}}) == derived_seed(3, 1, 6)
    True
    """
    generation = config["strategy"].get("generation") or 0
    return derived_seed(config["seed"], generation, _GENERATION) if generation else config["seed"]
