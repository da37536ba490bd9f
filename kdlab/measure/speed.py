"""Latency and throughput of networks, measured in turns so that they can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

TURNS = 10  # number of rounds into which each one's time is split
WARM_UP_CALLS = 3


def timed_in_turns(
    calls: Mapping[str, Callable[[], object]],
    seconds: float,
    finish: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds of every single call, by name.

    The speed of a machine changes from second to second, with its clock, its caches and its other users. So the calls
    are not timed one after another, but in :data:`TURNS` rounds in which each call has a tenth of its time. Every
    second round runs in reverse order. So disturbances affect all calls equally, and the ratio of two times is more
    precise than either time. A turn begins with a call that is not counted, since the caches still hold the data of the
    previous call.

    Args:
        calls: name -> the function to time.
        seconds: time for each, without warm-up; a turn has at least one call.
        finish: called after each call and within its time; it waits for a GPU.
        clock: returns the time in seconds.
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
    """The speed of calls with ``batch`` samples each: the median and the 90th percentile in milliseconds
    (``latency_ms``, ``latency_ms_p90``), the samples of all calls divided by the sum of their seconds, including slow
    calls (``samples_per_second``), and the number of ``calls``.

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
