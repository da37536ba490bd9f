"""How a run of a sweep can keep its teacher's answers.

This module needs no torch: the process that starts the jobs of a sweep reads it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sharing:
    """How a run of a sweep can keep its teacher's answers.

    Args:
        mode: the exact mode that needs less, or ``live``.
        why: it is live, where the reason is not that there is no teacher.
        keys: of what it would keep of each network of its teacher. Runs that have one in common share those answers.
    """

    mode: str = "live"
    why: str = ""
    keys: tuple[str, ...] = ()
