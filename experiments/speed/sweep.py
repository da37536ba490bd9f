"""What a sweep costs: kdlab's launcher from nothing, against a new process for each run, as other users do it.

    python experiments/speed/sweep.py --rounds 5
    python experiments/speed/sweep.py --pair fashion_mnist --epochs 3 --rounds 5
    python experiments/speed/sweep.py --runs 1 3 6 12 24 36 --rounds 3

The runs differ in temperature and seed. All have the same networks, samples, steps, optimiser and schedule, and a
teacher that was trained before. Each validates and saves after every epoch, and tests at the end. The time is that of
the whole command or of all processes, imports included. The ways take turns within each round.

``--launchers`` compares kdlab's launcher with Hydra's own multirun in one process, and with a new process of kdlab for
each run. ``--ways`` chooses among all; ``--variant 'NAME: OVERRIDES'`` adds kdlab with other overrides.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common import FASHION_MNIST, HERE, SWEPT, available, command, images, rounds, summary, teacher_of, write

SEEDS = (1, 2, 3)
FRACTION = {"digits": 1.0, "fashion_mnist": 0.2}  # of the training samples
BATCH = {"digits": 32, "fashion_mnist": 128}


@dataclass
class Sweep:
    """What all ways train: the runs of ``temperatures`` and ``seeds``, in new folders below ``folder``."""

    pair: str
    folder: Path
    epochs: int
    teacher: Path  # a run of kdlab; the plain network's state is in teacher.pt
    data: list[str]
    samples: int
    fashion_mnist: str
    temperatures: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    def of(self, runs: int) -> Sweep:
        """A sweep of so many runs: three seeds, and as many temperatures as it needs."""
        seeds = SEEDS if runs % 3 == 0 else SEEDS[:1]
        temperatures = tuple(range(1, runs // len(seeds) + 1))
        return Sweep(**{**vars(self), "temperatures": temperatures, "seeds": seeds})


def kdlab(sweep: Sweep, *further: str) -> dict:
    """The whole command, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(dir=sweep.folder))
    began = time.perf_counter()
    _run(command("train", "-m", *_overrides(sweep), _values(sweep), *_seeds(sweep), *further), folder)
    seconds = time.perf_counter() - began
    losses = []
    for file in sorted(folder.glob("runs/sweep/*/metrics.csv")):
        with open(file, encoding="utf-8") as lines:
            losses.append(float(list(csv.DictReader(lines))[-1]["train/loss"]))
    if len(losses) != len(sweep.temperatures) * len(sweep.seeds):
        raise SystemExit(f"kdlab trained {len(losses)} runs, not {len(sweep.temperatures) * len(sweep.seeds)}")
    return {"seconds": seconds, "loss": statistics.mean(losses)}


def _kdlab_with(sweep: Sweep, further: list[str]) -> dict:
    return kdlab(sweep, *further)


def _overrides(sweep: Sweep) -> list[str]:
    student = SWEPT[sweep.pair].student.overrides()
    data = [part for part in sweep.data if not part.startswith("paths.runs=")]
    return [
        *data, *student, "teacher=run", f"teacher.run={sweep.teacher}", "name=sweep",
        f"trainer.max_epochs={sweep.epochs}", "progress=none",
    ]  # fmt: skip


def _values(sweep: Sweep) -> str:
    return f"loss.kd.temperature={','.join(map(str, sweep.temperatures))}"


def _seeds(sweep: Sweep) -> list[str]:
    return [f"seed={','.join(map(str, sweep.seeds))}"]


def fresh(sweep: Sweep, way: str, at_a_time: int) -> dict:
    """A process for each run, one after the other or several at a time."""
    program = [sys.executable, str(HERE / "single.py"), way, "--pair", sweep.pair]
    program += ["--teacher", str(sweep.folder / "teacher.pt"), "--samples", str(sweep.samples)]
    program += ["--epochs", str(sweep.epochs), "--batch", str(BATCH[sweep.pair]), "--data", sweep.fashion_mnist]
    commands = [
        [*program, "--temperature", str(temperature), "--seed", str(seed)]
        for temperature in sweep.temperatures
        for seed in sweep.seeds
    ]
    began = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as pool:
        outputs = list(pool.map(partial(_run, folder=sweep.folder), commands))
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "loss": statistics.mean(json.loads(output.splitlines()[-1])["loss"] for output in outputs),
    }


def fresh_kdlab(sweep: Sweep) -> dict:
    """kdlab, in a new process for each run."""
    one = [
        Sweep(**{**vars(sweep), "temperatures": (temperature,), "seeds": (seed,)})
        for temperature in sweep.temperatures
        for seed in sweep.seeds
    ]
    found = [kdlab(sweep) for sweep in one]
    return {
        "seconds": sum(each["seconds"] for each in found),
        "loss": statistics.mean(each["loss"] for each in found),
    }


def _run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(arguments)}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


KDLAB = "kdlab"
WAYS: dict[str, Callable[[Sweep], dict]] = {
    KDLAB: kdlab,
    "torchdistill, one at a time": partial(fresh, way="torchdistill", at_a_time=1),
    "torchdistill, two at a time": partial(fresh, way="torchdistill", at_a_time=2),
    "plain loop, one at a time": partial(fresh, way="plain", at_a_time=1),
    "plain loop, two at a time": partial(fresh, way="plain", at_a_time=2),
    "kdlab, one worker": partial(_kdlab_with, further=["hydra.launcher.workers=1"]),
    "Hydra's own multirun": partial(_kdlab_with, further=["hydra/launcher=basic"]),
    "kdlab, a process for each run": fresh_kdlab,
}
USUAL = list(WAYS)[:4]
LAUNCHERS = [name for name in WAYS if name.startswith(("kdlab", "Hydra"))]


def prepared(pair: str, folder: Path, options) -> Sweep:
    """The teacher, and the number of samples that kdlab trains on."""
    data = [f"data={pair}", f"data.batch_size={BATCH[pair]}", f"paths.runs={folder / 'teachers'}"]
    data += [f"data.fraction={FRACTION[pair]}"]
    shape = images(SWEPT[pair].data, options.data, 1)[0].shape[1:]
    if pair == "fashion_mnist":
        data += [f"data.folder={Path(options.data).absolute()}"]
    run, teacher = teacher_of(SWEPT[pair], data, shape, epochs=2)
    torch.save(teacher.state_dict(), folder / "teacher.pt")
    with open(run / "metrics.csv", encoding="utf-8") as lines:
        steps = int(next(csv.DictReader(lines))["step"])
    return Sweep(pair, folder, options.epochs, run, data, steps * BATCH[pair], str(Path(options.data).absolute()))


def ways_of(options) -> dict[str, Callable[[Sweep], dict]]:
    """Those that were asked for and can be run here."""
    absent = [] if available(["torchdistill"]) else ["torchdistill"]
    ways = {name: WAYS[name] for name in options.ways if name.partition(",")[0] not in absent}
    for variant in options.variant:
        name, _, overrides = variant.partition(": ")
        ways[name] = partial(_kdlab_with, further=shlex.split(overrides))
    return {KDLAB: kdlab, **ways}


def table(rows: dict[str, dict], runs: int) -> str:
    lines = [f"| {runs} runs | seconds | quartiles | to kdlab | loss |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {row['median']:.1f} | {row['q1']:.1f} to {row['q3']:.1f} | {row['ratio']:.2f} "
        f"| {row['loss']:.3f} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, nargs="*", default=[12])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pair", choices=list(SWEPT), default="digits")
    parser.add_argument("--launchers", action="store_true", help="ways to run kdlab, instead of those of others")
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), help=f"default: {', '.join(USUAL)}")
    parser.add_argument("--variant", nargs="*", default=[], help="'NAME: OVERRIDES', kdlab with other overrides")
    parser.add_argument("--data", default=FASHION_MNIST, help="the folder of Fashion-MNIST")
    parser.add_argument("--quick", action="store_true", help="three runs of one epoch; keeps nothing")
    options = parser.parse_args()
    options.ways = options.ways or (LAUNCHERS if options.launchers else USUAL)
    if options.quick:
        options.runs, options.rounds, options.epochs = [3], 1, 1
    name = f"sweep_{options.pair}{'_launchers' * options.launchers}{'_by_runs' * (len(options.runs) > 1)}"
    kept: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as temporary:
        sweep = prepared(options.pair, Path(temporary), options)
        for runs in options.runs:
            ways = {name: partial(way, sweep.of(runs)) for name, way in ways_of(options).items()}
            found = rounds(ways, options.rounds, warm=0)
            seconds = {name: [one["seconds"] for one in values] for name, values in found.items()}
            rows = {
                name: {
                    **summary(seconds[name], seconds[KDLAB]),
                    "loss": statistics.median(one["loss"] for one in values),
                }
                for name, values in found.items()
            }
            kept[str(runs)] = rows
            print(f"\n{table(rows, runs)}", flush=True)
            steps = sweep.samples // BATCH[options.pair] * options.epochs
            facts = {"rounds": options.rounds, "epochs": options.epochs, "steps": steps}
            write(name, {"runs": kept, **facts}, options.quick)  # each time, in case that it is interrupted


if __name__ == "__main__":
    main()
