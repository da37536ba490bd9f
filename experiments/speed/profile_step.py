"""Where a step spends its time, for ``step.py --profile``.

A profiled training of many epochs minus one of few leaves what steps cost, without start-up, validation and test. The
time of each function is added to the place of its file; a function written in C counts for the place that calls it.
The profiler slows Python down, so each contender's places are scaled to its step without a profiler.
"""

from __future__ import annotations

import contextlib
import cProfile
import dataclasses
import pstats
import statistics
from collections import Counter
from collections.abc import Callable
from functools import partial

from common import HERE, Job, Outcome, rounds

REPOSITORY = HERE.parents[1].as_posix()

#: place -> parts of a path, the first that fits
PLACES = {
    "data": (
        "kdlab/data/",
        "kdlab/batch",
        "torch/utils/data/",
        "kdlab/counter",
        "lightning/pytorch/utilities/combined",
    ),
    "files": (
        "kdlab/runs/",
        "torch/serialization",
        "kdlab/training/recorder",
        "zipfile",
        "lightning/pytorch/trainer/con",
    ),
    "loss": (
        "kdlab/losses/",
        "kdlab/functional/",
        "kdlab/objective",
        "kdlab/schedules",
        "torch/nn/modules/loss",
        "in hinton",
        "in kl_div",
        "in cross_entropy",
        "in softmax",
        "in log_softmax",
    ),
    "metrics": ("torchmetrics/", "kdlab/metrics", "kdlab/tasks/"),
    "forward": ("torch/nn/", "kdlab/models/", "kdlab/outputs", "kdlab/teachers/", "torch/functional"),
    "backward": ("torch/autograd/", "in backward"),
    "optimiser": ("torch/optim/", "lightning/pytorch/core/optimizer"),
    "Lightning": ("lightning/", "lightning_fabric/", "lightning_utilities/"),
    "kdlab, the rest": ("kdlab/",),
    "torch, the rest": ("torch/",),
    "loop": ("experiments/speed/",),
}


def places_of(
    ways: dict[str, Callable[[Job], Outcome]], job: Job, number: int, few: int = 2, many: int = 8
) -> dict[str, dict[str, float]]:
    """Contender -> place -> ms a step: medians over ``number`` rounds, scaled to the median step without a profiler."""

    def once(way: Callable[[Job], Outcome]) -> tuple[float, Counter]:
        step = 1000 * way(dataclasses.replace(job, epochs=4)).step
        times = places(way, dataclasses.replace(job, epochs=many))
        times.subtract(places(way, dataclasses.replace(job, epochs=few)))
        return step, times

    found = {}
    for name, turns in rounds({name: partial(once, way) for name, way in ways.items()}, number).items():
        step = statistics.median(step for step, _ in turns)
        seconds = {
            place: statistics.median(times[place] for _, times in turns)
            for place in dict.fromkeys(place for _, times in turns for place in times)
        }
        whole = sum(seconds.values())
        found[name] = {place: step * one / whole for place, one in seconds.items()}
    return found


def table(found: dict) -> str:
    """The last contender is compared with the first."""
    (floor, theirs), *_, (last, mine) = found.items()
    lines = [f"| place, ms a step | {floor} | {last} | difference |", "|---|---:|---:|---:|"]
    order = sorted({*theirs, *mine}, key=lambda place: theirs.get(place, 0) - mine.get(place, 0))
    for place in order:
        one, other = theirs.get(place, 0.0), mine.get(place, 0.0)
        if max(one, other) >= 0.005:
            lines.append(f"| {place} | {one:.2f} | {other:.2f} | {other - one:+.2f} |")
    one, other = sum(theirs.values()), sum(mine.values())
    lines.append(f"| all | {one:.2f} | {other:.2f} | {other - one:+.2f} |")
    return "\n".join(lines)


def places(way: Callable[[Job], Outcome], job: Job) -> Counter:
    """Place -> seconds of its own in one training."""
    profiler = cProfile.Profile()
    with contextlib.suppress(SystemExit):
        profiler.runcall(way, job)
    times: Counter = Counter()
    for function, (_, _, own, _, callers) in pstats.Stats(profiler).stats.items():
        if function[0] == "~" and callers:  # written in C
            for caller, (_, _, theirs, _) in callers.items():
                times[place("backward" if "run_backward" in function[2] else caller)] += theirs
        else:
            times[place(function)] += own
    return times


def place(function: str | tuple[str, int, str]) -> str:
    """The place of a function (file, line, name)."""
    if isinstance(function, str):
        return function
    file = function[0].replace("\\", "/").rpartition("/site-packages/")[2].removeprefix(f"{REPOSITORY}/")
    path = f"{file} in {function[2]}"
    found = (name for name, parts in PLACES.items() if any(part in path for part in parts))
    return next(found, "Python's library")
