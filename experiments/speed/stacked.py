"""What stacking saves: a sweep with hydra.launcher.stack=true against the same sweep without.

    python experiments/speed/stacked.py --rounds 3
    python experiments/speed/stacked.py --student hidden=[256,256] --temperatures 4 --seeds 1
    python experiments/speed/stacked.py --device cuda --workers 1

Both train the same runs, in turns. *Cold* is the whole command in a new process, imports included. *Warm* is the time
from the first job to the last in a process that has imported everything, whose teacher is trained and whose answers are
kept. A step is what the trial of the stack measured: the steps of all runs alone against one step together. Prints
medians, and the medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdlab.cli.main import main as command
from kdlab.runs.run import find_runs
from kdlab.sweep.scheduler import Scheduler

SCRIPT = [sys.executable, "-c", "from kdlab.cli.main import script; script()"]


class Timed:
    """The seconds that schedulers took, of every sweep in this process."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        inner = Scheduler.run

        def run(scheduler: Scheduler) -> list:
            began = time.perf_counter()
            try:
                return inner(scheduler)
            finally:
                self.seconds.append(time.perf_counter() - began)

        Scheduler.run = run  # type: ignore[method-assign]


def arguments(options: argparse.Namespace, teacher: Path, name: str, stack: bool) -> list[str]:
    """The command line of a sweep."""
    temperatures = ",".join(str(2 + number) for number in range(options.temperatures))
    seeds = ",".join(str(1 + number) for number in range(options.seeds))
    return [
        "train",
        "-m",
        f"name={name}",
        "teacher=run",
        f"teacher.run={teacher}",
        f"trainer.max_epochs={options.epochs}",
        f"trainer.accelerator={'gpu' if options.device == 'cuda' else 'cpu'}",
        f"loss.kd.temperature={temperatures}",
        f"seed={seeds}",
        "progress=none",
        f"hydra.launcher.stack={str(stack).lower()}",
        *([f"hydra.launcher.workers={options.workers}"] if options.workers else []),
        *(f"student.{text}" for text in options.student),
    ]


def swept(folder: Path, options: argparse.Namespace, teacher: Path, name: str, stack: bool, cold: bool) -> float:
    """Seconds of a sweep."""
    given = arguments(options, teacher, name, stack)
    began = time.perf_counter()
    if cold:
        subprocess.run([*SCRIPT, *given], check=True, stdout=subprocess.DEVNULL)
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            assert command(given) == 0
    seconds = time.perf_counter() - began if cold else TIMED.seconds[-1]
    runs = list(find_runs([folder / "runs" / name]))
    assert len(runs) == options.temperatures * options.seeds
    if stack and not all(run.read().stacked for run in runs):
        raise SystemExit("the launcher did not stack these runs; kdlab train says why")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--temperatures", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="default: that of the launcher")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--student", nargs="*", default=[], help="options of the student, for example hidden=[64]")
    parser.add_argument("--warm", action="store_true", help="leave the cold sweeps out")
    options = parser.parse_args()
    rows: dict[str, list[tuple[float, float]]] = {
        name: [] for name in (("warm",) if options.warm else ("warm", "cold"))
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            assert command(["train", "experiment=teacher/digits", "progress=none"]) == 0
            teacher = next(find_runs([folder / "runs"])).path
        for stack in (False, True):  # warms up, and keeps the teacher's answers
            swept(folder, options, teacher, f"first-{stack}", stack, cold=False)
        faster = [run.read().stacked["times_faster"] for run in find_runs([folder / "runs" / "first-True"])]
        for number in range(options.rounds):
            for kind, values in rows.items():
                order = (False, True) if number % 2 else (True, False)
                found = {
                    stack: swept(folder, options, teacher, f"{kind}-{number}-{stack}", stack, kind == "cold")
                    for stack in order
                }
                values.append((found[False], found[True]))
                print(f"round {number + 1}, {kind}: {found[False]:.1f} s, stacked {found[True]:.1f} s", flush=True)
    count = options.temperatures * options.seeds
    print(f"\n| {count} runs of {options.epochs} epochs | apart, s | stacked, s | times faster |\n|---|---:|---:|---:|")
    for kind, values in rows.items():
        apart, together = (statistics.median(column) for column in zip(*values))
        print(f"| {kind} | {apart:.1f} | {together:.1f} | {statistics.median(a / b for a, b in values):.1f} |")
    print(f"| a step, in the trial | | | {statistics.median(faster):.1f} |")


if __name__ == "__main__":
    TIMED = Timed()
    main()
