"""The worker process that trains several jobs of a sweep together."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

from kdlab.errors import InputError
from kdlab.launch.processes import Interrupt

from .job import TRAINED
from .worker import ending, print_to


def work_stacked(configs: list[dict], digests: list[str], output: str, line: Connection) -> None:
    """Train several runs together, and report the result of each.

    It sends what :func:`kdlab.sweep.worker.work` does, as ``("of", number, …)`` with the number of the job, and
    ``("said", text)``. Where the runs are not stacked, it sends ``("apart", why)``, and no result of those that were
    not begun.

    Args:
        digests: the hashes of the runs when the sweep was planned.
        output: the file for everything that is printed.
        line: the connection to the launcher.
    """
    signalled = Interrupt(patience=float("inf"))
    signal.signal(signal.SIGTERM, signalled)
    print_to(output)
    open_jobs = set(range(len(configs)))

    def ended(number: int, error: BaseException | None) -> None:
        open_jobs.discard(number)
        end = (TRAINED, "") if error is None else ending(error, bool(signalled.number))
        line.send(("of", number, "end", *end))

    def say_of_teacher(text: str) -> None:
        print(text)
        line.send(("said", text))

    try:
        from kdlab.runs.identity import run_hash
        from kdlab.training.ensure_stacked import ensure_stacked

        for number, (config, digest) in enumerate(zip(configs, digests)):
            if run_hash(config) != digest:
                changed = (
                    "an input of this job (the file of its teacher, its data) has changed since the sweep was planned"
                )
                ended(number, InputError(f"{changed}; the same command plans it again"))
        if len(open_jobs) < len(configs):
            line.send(("apart", "an input of another job has changed"))
            return

        def observed(number: int) -> Callable[[int, int, dict, str], None]:
            return lambda finished, whole, row, unit: line.send(("of", number, "row", finished, whole, row, unit))

        trial = ensure_stacked(
            [{**config, "progress": "none"} for config in configs],
            [observed(number) for number in range(len(configs))],
            ended,
            say_of_teacher=say_of_teacher,
            begun=partial(_say_begun, line),
        )
        if trial.why_not:
            line.send(("apart", trial.why_not))
    except BaseException as error:
        for number in sorted(open_jobs):
            ended(number, error)


def _say_begun(line: Connection, runs: int, faster: float) -> None:
    line.send(("said", f"stacked {runs} runs: a step of all is {faster:.1f} times faster than their steps alone"))
