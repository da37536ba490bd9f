"""Kill a sweep at random moments, start it again each time, and compare it with one that nobody disturbed.

    python experiments/sweeps/kill.py --kills 10

Every start is killed with SIGKILL, launcher alone, after a random time; the last is let through. Then: nothing that was
finished at a kill was lost or trained again (its checkpoint is the same file), every run trained once from end to end
(its record names each beginning), and all weights and test predictions equal those of the undisturbed sweep, bit for
bit. Exits with 1 if any of that is not so.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from kdlab.runs.run import find_runs

SWEEP = ["loss.kd.temperature=1,2,4,8", "loss.kd.weight=0.1,0.5,0.9", "seed=1,2,3"]


def command(overrides: list[str]) -> list[str]:
    return [sys.executable, "-c", "from kdlab.cli.main import script; script()", "train", "-m", *overrides]


def finished(folder: Path) -> dict[Path, int]:
    """The finished runs, with the time at which their last checkpoint was written."""
    found = {}
    for run in find_runs([folder / "runs"]):
        try:
            if run.finished:
                found[run.path.relative_to(folder)] = run.checkpoint("last").stat().st_mtime_ns
        except OSError:
            pass
    return found


def equal(first: Path, second: Path) -> bool:
    for which in ("last", "best"):
        ours, theirs = (
            torch.load(path / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]
            for path in (first, second)
        )
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
            return False
    return (first / "predictions.safetensors").read_bytes() == (second / "predictions.safetensors").read_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--longest",
        type=float,
        default=0.0,
        help="seconds within which to kill; 0: three quarters of what the undisturbed sweep took",
    )
    parser.add_argument("override", nargs="*", default=SWEEP, help=f"the sweep (default: {' '.join(SWEEP)})")
    options = parser.parse_args()
    moments, wrong = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder) / "calm", Path(folder) / "killed"
        calm.mkdir(), killed.mkdir()
        began = time.monotonic()
        subprocess.run(command(options.override), cwd=calm, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        longest = options.longest or 0.75 * seconds
        print(f"undisturbed: {len(finished(calm))} runs in {seconds:.1f} s", flush=True)
        before: dict[Path, int] = {}
        for number in range(1, options.kills + 1):
            wait = moments.uniform(0, longest)
            process = subprocess.Popen(
                command(options.override), cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(wait)
            ended = process.poll()
            process.kill()
            process.wait()
            time.sleep(0.5)
            now = finished(killed)
            wrong += [
                f"kill {number}: {path} was lost or trained again"
                for path, stamp in before.items()
                if now.get(path) != stamp
            ]
            print(
                f"kill {number}: after {wait:.1f} s{'' if ended is None else ' (it had ended)'}; {len(now)} runs "
                f"finished, {len(before)} before",
                flush=True,
            )
            before = now
        subprocess.run(command(options.override), cwd=killed, check=True, stdout=subprocess.DEVNULL)
        now = finished(killed)
        wrong += [
            f"at the end: {path} was lost or trained again" for path, stamp in before.items() if now.get(path) != stamp
        ]
        wrong += [f"{path} is missing" for path in finished(calm) if path not in now]
        wrong += [
            f"{path} differs from the undisturbed"
            for path in now
            if path not in finished(calm) or not equal(calm / path, killed / path)
        ]
        resumed = sum(len(run.record["resumed"]) for run in find_runs([killed / "runs"]))
        print(f"let through: {len(now)} runs finished, {resumed} times one was resumed")
        began = time.monotonic()
        subprocess.run(command(options.override), cwd=killed, check=True, stdout=subprocess.DEVNULL)
        print(f"once more: {time.monotonic() - began:.1f} s")
        wrong += [
            f"once more: {path} was trained again" for path, stamp in finished(killed).items() if now.get(path) != stamp
        ]
    print("\n".join(wrong) or "nothing was lost, nothing ran twice, all weights and predictions are equal bit for bit")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
