"""``hydra.launcher.stack=true``: which jobs of a sweep are trained together, in one process, and what that saved.

What a config shows is decided here, without torch. The process that trains the jobs looks at their parts and tries a
step (:mod:`kdlab.training.trial`); where that finds a reason against it, the jobs are trained one by one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kdlab.errors import InputError

from .job import TRAINED, Job, Need, Outcome

MOST = 64  # jobs of a stack: each adds some frames to Python's stack while its Trainer is set up
STRATEGIES = ("kdlab.strategies.Offline", "kdlab.strategies.Supervised")
OPTIMIZERS = ("torch.optim.SGD", "torch.optim.Adam", "torch.optim.AdamW")
#: options of the Trainer, with the values that a stack allows; None: any value
TRAINER: dict[str, tuple | None] = {
    "_target_": ("lightning.pytorch.Trainer",),
    "max_epochs": None,
    "max_steps": (-1, None),
    "every_n_train_steps": (None,),
    "accelerator": ("auto", "cpu", "gpu", "cuda"),
    "devices": (1,),
    "strategy": ("auto",),
    "precision": ("32-true", "32", 32),
    "accumulate_grad_batches": (1,),
    "gradient_clip_val": (None,),
}
#: what was typed, and where a run is kept: it may differ
_FREE = ("overrides", "choices", "name", "progress", "seed")


def why_alone(config: dict) -> str:
    """Why a run cannot be trained with others, as far as its config shows it; empty if it can.

    >>> trainer = {"_target_": "lightning.pytorch.Trainer", "max_epochs": 3, "gradient_clip_val": 1.0}
    >>> why_alone({"strategy": {"_target_": "kdlab.strategies.Offline"}, "trainer": trainer})
    'trainer.gradient_clip_val=1.0'
    """
    if config["strategy"].get("_target_") not in STRATEGIES or config["strategy"].get("generation"):
        return f"strategy={str(config['strategy'].get('_target_')).rpartition('.')[2]}"
    for key, value in config["trainer"].items():
        if key not in TRAINER or ((allowed := TRAINER[key]) is not None and value not in allowed):
            return f"trainer.{key}={value}"
    if config["trainer"].get("max_epochs") in (None, -1):
        return "trainer.max_epochs is not given"
    if config["optimizer"].get("_target_") not in OPTIMIZERS:
        return f"optimizer={config['optimizer'].get('_target_')}"
    if ((config.get("scheduler") or {}).get("_target_") or "").endswith("ReduceLROnPlateau"):
        return "scheduler=ReduceLROnPlateau"
    for key in ("callbacks", "logger"):
        if any(isinstance(value, dict) for value in (config.get(key) or {}).values()) or (config.get(key) or {}).get(
            "_target_"
        ):
            return f"{key} are used" if key == "callbacks" else "a logger is used"
    if config.get("compile"):
        return f"compile={config['compile']}"
    if config.get("channels_last"):
        return "channels_last=true"
    if config["data"].get("mixing"):
        return "data.mixing is used"
    return ""


def likeness(config: dict) -> str:
    """A text that is the same for configs that differ only in the seed and in numbers of the loss, in the learning rate
    and in the weight decay."""
    node: dict[str, Any] = {key: value for key, value in config.items() if key not in _FREE}
    node["loss"] = _without_numbers(config["loss"])
    node["optimizer"] = {key: value for key, value in config["optimizer"].items() if key not in ("lr", "weight_decay")}
    node["scheduler"] = {key: value for key, value in (config.get("scheduler") or {}).items() if key != "max_lr"}
    return json.dumps(node, sort_keys=True, default=str)


def _without_numbers(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without_numbers(value) for value in node]
    return None if isinstance(node, (int, float)) and not isinstance(node, bool) else node


def stack_jobs(jobs: Sequence[Job], at_once: Callable[[Need], int]) -> list[str]:
    """Give each job the jobs with which it is trained: those that are alike and need the same earlier runs. They are
    divided so that all that the machine runs at the same time have work, and runs of one seed stay together.

    Args:
        at_once: how many jobs with a need run at the same time.

    Returns:
        Lines that say which jobs are not stacked, and why.
    """
    groups: dict[tuple, list[Job]] = {}
    alone: Counter[str] = Counter()
    for job in jobs:
        if job.died or job.run.finished and not job.config["fresh"]:
            continue
        if why := why_alone(job.config):
            alone[why] += 1
            continue
        key = likeness(job.config), job.need, tuple(earlier.place for earlier in job.earlier)
        groups.setdefault(key, []).append(job)
    singles = [group[0] for group in groups.values() if len(group) == 1]
    if singles:
        alone["no other job has the same data, teacher, networks and options but for numbers"] += len(singles)
    for group in groups.values():
        ordered = sorted(group, key=lambda job: job.config["seed"])
        parts = max(min(at_once(group[0].need), len(group) // 2), -(-len(group) // MOST), 1)
        for number in range(parts):
            stack = ordered[number * len(group) // parts : (number + 1) * len(group) // parts]
            for job in stack if len(stack) > 1 else []:
                job.stack = stack
    return [f"not stacked: {count} {'job' if count == 1 else 'jobs'}: {why}" for why, count in alone.items()]


def saved_by_stacks(outcomes: Iterable[Outcome]) -> str:
    """What stacks saved in a sweep, as a line; empty if there was none.

    >>> saved_by_stacks([])
    ''
    """
    runs, seconds = 0, 0.0
    for outcome in {outcome.job.place: outcome for outcome in outcomes if outcome.status == TRAINED}.values():
        try:
            stacked = outcome.job.run.read().stacked if outcome.job.stack and outcome.path is not None else None
        except InputError:  # damaged since
            continue
        if stacked:
            runs, seconds = runs + 1, seconds + stacked.get("saved_seconds", 0.0)
    return f"stacked: {runs} runs; their steps alone would have taken about {seconds:.1f} s more" if runs else ""
