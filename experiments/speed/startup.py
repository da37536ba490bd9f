"""What kdlab's commands cost before they do anything: processor time of new processes.

    python experiments/speed/startup.py --rounds 9

The time is user and system time of the whole process, so other load on the machine counts little. *Beyond Python* is
without that of an interpreter that does nothing. ``compare`` reads a sweep of 100 short runs that is trained first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import command, rounds, summary, write

PYTHON = "python, nothing"
SWEEP = ["strategy=supervised", "data.fraction=0.1", "trainer.max_epochs=1", "name=speed", "progress=none"]


def commands(runs: int) -> dict[str, list[str]]:
    """Name -> what is started."""
    return {
        PYTHON: [sys.executable, "-c", "pass"],
        "python, import torch": [sys.executable, "-c", "import torch"],
        "kdlab --help": command("--help"),
        "kdlab methods": command("methods"),
        f"kdlab runs, {runs} runs": command("runs"),
        f"kdlab compare, {runs} runs": command("compare", "runs/speed"),
    }


def seconds(arguments: list[str], folder: Path) -> float:
    """Processor time of a process and its children."""
    import resource  # Windows has none, and reads the results too

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(rows: dict) -> str:
    lines = ["| command | processor time, s | quartiles | beyond Python, s |", "|---|---:|---:|---:|"]
    lines += [
        f"| {name} | {row['median']:.3f} | {row['q1']:.3f} to {row['q3']:.3f} | {row['beyond']:.3f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--runs", type=int, default=100, help="that compare and runs read (default: 100)")
    parser.add_argument("--quick", action="store_true", help="one round with two runs; keeps nothing")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.runs = 1, 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        swept = command("train", "-m", *SWEEP, f"seed=range(1,{options.runs + 1})")
        subprocess.run(swept, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        ways: dict[str, Callable[[], float]] = {
            name: partial(seconds, arguments, folder) for name, arguments in commands(options.runs).items()
        }
        found = rounds(ways, options.rounds, warm=0 if options.quick else 1)
    rows = {}
    for name, values in found.items():
        rows[name] = summary(values)
        rows[name]["beyond"] = summary([mine - none for mine, none in zip(values, found[PYTHON])])["median"]
    print(table(rows))
    write("startup", {"commands": rows, "rounds": options.rounds}, options.quick)


if __name__ == "__main__":
    main()
