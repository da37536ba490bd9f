"""Names of runs and data, for people."""

from __future__ import annotations


def readable_name(config: dict) -> str:
    """The readable part of a run's directory name: strategy, losses, student, generation (of a chain), seed.

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


def data_name(config: dict) -> str | None:
    """The name of a run's data: from their config, or from the chosen file."""
    return config["data"].get("name") or (config.get("choices") or {}).get("data")
