"""The record of a run with several networks in words: which network is kept, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def kept_name(record: dict, which: str = "last") -> str:
    """The name of the network that the run keeps of a checkpoint."""
    return ((record.get("kept") or {}).get(which) or {}).get("network", "student")


def why_kept(record: dict, which: str = "last") -> str:
    """The network that is kept, and the rule that chose it.

    >>> kept = {"network": "peer2"}
    >>> why_kept({"kept": {"rule": "validation", "last": kept}}), why_kept({"kept": {"rule": "peer2", "last": kept}})
    ('peer2, the best on validation', 'peer2, as strategy.keep says')
    """
    rule = (record.get("kept") or {}).get("rule", "student")
    if rule == "student":
        return rule
    return (
        f"{kept_name(record, which)}, {'the best on validation' if rule == 'validation' else 'as strategy.keep says'}"
    )


def kept_in_short(records: Sequence[dict]) -> str:
    """Which network the runs of a group keep; empty where it is the student without a choice.

    >>> three = [{"kept": {"rule": "validation", "last": {"network": name}}} for name in ("peer2", "student", "peer2")]
    >>> student = {"kept": {"rule": "student", "last": {"network": "student"}}}
    >>> kept_in_short(three), kept_in_short(three[:1]), kept_in_short([student])
    ('validation: peer2 2, student 1', 'validation: peer2', '')
    """
    rule = (records[0].get("kept") or {}).get("rule", "student")
    if rule != "validation":
        return "" if rule == "student" else rule
    counts = Counter(kept_name(record) for record in records).most_common()
    return "validation: " + ", ".join(name if len(records) == 1 else f"{name} {count}" for name, count in counts)


def scores_of_others(record: dict, metric: str) -> str:
    """A test metric of every network but the kept one, at the last epoch; empty where there is one network.

    >>> scores_of_others({"networks": {"student": {"test/r2": 0.9}, "ensemble": {"test/r2": 0.95}}}, "r2")
    'ensemble 0.9500'
    """
    return ", ".join(
        f"{name} {scores[f'test/{metric}']:.4f}"
        for name, scores in (record.get("networks") or {}).items()
        if name != kept_name(record) and f"test/{metric}" in scores
    )
