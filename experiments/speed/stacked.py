"""What stacking saves: a sweep with hydra.launcher.stack=true against the same sweep without.

    python experiments/speed/stacked.py --rounds 3
    python experiments/speed/stacked.py --student hidden=[256,256] --temperatures 4 --seeds 1
    python experiments/speed/stacked.py --device cuda --workers 1

Both train the same runs. *Cold* is the whole command in a new process, imports included. *Warm* is the whole command in
a process that has made such sweeps before, so its warm processes exist and the teacher's answers are kept. The trial is
what kdlab measured before it stacked: the steps of all runs alone against one step together. The ways take turns within
each round.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from common import command, quiet, rounds, summary, trained, write

from kdlab.cli.main import main as kdlab
from kdlab.runs.run import find_runs

NUMBER = itertools.count()  # of the sweeps so far: each has a folder of its own
KINDS = ("warm", "cold")


def swept(options: argparse.Namespace, teacher: Path, cold: bool, stack: bool) -> dict[str, float]:
    """Seconds of a sweep, and how many times faster the trial found a step of the stack."""
    name = f"sweep{next(NUMBER)}"
    given = [
        "train",
        "-m",
        f"name={name}",
        "teacher=run",
        f"teacher.run={teacher}",
        f"trainer.max_epochs={options.epochs}",
        f"trainer.accelerator={'gpu' if options.device == 'cuda' else 'cpu'}",
        f"loss.kd.temperature={','.join(str(2 + number) for number in range(options.temperatures))}",
        f"seed={','.join(str(1 + number) for number in range(options.seeds))}",
        "progress=none",
        f"hydra.launcher.stack={str(stack).lower()}",
        *([f"hydra.launcher.workers={options.workers}"] if options.workers else []),
        *(f"student.{text}" for text in options.student),
    ]
    began = time.perf_counter()
    if cold:
        code = subprocess.run(command(*given), stdout=subprocess.DEVNULL).returncode
    else:
        with quiet():
            code = kdlab(given)
    seconds = time.perf_counter() - began
    runs = list(find_runs([Path("runs") / name]))
    if code or len(runs) != options.temperatures * options.seeds:
        raise SystemExit(f"the sweep ended with {code} and trained {len(runs)} runs")
    stacked = [run.read().stacked for run in runs]
    if stack and not all(stacked):
        raise SystemExit("kdlab did not stack these runs; kdlab train -m … hydra.launcher.stack=true says why")
    return {"seconds": seconds, "trial": statistics.mean(one["times_faster"] for one in stacked) if stack else 0.0}


def table(content: dict) -> str:
    """The seconds of both ways, and their ratio round by round."""
    lines = [
        f"| {content['runs']} runs of {content['epochs']} epochs | apart, s | stacked, s | times faster | quartiles |",
        "|---|---:|---:|---:|---:|",
    ]
    for kind, row in content["kinds"].items():
        apart, together = row["apart"], row["stacked"]
        lines.append(
            f"| {kind} | {apart['median']:.1f} | {together['median']:.1f} | {apart['ratio']:.1f} "
            f"| {apart['ratio_q1']:.1f} to {apart['ratio_q3']:.1f} |"
        )
    return "\n".join([*lines, f"| a step, in the trial | | | {content['trial']:.1f} | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--temperatures", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="default: that of the launcher")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--student", nargs="*", default=[], help="options of the student, for example hidden=[64]")
    parser.add_argument("--quick", action="store_true", help="three runs of one epoch, warm only; keeps nothing")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.epochs, options.temperatures, options.seeds = 1, 1, 3, 1
    kinds = KINDS[:1] if options.quick else KINDS
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        teacher = trained(["experiment=teacher/digits", *(["trainer.max_epochs=2"] * options.quick)]).path
        ways = {
            (kind, stack): partial(swept, options, teacher, kind == "cold", stack)
            for kind in kinds
            for stack in (False, True)
        }
        found = rounds(ways, options.rounds)
    seconds = {way: [one["seconds"] for one in values] for way, values in found.items()}
    content = {
        "rounds": options.rounds,
        "epochs": options.epochs,
        "runs": options.temperatures * options.seeds,
        "student": options.student,
        "trial": statistics.median(one["trial"] for one in found["warm", True]),
        "kinds": {
            kind: {
                "apart": summary(seconds[kind, False], seconds[kind, True]),
                "stacked": summary(seconds[kind, True]),
            }
            for kind in kinds
        },
    }
    print(table(content))
    write("stacked_cuda" if options.device == "cuda" else "stacked", content, options.quick or bool(options.student))


if __name__ == "__main__":
    main()
