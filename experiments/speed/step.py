"""What a training step costs: kdlab and six other ways to train the same student, in turns.

    python experiments/speed/step.py --rounds 9
    python experiments/speed/step.py --profile --rounds 3
    python experiments/speed/step.py --device cuda

All train the same pairs on the same data with batches of 128, SGD and Hinton's loss. The floor is a plain loop over
tensors in memory. kdlab has its teacher live, and the callbacks that every user has. The table gives the time of a
step, its ratio to the floor round by round, and the time that is added to the floor. The mean loss of the last epoch
shows that all train the same.

``--profile`` says where kdlab's step spends its time, and where the floor does.
``--device cuda`` compares them on a GPU in bf16 on a pair of ResNets at CIFAR's size, with images a second and the
share of the GPU's peak.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import contenders
import profile_step
import torch
from box import torchdistill
from common import (
    FASHION_MNIST,
    PAIRS,
    RESNETS,
    SWEPT,
    Job,
    available,
    images,
    merged,
    noise_on_disk,
    rounds,
    summary,
    teacher_of,
    write,
)

FLOOR = "plain loop"
WAYS = {
    FLOOR: contenders.plain_loop,
    "plain loop with DataLoader": contenders.plain_loop_with_loader,
    "Lightning, bare": contenders.bare_lightning,
    "Lightning, its defaults": contenders.lightning_with_defaults,
    "timm's task": contenders.timm_task,
    "torchdistill": torchdistill,
}
PACKAGES = {"timm's task": "timm", "torchdistill": "torchdistill"}
GPU = {"images_a_second": "images a second", "share_of_peak": "share of peak"}
#: part of a GPU's name -> dense bf16 operations a second, from the maker's data sheets
PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
}


def measured(name: str, pair, options, folder: Path) -> tuple[dict, Job]:
    """The contenders' outcomes in each round, and their job."""
    cuda = options.device == "cuda"
    count = options.steps * options.batch
    data = [f"paths.runs={folder}", f"data.batch_size={options.batch}", f"data={pair.data}"]
    if pair.data == "digits":
        count = 1151  # what kdlab trains on
    else:
        of_kdlab = {"fashion_mnist": 54_000, "noise": 45_000}[pair.data]  # one in ten is held out for validation
        data += ["data.validation=0.1", f"data.fraction={min(1.0, (count + 1) / of_kdlab)}"]
        data += [f"data.folder={folder / 'noise' if pair.data == 'noise' else Path(options.data).absolute()}"]
    if pair.data == "noise":
        noise_on_disk(folder / "noise")
        data[2] = "data=cifar10"
        data += ["data.drop_last=true", "data.augment.crop_padding=0", "data.augment.flip=0"]
    x, y = images(pair.data, options.data, count)
    run, teacher = teacher_of(pair, data, x.shape[1:])
    job = Job(
        x,
        y,
        teacher,
        partial(pair.student.plain, x.shape[1:]),
        epochs=options.epochs,
        batch=options.batch,
        device=options.device,
        bf16=cuda,
        compile=cuda,
        channels_last=cuda,
    )
    left_out = set(PACKAGES.values()) - set(available(sorted(set(PACKAGES.values()))))
    ways = {name: way for name, way in WAYS.items() if PACKAGES.get(name) not in left_out}
    ways["kdlab"] = contenders.of_kdlab([*data, *pair.student.overrides(), "name=kdlab"], run)
    if options.profile:
        return {name: ways[name] for name in (FLOOR, "kdlab")}, job
    print(f"{name}: {', '.join(ways)}", file=sys.stderr)
    return rounds({name: partial(way, job) for name, way in ways.items()}, options.rounds), job


def rows_of(outcomes: dict, job: Job) -> dict:
    """Contender -> time of a step in ms, its ratio to the floor, what it adds, the loss."""
    steps = {name: [1000 * one.step for one in found] for name, found in outcomes.items()}
    rows = {}
    for name, values in steps.items():
        rows[name] = summary(values, steps[FLOOR])
        rows[name]["added"] = statistics.median(mine - theirs for mine, theirs in zip(values, steps[FLOOR]))
        rows[name]["loss"] = statistics.median(one.loss for one in outcomes[name])
        if job.device == "cuda":
            rows[name]["images_a_second"] = 1000 * job.batch / rows[name]["median"]
            if peak := next((peak for part, peak in PEAKS.items() if part in torch.cuda.get_device_name()), None):
                rows[name]["share_of_peak"] = operations(job) / (rows[name]["median"] / 1000) / peak
    return rows


def operations(job: Job) -> int:
    """Floating-point operations of a step: the student's forward and backward pass, and the teacher's forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    teacher, student, x = job.teacher, job.student(), job.x[: job.batch]
    with FlopCounterMode(display=False) as counter:
        student(x).sum().backward()
        with torch.no_grad():
            teacher(x)
    return counter.get_total_flops()


def table(rows: dict) -> str:
    heads = ["contender", "ms a step", "quartiles", "to the plain loop", "quartiles", "added, ms", "loss"]
    heads += [head for key, head in GPU.items() if all(key in row for row in rows.values())]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for name, row in rows.items():
        cells = [name, f"{row['median']:.3f}", f"{row['q1']:.3f} to {row['q3']:.3f}", f"{row['ratio']:.2f}"]
        cells += [f"{row['ratio_q1']:.2f} to {row['ratio_q3']:.2f}", f"{row['added']:.3f}", f"{row['loss']:.3f}"]
        cells += [f"{row[key]:.0f}" if key == "images_a_second" else f"{row[key]:.1%}" for key in GPU if key in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100, help="in an epoch (default: 100)")
    parser.add_argument("--epochs", type=int, default=4, help="the first one does not count (default: 4)")
    parser.add_argument("--pair", nargs="*", choices=[*PAIRS, *RESNETS], help="default: all of the device")
    parser.add_argument("--data", default=FASHION_MNIST, help="the folder of Fashion-MNIST")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead of the comparison")
    parser.add_argument("--quick", action="store_true", help="a try on the digits: one round; keeps nothing")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch sees no GPU here; leave the option out to measure on the processor")
    pairs = RESNETS if options.device == "cuda" else PAIRS
    if options.pair:
        pairs = {name: (PAIRS | RESNETS)[name] for name in options.pair}
    options.batch = 128
    if options.quick:
        pairs, options.rounds, options.epochs = {"digits": SWEPT["digits"]}, 1, 2
    torch.set_num_threads(1)
    kept: dict = {}
    for name, pair in pairs.items():
        with tempfile.TemporaryDirectory() as folder:
            found, job = measured(name, pair, options, Path(folder))
            if options.profile:
                kept[name] = profile_step.places_of(found, job, options.rounds)
            else:
                kept[name] = rows_of(found, job)
        print(f"\n{name}\n\n{(profile_step.table if options.profile else table)(kept[name])}", flush=True)
        # after each pair, so that an interrupted measurement keeps those that are done
        kind = "profile" if options.profile else "step" if options.device == "cpu" else "step_cuda"
        write(kind, merged(kind, kept, options), options.quick)


if __name__ == "__main__":
    main()
