"""A training step of a language model with a teacher's kept answers, against a step of cross-entropy alone.

    python experiments/speed/sparse.py --rounds 9

The student is a new Llama of the width and vocabulary of SmolLM2-135M. All ways train the same student on the same
batches: forward and backward pass, and AdamW. They take turns within each round. The loss is cross-entropy alone, or
half of it and half of the forward KL to a teacher: live, or read from a cache of its 64 most probable tokens, of 50
samples, or of its hidden states. The teacher is a random Llama, since time does not depend on what it has learned.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from common import rounds, summary, write

from kdlab.batch import Batch
from kdlab.cache import CachedRows, Contents, Store
from kdlab.losses import CrossEntropy, ForwardKL
from kdlab.models import CausalModel
from kdlab.objective import Objective
from kdlab.tasks import CausalLM
from kdlab.teachers import Frozen, Teacher

BASE = "cross-entropy"
CODECS = {
    "top-64 cache": {"name": "top_k", "k": 64, "temperature": 1.0},
    "cache of 50 samples": {"name": "sampled", "samples": 50, "exponent": 1.0, "temperature": 1.0},
    "cache of hidden states": {"name": "hidden"},
}
TEXTS = 16


class Work:
    """A student, a teacher, and batches of random tokens.

    Args:
        rows_at_once: how many rows get logits at a time; None: all.
    """

    def __init__(self, folder: Path, options: argparse.Namespace, rows_at_once: int | None):
        self.options, self.task = options, CausalLM(options.vocabulary, rows_at_once)
        sizes = {"vocabulary": options.vocabulary, "width": options.width, "heads": options.heads}
        torch.manual_seed(0)
        self.student = CausalModel(architecture="llama", layers=options.layers, **sizes)
        live = Frozen(CausalModel(architecture="llama", layers=options.teacher_layers, **sizes), self.task)
        tokens = torch.randint(0, options.vocabulary, (TEXTS, options.length))
        self.batches = [
            Batch({"input_ids": tokens[rows]}, tokens[rows], rows) for rows in torch.arange(TEXTS).split(options.batch)
        ]
        self.teachers: dict[str, Teacher | None] = {BASE: None, "live teacher": live}
        for name, codec in CODECS.items():
            contents = Contents(
                {}, name, {}, {}, "", "fixed", None, options.batch, "cpu", torch.__version__, codec=codec
            )
            store = Store.of(folder, name, contents)
            one = CachedRows(lambda: live, store, True, self.task)
            one.write("train", one.asked(self.batches, 0, "cpu"), {})
            self.teachers[name] = CachedRows(lambda: live, Store.of(folder, name, contents), True, self.task)
        self.taught = Objective({"ce": CrossEntropy(), "forward_kl": ForwardKL()}, {"ce": 0.5, "forward_kl": 0.5})
        self.alone = Objective({"ce": CrossEntropy()}, {"ce": 1.0})
        self.optimizer = torch.optim.AdamW(self.student.parameters(), 1e-4)

    def step(self, way: str, batch: Batch) -> float:
        """One step; the loss."""
        teacher = self.teachers[way]
        student = self.task.align(self.task.network_outputs(self.student, batch), batch)
        taught = None if teacher is None else self.task.align(teacher.teach(batch), batch)
        objective = self.alone if taught is None else self.taught
        loss = torch.as_tensor(objective(student, taught, self.task.align_batch(batch)).total)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def seconds(self, way: str) -> float:
        """Of a step: the median over the batches."""
        found = []
        for batch in self.batches[: self.options.steps]:
            start = time.perf_counter()
            self.step(way, batch)
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    def kept(self) -> dict[str, dict]:
        """What the manifests say of each cache."""
        return {name: one.store.measured["train"] for name, one in self.teachers.items() if isinstance(one, CachedRows)}


def table(rows: dict[str, dict], kept: dict[str, dict]) -> str:
    """A row for each way."""
    lines = [
        "| way | ms a step | to cross-entropy | quartiles | bytes a token |",
        "|---|---:|---:|---:|---:|",
    ]
    for way, row in rows.items():
        size = f"{kept[way]['bytes'] / kept[way]['tokens']:,.0f}" if way in kept else ""
        lines.append(
            f"| {way} | {1000 * row['median']:,.1f} | {row['ratio']:.3f} | {row['ratio_q1']:.3f} to "
            f"{row['ratio_q3']:.3f} | {size} |"
        )
    return "\n".join(lines)


def measured(options: argparse.Namespace, rows_at_once: int | None) -> dict:
    """Way -> summary of its step, and what the manifests say."""
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), options, rows_at_once)
        ways: dict[str, Callable[[], float]] = {way: partial(work.seconds, way) for way in work.teachers}
        found = rounds(ways, options.rounds)
        kept = work.kept()
    return {"ways": {way: summary(values, found[BASE]) for way, values in found.items()}, "kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="of each way in a round")
    parser.add_argument("--batch", type=int, default=4, help="texts of a step")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--heads", type=int, default=9)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--teacher-layers", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="one round of a small size; keeps nothing")
    options = parser.parse_args()
    if options.quick:
        small = {"rounds": 1, "steps": 1, "batch": 4, "length": 16, "vocabulary": 512, "width": 32, "heads": 4}
        vars(options).update(**small, layers=1, teacher_layers=2)
    torch.set_num_threads(1)
    kept = {}
    for name, rows_at_once in (("all rows at once", None), ("128 rows at a time", 128)):
        kept[name] = measured(options, rows_at_once)
        print(f"\n**{name}**\n\n{table(kept[name]['ways'], kept[name]['kept'])}", flush=True)
    write(
        "sparse",
        {"sizes": kept, **{key: value for key, value in vars(options).items() if key != "quick"}},
        options.quick,
    )


if __name__ == "__main__":
    main()
