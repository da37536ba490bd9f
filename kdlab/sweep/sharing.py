"""``teacher.cache=auto`` in a sweep: which jobs keep their teacher's answers, and what that saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from kdlab.errors import InputError

from .job import TRAINED, Job, Outcome


def share_answers(jobs: Sequence[Job], described: Sequence[dict | None], more: bool = False) -> list[str]:
    """Let jobs keep the answers of their teacher: always where each sample has one answer in all epochs, otherwise
    where another job asks for the same answers. The configs of these jobs are changed; their hashes stay.

    Args:
        described: of each job, by :func:`kdlab.sweep.worker.described`; None where it is not known.
        more: further jobs like these will come, as in a search.

    Returns:
        Lines that say why jobs ask their teacher in every step, each once.
    """
    found = [None if one is None else one.get("sharing") for one in described]
    asked = Counter(key for one in found if one is not None for key in set(one.keys))
    lines = []
    for job, one in zip(jobs, found):
        if one is None:
            continue
        if one.why and len(jobs) > 1:
            lines.append(f"teacher.cache=auto: {one.why}; the teacher is asked in every step")
        if one.mode == "fixed" or (one.mode == "views" and (more or any(asked[key] > 1 for key in one.keys))):
            job.config = {**job.config, "teacher": {**job.config["teacher"], "cache": one.mode, "cache_auto": True}}
    return list(dict.fromkeys(lines))


def saved(outcomes: Iterable[Outcome]) -> str:
    """What kept answers saved in a sweep, as a line; empty if nothing was kept.

    >>> saved([])
    ''
    """
    passes = computed = 0
    seconds, runs, rounded = 0.0, 0, set()
    for outcome in {outcome.job.place: outcome for outcome in outcomes if outcome.status == TRAINED}.values():
        try:
            cache = outcome.job.run.read().cache if outcome.path is not None else None
        except InputError:  # damaged since
            continue
        if cache:
            runs += 1
            rounded |= {cache.get("dtype", "float32")} - {"float32"}
            passes, computed, seconds = (
                passes + cache["passes"],
                computed + cache["computed"],
                seconds + cache["seconds"],
            )
    if not runs:
        return ""
    stored = f" (rounded to {' and '.join(sorted(rounded))})" if rounded else ""
    line = f"teacher's answers{stored}: {runs} runs needed {passes} passes over the training samples"
    if not computed:
        return f"{line}; earlier runs had kept them all"
    made = "1 was made" if computed == 1 else f"{computed} were made"
    spared = max(passes - computed, 0) * seconds / computed
    return f"{line}; {made} ({seconds:.1f} s), which saved about {spared:.1f} s"
