"""One training of a sweep in a process of its own, as the users of a plain loop or of torchdistill start it.

    python experiments/speed/single.py torchdistill --pair digits --teacher teacher.pt --samples 1120 --epochs 20

sweep.py and growth.py start it. It reads the data, loads the teacher's weights, trains, validates and saves after each
epoch, tests at the end, and prints the mean loss of the last epoch and the seconds of a step. Optimiser and schedule
are kdlab's defaults: AdamW and a cosine by steps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

import torch
from common import FASHION_MNIST, SWEPT, Job, images, memory

ADAMW = {"lr": 0.01, "weight_decay": 0.01}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["plain", "torchdistill"])
    parser.add_argument("--pair", choices=list(SWEPT), default="digits")
    parser.add_argument("--teacher", type=Path, required=True, help="a file with the plain network's state")
    parser.add_argument("--samples", type=int, required=True, help="of training")
    parser.add_argument("--held", type=int, default=256, help="samples of validation")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", default=FASHION_MNIST)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pair = SWEPT[options.pair]
    x, y = images(pair.data, options.data, options.samples + options.held)
    teacher = pair.teacher.plain(x.shape[1:])
    teacher.load_state_dict(torch.load(options.teacher, weights_only=True))
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            x[: options.samples],
            y[: options.samples],
            teacher,
            partial(pair.student.plain, x.shape[1:]),
            epochs=options.epochs,
            batch=options.batch,
            temperature=options.temperature,
            optimizer="AdamW",
            rate=ADAMW,
            cosine=True,
            seed=options.seed,
            held=(x[options.samples :], y[options.samples :]),
            folder=Path(folder),
        )
        if options.way == "plain":
            from contenders import plain_loop as train
        else:
            from box import torchdistill as train
        found = train(job)
    print(json.dumps({"loss": found.loss, "step": found.step, "memory": memory()}))


if __name__ == "__main__":
    main()
