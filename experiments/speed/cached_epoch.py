"""What an epoch costs with a live teacher, with kept answers, and without a teacher.

    python experiments/speed/cached_epoch.py --rounds 5 --data FOLDER

FOLDER holds Fashion-MNIST (``data.folder``). The contenders take turns within each round, in one process with one
thread, so that what else the machine does falls on all of them. The seconds are those of an epoch's training steps and
of its validation, as the curve has them, without an epoch that comes first. Prints medians, quartiles, ratios, and
whether the weights of the live and the cached run are equal.

*Targets in memory* is the same training with a teacher that is one tensor of answers: the least that any cache can
cost.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import kdlab
from kdlab.cache import Cached
from kdlab.outputs import Outputs
from kdlab.runs.run import Run

EPOCHS = 4
DRAWN = ["data.augment.crop_padding=2", "data.augment.flip=0.5"]
PAIRS = {
    "MLP 784-1200-1200-10 to 784-100-10": (
        ["student=mlp", "student.hidden=[1200,1200]"],
        ["student=mlp", "student.hidden=[100]"],
    ),
    "MLP 784-32-10 to itself": (["student=mlp", "student.hidden=[32]"], ["student=mlp", "student.hidden=[32]"]),
    "CNN 32-64-128 to 8-16-32": (["student=cnn_wide"], ["student=cnn"]),
}


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


def trained(overrides: list[str]) -> Run:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kdlab.train([*overrides, "progress=none", "fresh=true"])


def epoch_seconds(run: Run) -> float:
    rows = list(csv.DictReader(open(run.metrics_file)))
    return statistics.median(float(row["seconds"]) for row in rows[1:])


def weights(run: Run) -> dict:
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def contenders(common: list[str], student: list[str], teacher: Run) -> dict[str, Callable[[], Run]]:
    taught = [*common, *student, "loss=[ce,kd]", "teacher=run", f"teacher.run={teacher.path}"]

    def run(name: str, overrides: list[str]) -> Callable[[], Run]:
        return lambda: trained([*overrides, f"name={name}"])

    def in_memory() -> Run:
        with targets_in_memory():
            return trained([*taught, "teacher.cache=fixed", "name=memory"])

    return {
        "labels alone": run("labels", [*common, *student, "loss=[ce]", "teacher=none", "strategy=supervised"]),
        "targets in memory": in_memory,
        "fixed": run("fixed", [*taught, "teacher.cache=fixed"]),
        "live": run("live", [*taught, "teacher.cache=live"]),
        "labels alone, drawn": run(
            "labels_drawn", [*common, *student, *DRAWN, "loss=[ce]", "teacher=none", "strategy=supervised"]
        ),
        "views, drawn": run("views", [*taught, *DRAWN, "teacher.cache=views"]),
        "live, drawn": run("live_drawn", [*taught, *DRAWN, "teacher.cache=live"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", required=True, help="the folder of Fashion-MNIST, as data.folder")
    parser.add_argument("--fraction", type=float, default=0.2, help="of the training samples (default: 0.2)")
    parser.add_argument("--pair", nargs="*", default=list(PAIRS), help=f"of {list(PAIRS)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        common = [
            "data=fashion_mnist",
            f"data.folder={Path(options.data).absolute()}",
            f"data.fraction={options.fraction}",
            f"paths.runs={folder}",
        ]
        for pair in options.pair:
            large, small = PAIRS[pair]
            teacher = trained(
                [*common, *large, "strategy=supervised", "teacher=none", "trainer.max_epochs=2", "name=t"]
            )
            ways = contenders([*common, f"trainer.max_epochs={EPOCHS}"], small, teacher)
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            last: dict[str, Run] = {}
            for number in range(options.rounds + 1):
                for name, way in ways.items():
                    last[name] = way()
                    if number:  # the round before the first fills the caches
                        seconds[name].append(epoch_seconds(last[name]))
            report(pair, seconds, last)


def report(pair: str, seconds: dict[str, list[float]], last: dict[str, Run]) -> None:
    print(f"\n{pair}\n\n| an epoch | seconds | quartiles | to labels alone | to targets in memory |")
    print("|---|---:|---:|---:|---:|")
    for name, values in seconds.items():
        first, _, third = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
        labels = seconds["labels alone, drawn" if "drawn" in name else "labels alone"]
        ratios = [
            f"{statistics.median(mine / other for mine, other in zip(values, others)):.2f}" if others else ""
            for others in (labels, [] if "drawn" in name else seconds["targets in memory"])
        ]
        print(
            f"| {name} | {statistics.median(values):.3f} | {first:.3f} to {third:.3f} | {ratios[0]} | {ratios[1]} |",
            flush=True,
        )
    for one, other in (("live", "fixed"), ("live, drawn", "views, drawn")):
        mine, theirs = weights(last[one]), weights(last[other])
        same = all(torch.equal(mine[name], theirs[name]) for name in mine)
        print(f"weights of {one} and {other}: {'equal, bit for bit' if same else 'different'}")


if __name__ == "__main__":
    main()
