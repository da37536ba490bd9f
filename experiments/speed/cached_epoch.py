"""What an epoch costs with a live teacher, with kept answers, and without a teacher.

    python experiments/speed/cached_epoch.py --rounds 5

The seconds are those of an epoch's training steps and of its validation, as the curve has them, without an epoch that
comes first. The table gives ratios round by round, and says whether the weights of the live and the cached run are
equal.

*Targets in memory* is the same training with a teacher that is one tensor of answers: the least that any cache can
cost.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from common import FASHION_MNIST, PAIRS, SWEPT, Pair, merged, rounds, summary, trained, write

import kdlab
from kdlab.cache import Cached
from kdlab.outputs import Outputs
from kdlab.runs.run import Run

DRAWN = ["data.augment.crop_padding=2", "data.augment.flip=0.5"]
COMPARED = {"fixed": "live", "views, drawn": "live, drawn"}


@contextlib.contextmanager
def targets_in_memory() -> Iterator[None]:
    """Every cached teacher answers from one dense tensor; only for fixed answers."""
    usual, tensors = Cached.teach, {}

    def teach(self: Cached, batch: kdlab.Batch) -> Outputs:
        if batch.split != "train":
            return usual(self, batch)
        if id(self) not in tensors:
            index, values = self.store.read("train", "logits") or (None, None)
            if index is None or values is None:
                return usual(self, batch)
            tensors[id(self)] = torch.zeros(int(index.max()) + 1, values.shape[1])
            tensors[id(self)][index] = values
        return Outputs(tensors[id(self)][batch.index])

    Cached.teach = teach  # type: ignore[method-assign]
    try:
        yield
    finally:
        Cached.teach = usual  # type: ignore[method-assign]


def epoch_seconds(run: Run) -> float:
    with open(run.metrics_file, encoding="utf-8") as file:
        return statistics.median(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])


def timed(way: Callable[[], Run]) -> tuple[Run, float]:
    """A new run, and the seconds of its epochs."""
    run = way()
    return run, epoch_seconds(run)


def weights(run: Run) -> dict:
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def contenders(common: list[str], student: list[str], teacher: Run) -> dict[str, Callable[[], Run]]:
    taught = [*common, *student, "loss=[ce,kd]", "teacher=run", f"teacher.run={teacher.path}"]
    alone = [*common, *student, "loss=[ce]", "teacher=none", "strategy=supervised"]

    def run(name: str, overrides: list[str]) -> Callable[[], Run]:
        return lambda: trained([*overrides, f"name={name}", "fresh=true"])

    def in_memory() -> Run:
        with targets_in_memory():
            return trained([*taught, "teacher.cache=fixed", "name=memory", "fresh=true"])

    return {
        "labels alone": run("labels", alone),
        "targets in memory": in_memory,
        "fixed": run("fixed", [*taught, "teacher.cache=fixed"]),
        "live": run("live", [*taught, "teacher.cache=live"]),
        "labels alone, drawn": run("labels_drawn", [*alone, *DRAWN]),
        "views, drawn": run("views", [*taught, *DRAWN, "teacher.cache=views"]),
        "live, drawn": run("live_drawn", [*taught, *DRAWN, "teacher.cache=live"]),
    }


def measured(pair: Pair, data: list[str], options) -> dict:
    """Contender -> its summary."""
    few = [*data, "strategy=supervised", "trainer.max_epochs=2", "name=t"]
    teacher = trained([*few, *pair.teacher.overrides()])
    common = [*data, f"trainer.max_epochs={options.epochs}"]
    ways = contenders(common, pair.student.overrides(), teacher)
    ways = {name: way for name, way in ways.items() if name in (options.ways or ways)}
    # the round before the first fills the caches
    # and each round trains in the directories of the one before, so its curve is read at once
    found = rounds({name: partial(timed, way) for name, way in ways.items()}, options.rounds, warm=1)
    last = {name: weights(runs[-1][0]) for name, runs in found.items()}
    seconds = {name: [epoch for _, epoch in runs] for name, runs in found.items()}
    rows = {}
    for name, values in seconds.items():
        rows[name] = summary(values, seconds["labels alone, drawn" if "drawn" in name else "labels alone"])
        if "drawn" not in name and "targets in memory" in seconds:
            rows[name]["to_memory"] = summary(values, seconds["targets in memory"])["ratio"]
        if (other := COMPARED.get(name)) in last:
            rows[name]["equal"] = all(torch.equal(value, last[name][key]) for key, value in last[other].items())
    return rows


def table(rows: dict) -> str:
    lines = [
        "| an epoch | seconds | quartiles | to labels alone | to targets in memory | weights as with live |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, row in rows.items():
        memory = f"{row['to_memory']:.2f}" if "to_memory" in row else ""
        same = {True: "equal, bit for bit", False: "different", None: ""}[row.get("equal")]
        lines.append(
            f"| {name} | {row['median']:.3f} | {row['q1']:.3f} to {row['q3']:.3f} | {row['ratio']:.2f} | {memory} "
            f"| {same} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--data", default=FASHION_MNIST, help="the folder of Fashion-MNIST")
    parser.add_argument("--fraction", type=float, default=0.2, help="of the training samples (default: 0.2)")
    parser.add_argument("--pair", nargs="*", choices=list(PAIRS), help="default: all")
    parser.add_argument("--ways", nargs="*", help="some of the rows: 'labels alone' fixed live … (default: all)")
    parser.add_argument("--quick", action="store_true", help="a try on the digits: one round; keeps nothing")
    options = parser.parse_args()
    pairs = {name: PAIRS[name] for name in options.pair or PAIRS}
    data = ["data=fashion_mnist", f"data.folder={Path(options.data).absolute()}", f"data.fraction={options.fraction}"]
    if options.quick:
        options.rounds, options.epochs, pairs, data = 1, 2, {"digits": SWEPT["digits"]}, ["data=digits"]
    kept = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, pair in pairs.items():
            kept[name] = measured(pair, [*data, f"paths.runs={folder}"], options)
            print(f"\n{name}\n\n{table(kept[name])}", flush=True)
            write("cached_epoch", merged("cached_epoch", kept, options), options.quick)


if __name__ == "__main__":
    main()
