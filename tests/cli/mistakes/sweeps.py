"""What may be wrong with a sweep."""

import sys
from pathlib import Path

from .table import SHORT, Mistake, Place

SWEEP = ["train", "-m", *SHORT[1:]]


def without_slurm(place: Place) -> None:
    """Whatever this machine has installed."""
    place.patch.setenv("PATH", str(Path(sys.executable).parent))


MISTAKES = [
    Mistake("empty list of values", [*SWEEP, "seed=range(1,1)"], ["no jobs", "empty"]),
    Mistake("nothing that fits a pattern", [*SWEEP, "student=glob(x*)"], ["no jobs", "empty"]),
    Mistake("value left out", [*SWEEP, "seed=1,"], ["seed=1,", "type seed=1"]),
    Mistake("unbalanced bracket in a sweep", [*SWEEP, "loss=[ce,kd"], ["loss=[ce,kd"]),
    Mistake(
        "one bad value of a sweep", [*SWEEP, "seed=1,abc"], ["seed", "'abc'", "[in seed=abc]", "No job was started"]
    ),
    Mistake("one bad choice of a sweep", [*SWEEP, "student=mlp,mpl"], ["student=mpl", "did you mean 'mlp'"]),
    Mistake(
        "reference to a key that is not there in a sweep",
        [*SWEEP, "seed=1,2", "threads=${thread}"],
        ["threads", "did you mean 'threads'"],
    ),
    Mistake("name of a sweep that climbs out", [*SWEEP, "name=a,../b"], ["name", "../b", "No job was started"]),
    Mistake(
        "misspelled launcher",
        [*SWEEP, "seed=1,2", "hydra/launcher=kdlap"],
        ["hydra/launcher=kdlap", "did you mean 'kdlab'"],
    ),
    Mistake(
        "launcher that is not installed",
        [*SWEEP, "seed=1,2", "hydra/launcher=ray"],
        ["hydra/launcher=ray", "pip install ray"],
    ),
    Mistake(
        "launcher whose machine is not here",
        [*SWEEP, "seed=1,2", "hydra/launcher=submitit_slurm"],
        ["hydra/launcher=submitit_slurm"],
        setup=without_slurm,
    ),
    Mistake(
        "misspelled sweeper",
        [*SWEEP, "seed=1,2", "hydra/sweeper=optna"],
        ["hydra/sweeper=optna", "did you mean 'optuna'"],
    ),
    Mistake(
        "sweeper that is not installed",
        [*SWEEP, "seed=1,2", "hydra/sweeper=ax"],
        ["hydra/sweeper=ax", "pip install hydra-ax-sweeper"],
    ),
    Mistake(
        "misspelled group of a launcher",
        [*SWEEP, "seed=1,2", "hydra/luncher=kdlab"],
        ["hydra/luncher", "did you mean 'hydra/launcher'"],
    ),
    Mistake(
        "option of the launcher misspelled",
        [*SWEEP, "seed=1,2", "hydra.launcher.wrokers=2"],
        ["wrokers", "did you mean 'workers'"],
    ),
    Mistake(
        "workers of the launcher",
        [*SWEEP, "seed=1,2", "hydra.launcher.workers=0"],
        ["hydra.launcher.workers", "at least 1"],
    ),
    Mistake(
        "devices of the launcher",
        [*SWEEP, "seed=1,2", "hydra.launcher.devices=all"],
        ["hydra.launcher.devices", "list", "'all'"],
    ),
    Mistake(
        "switch of the launcher",
        [*SWEEP, "seed=1,2", "hydra.launcher.fail_fast=3"],
        ["hydra.launcher.fail_fast", "true or false"],
    ),
    Mistake("search without a space", [*SWEEP, "hydra/sweeper=optuna", "seed=3"], ["nothing to search", "interval"]),
    Mistake(
        "search in an interval that is none",
        [*SWEEP, "hydra/sweeper=optuna", "optimizer.lr=interval(1,0.1)"],
        ["optimizer.lr=interval(1,0.1)"],
    ),
    Mistake(
        "sampler of a search",
        [*SWEEP, "hydra/sweeper=optuna", "hydra.sweeper.sampler=tpee", "optimizer.lr=interval(0.1,1)"],
        ["hydra.sweeper.sampler", "did you mean 'tpe'"],
    ),
    Mistake(
        "search that looks at test",
        [*SWEEP, "hydra/sweeper=optuna", "hydra.sweeper.objective=test/accuracy", "optimizer.lr=interval(0.1,1)"],
        ["hydra.sweeper.objective", "validation"],
    ),
    Mistake(
        "interval without a search",
        ["train", "optimizer.lr=interval(0.1,1)"],
        ["optimizer.lr=interval(0.1,1)", "multirun"],
    ),
    Mistake(
        "one job of a sweep that fails",
        [*SWEEP, "strategy._target_=tests.sweep.trouble.Unlucky", "seed=1,2"],
        ["1 of the 2 jobs failed"],
        code=1,
    ),
]
