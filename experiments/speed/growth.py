"""How the time of a step, the time of an epoch and memory grow with classes, samples, taps and views.

    python experiments/speed/growth.py --rounds 3

Each point is a run of kdlab in a new process, on images of 8 x 8 pixels, with networks of eight hidden layers of
64 units, batches of 128, and the teacher live. Memory is the largest resident size of the process, with Python and all
packages; kdlab's is that since its training began. The same is measured of one run of each contender of sweep.py.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import sweep
from common import FASHION_MNIST, HERE, SWEPT, available, memory, rounds, summary, trained, write

LAYERS = 8
NETWORK = ["student=mlp", f"student.hidden=[{','.join(['64'] * LAYERS)}]"]
EPOCHS = 3  # the first one does not count, and the last one is validated
CROP = ["data.augment.crop_padding=1"]


def data(count: int = 20_000, classes: int = 10) -> list[str]:
    return [
        "data=digits", "data._target_=synthetic.Noise", "data.name=noise", f"data.classes={classes}",
        f"+data.categories={classes}", f"+data.count={count}", "data.validation=0.1", "data.batch_size=128",
    ]  # fmt: skip


def taps(count: int) -> list[str]:
    """That many losses, each of which reads a tap of student and teacher."""
    return [
        f"+loss.tap{number}={{_target_: kdlab.losses.HiddenMSE, weight: 0.1, student_tap: stage{number}, "
        f"teacher_tap: stage{number}}}"
        for number in range(1, count + 1)
    ]


#: axis -> value -> (overrides of the data, further overrides of the run)
AXES: dict[str, dict[int, tuple[list[str], list[str]]]] = {
    "classes": {classes: (data(classes=classes), []) for classes in (10, 100, 1000)},
    "samples": {count: (data(count), []) for count in (2_000, 20_000, 200_000)},
    "taps": {count: (data(), taps(count)) for count in (0, 1, 2, 4, 8)},
    "views": {
        1: (data(), CROP),
        2: (data(), [*CROP, "+loss.second={_target_: synthetic.SecondView, weight: 0.1}"]),
    },
}


def point(overrides: list[str]) -> dict:
    """Train in this process: ms of a step, seconds of an epoch, and MB."""
    with open(trained(overrides).metrics_file, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps, epoch = int(rows[0]["step"]), float(rows[1]["seconds"])
    return {"step": 1000 * epoch / steps, "epoch": epoch, "memory": memory()}


def elsewhere(overrides: list[str]) -> dict:
    """:func:`point` in a new process."""
    program = [sys.executable, str(HERE / "growth.py"), "--point", json.dumps(overrides)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{overrides}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def along(axis: str, folder: Path, options) -> dict:
    """Value -> summaries of the three measurements."""
    ways = {}
    for value, (of_data, further) in AXES[axis].items():
        common = [*of_data, f"paths.runs={folder}"]
        teacher = trained([*common, *NETWORK, "strategy=supervised", "trainer.max_epochs=3", "name=teacher"])
        overrides = [
            *common, *NETWORK, "loss=[ce,kd]", *further, "teacher=run", f"teacher.run={teacher.path}",
            f"trainer.max_epochs={EPOCHS}", f"+trainer.check_val_every_n_epoch={EPOCHS}", "fresh=true", "name=point",
        ]  # fmt: skip
        ways[str(value)] = partial(elsewhere, overrides)
        if options.quick and len(ways) == 2:
            break
    return summaries(rounds(ways, options.rounds, warm=0))


def contenders(folder: Path, options) -> dict:
    """Contender -> summaries: one run of the sweep of digits, for three epochs."""
    swept = sweep.prepared("digits", folder, SimpleNamespace(epochs=EPOCHS, data=options.data))
    program = [sys.executable, str(HERE / "single.py")]
    facts = ["--teacher", str(folder / "teacher.pt"), "--samples", str(swept.samples), "--epochs", str(EPOCHS)]

    def single(way: str) -> dict:
        done = subprocess.run([*program, way, *facts], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        return {"step": 1000 * found["step"], "memory": found["memory"]}

    own = [*swept.data, *SWEPT["digits"].student.overrides(), "teacher=run", f"teacher.run={swept.teacher}"]
    ways = {"plain loop": partial(single, "plain")}
    if available(["torchdistill"]):
        ways["torchdistill"] = partial(single, "torchdistill")
    ways["kdlab"] = partial(elsewhere, [*own, f"trainer.max_epochs={EPOCHS}", "fresh=true", "name=one"])
    return summaries(rounds(ways, options.rounds, warm=0))


def summaries(found: dict) -> dict:
    return {
        value: {name: summary([one[name] for one in outcomes]) for name in outcomes[0]}
        for value, outcomes in found.items()
    }


def table(axis: str, rows: dict) -> str:
    lines = [f"| {axis} | ms a step | memory, MB |", "|---|---:|---:|"]
    lines += [
        f"| {value} | {row['step']['median']:.2f} | {row['memory']['median']:.0f} |" for value, row in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--axes", nargs="*", choices=[*AXES, "contender"], default=[*AXES, "contender"])
    parser.add_argument("--data", default=FASHION_MNIST, help=argparse.SUPPRESS)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one round of two points; keeps nothing")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(point(json.loads(options.point))))
        return
    if options.quick:
        options.rounds, options.axes = 1, ["views"]
    kept = {}
    for axis in options.axes:
        with tempfile.TemporaryDirectory() as folder:
            kept[axis] = (contenders if axis == "contender" else partial(along, axis))(Path(folder), options)
        print(f"\n{table(axis, kept[axis])}", flush=True)
    write("growth", {"axes": kept, "rounds": options.rounds}, options.quick)


if __name__ == "__main__":
    main()
