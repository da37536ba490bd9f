"""What a sweep costs: kdlab's launcher, Hydra's own multirun in one process, and a fresh process for each run.

    python experiments/speed/sweep_cost.py --rounds 3

The three take turns within each round, so that what else the machine does falls on all of them. *Cold* is the whole
command from nothing, imports included. *Warm* leaves out what is paid once: for kdlab the time until the first job
begins, for Hydra's own multirun the same; fresh processes are never warm. Prints medians, and their ratios to kdlab's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from kdlab.runs.run import find_runs

COMMON = ["teacher=run", "trainer.max_epochs=3", "progress=none"]
TEMPERATURES, SEEDS = (1, 2, 4, 8), (1, 2, 3)


def kdlab(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds of a command, and the seconds after its first run was begun."""
    began = time.time()
    subprocess.run(
        [sys.executable, "-c", "from kdlab.cli.main import script; script()", "train", *arguments],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    ended = time.time()
    first = min(
        (path / "config.yaml").stat().st_mtime
        for path in (run.path for run in find_runs([folder / "runs" / "quickstart"]))
    )
    return ended - began, ended - first


def swept(folder: Path, teacher: Path, *launcher: str) -> tuple[float, float]:
    return kdlab(
        folder,
        "-m",
        *COMMON,
        f"teacher.run={teacher}",
        f"loss.kd.temperature={','.join(map(str, TEMPERATURES))}",
        f"seed={','.join(map(str, SEEDS))}",
        *launcher,
    )


def fresh(folder: Path, teacher: Path) -> tuple[float, float]:
    seconds = sum(
        kdlab(folder, *COMMON, f"teacher.run={teacher}", f"loss.kd.temperature={temperature}", f"seed={seed}")[0]
        for temperature, seed in product(TEMPERATURES, SEEDS)
    )
    return seconds, seconds


WAYS = {
    "kdlab": swept,
    "Hydra's own multirun, in process": lambda folder, teacher: swept(folder, teacher, "hydra/launcher=basic"),
    "a fresh process for each run": fresh,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as temporary:
        kdlab_teacher = Path(temporary) / "teacher"
        kdlab_teacher.mkdir()
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from kdlab.cli.main import script; script()",
                "train",
                "experiment=teacher/digits",
                "progress=none",
            ],
            cwd=kdlab_teacher,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        teacher = next(find_runs([kdlab_teacher / "runs"])).path
        for number in range(options.rounds):
            for name, way in WAYS.items():
                folder = Path(temporary) / f"{number}-{len(name)}"
                folder.mkdir()
                seconds[name].append(way(folder, teacher))
                print(
                    f"round {number + 1}: {name}: {seconds[name][-1][0]:.1f} s, {seconds[name][-1][1]:.1f} s of it "
                    "after the first beginning",
                    flush=True,
                )
    print(
        "\n"
        f"| {len(TEMPERATURES) * len(SEEDS)} runs of 3 epochs on digits | cold, s | ratio | warm, s | ratio |\n"
        "|---|---:|---:|---:|---:|"
    )
    medians = {name: [statistics.median(column) for column in zip(*values)] for name, values in seconds.items()}
    for name, (cold, warm) in medians.items():
        print(
            f"| {name} | {cold:.1f} | {cold / medians['kdlab'][0]:.2f} | {warm:.1f} | {warm / medians['kdlab'][1]:.2f} "
            "|"
        )


if __name__ == "__main__":
    main()
