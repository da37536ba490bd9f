"""How long networks take to answer, measured in turns so that they can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

TURNS = 10  # that each one's time is cut into
WARM_UP_CALLS = 3


def timed_in_turns(
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    finish: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every single call, by name.

    A machine does not run evenly: its clock, its caches and whoever else is on it change from second to second. So the
    calls are not timed one after another, but in :data:`TURNS` rounds in which each has a tenth of its time; every
    second round goes backwards. What the machine does falls on all alike then, and the ratio of two is more certain
    than either. A turn begins with a call that does not count, since the caches hold what the one before has left.

    Args:
        calls: name -> what is timed.
        seconds: for each, without warm-up; a turn holds one call at least.
        finish: called behind each call, within its time: waits for a GPU.
        clock: seconds.
    """
    durations: dict[str, list[float]] = {name: [] for name in calls}

    def once(call: Callable[[], object]) -> float:
        began = clock()
        call()
        finish()
        return clock() - began

    for call in calls.values():
        for _ in range(WARM_UP_CALLS):
            once(call)
    for turn in range(TURNS):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            once(calls[name])
            spent = 0.0
            while not spent or spent < seconds / TURNS:
                durations[name].append(once(calls[name]))
                spent += durations[name][-1]
    return durations


def speed(durations: Sequence[float], batch: int) -> dict[str, float]:
    """What calls of so many samples each took: the median and the 90th percentile in milliseconds (``latency_ms``,
    ``latency_ms_p90``), and the samples of all calls over the sum of their seconds, the slow ones among them
    (``samples_per_second``); ``calls``.

    >>> speed([0.010, 0.010, 0.010, 0.020], batch=64)
    {'latency_ms': 10.0, 'latency_ms_p90': 17.0, 'samples_per_second': 5120.0, 'calls': 4}
    """
    median, ninetieth = np.percentile(durations, [50, 90])
    return {
        "latency_ms": round(float(median) * 1000, 6),
        "latency_ms_p90": round(float(ninetieth) * 1000, 6),
        "samples_per_second": round(batch * len(durations) / sum(durations), 3),
        "calls": len(durations),
    }
