"""What a run that was made from Python writes: a description in place of a config, and its identity.

A network, a loss or a data set that is an object has no recipe that could be hashed. So its class, its sizes and its
plain values are written down, and ``name`` stands for the rest: runs of one name whose descriptions differ in nothing
but the seed are repetitions of one experiment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import nn

from kdlab.errors import InputError
from kdlab.runs import record as provenance
from kdlab.runs.differences import flat
from kdlab.runs.run import FROM_PYTHON, RUNNING, Run
from kdlab.runs.schema import FORMAT
from kdlab.schedules import is_schedule
from kdlab.teachers import Teacher

from .loaders import Batches
from .preparing import Prepared
from .recipes import Recipe, describe

#: keys of the description that say where and how a run is computed and shown, and not what it is
_NOT_IDENTITY = ("choices", "overrides", "paths", "threads")


def description(parts: Prepared, name: str | None, data: str | None, seed: int, epochs: int, trainer: Mapping) -> dict:
    """What kdlab knows of a run that was made from Python, as its config.yaml."""
    recipe, strategy = cast(Recipe, parts.recipe), parts.strategy
    described = recipe.described
    inputs = parts.train.first(1).inputs
    student = strategy.student
    config = recipe.config
    choices = {
        "strategy": config["choices"]["strategy"] if recipe.strategy is None else describe(recipe.strategy)["class"],
        "student": type(student).__name__,
    }
    peers = {key: network_of(network, {}) for key, network in strategy.networks().items() if key != "student"}
    own = described.get("strategy") or config["strategy"]
    return {
        "made_by": FROM_PYTHON,
        "name": name or "",
        "experiment": name or "",  # tables show it where it distinguishes two rows
        "task": {"_target_": _target_of(type(parts.task))},
        "seed": seed,
        "threads": torch.get_num_threads(),
        "data": {
            "name": data or f"{cast(dict, loader_of(parts.train))['dataset']} of {parts.train.size} samples",
            "classes": parts.task.width,
            "shape": list(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else None,
            **{key: loader_of(getattr(parts, key)) for key in ("train", "validation", "test")},
        },
        "student": network_of(student, strategy.aliases),
        "teacher": None if parts.teacher is None else _teacher(parts.teacher),
        "loss": described["loss"],
        "strategy": {
            **{key: value for key, value in own.items() if key != "peers"},
            **({"peers": peers} if peers else {}),
        },
        "optimizer": described.get("optimizer") or config["optimizer"],
        "scheduler": described.get("scheduler") or config["scheduler"],
        "trainer": {"max_epochs": epochs, **{key: _plain(value) for key, value in trainer.items()}},
        "choices": choices,
        "overrides": [],
        "paths": {"runs": "runs", "data": "data"},
    }


def _target_of(task: type) -> str:
    """The dotted name of a task's class, as a config has it.

    >>> from kdlab.tasks import Regression
    >>> _target_of(Regression)
    'kdlab.tasks.Regression'
    """
    if task.__module__.startswith("kdlab.tasks."):
        return f"kdlab.tasks.{task.__name__}"
    return f"{task.__module__}.{task.__qualname__}"


def network_of(network: nn.Module, taps: Mapping[str, str]) -> dict:
    """A network in a description: its class, the number of its parameters, and a digest of their names and shapes."""
    shapes = [[name, list(value.shape), str(value.dtype)] for name, value in network.state_dict().items()]
    return {
        "class": describe(type(network))["class"],
        "parameters": sum(value.numel() for value in network.parameters()),
        "shapes": _digest(shapes),
        "taps": dict(taps),
    }


def loader_of(batches: Batches | None) -> dict | None:
    """A loader in a description."""
    if batches is None:
        return None
    given, dataset = batches.given, batches.dataset
    return {
        "dataset": describe(type(given if dataset is None else dataset))["class"].rpartition(".")[2],
        "samples": batches.size,
        "batches": len(batches),
        "batch_size": batches.batch_size,
    }


def content_of(teacher: Teacher | None) -> str | None:
    """A digest of a teacher's weights; None where it is not one network."""
    network = None if teacher is None else teacher.network
    if network is None:
        return None
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + b"\0")
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def identity(config: dict, content: str | None) -> tuple[str, str]:
    """The hash of a run and that of its group. Neither holds what kdlab cannot see: the code of networks and losses of
    your own, and the content of the data. ``name`` must stand for that.

    Args:
        config: by :func:`description`.
        content: by :func:`content_of`: a teacher of other weights makes another run of the same group.
    """
    kept = {key: value for key, value in config.items() if key not in _NOT_IDENTITY}
    kept["trainer"] = {key: value for key, value in kept["trainer"].items() if key != "logger"}
    return _digest([kept, content]), _digest({**kept, "seed": 0})


def refuse_other(run: Run, digest: str, config: dict, fresh: bool) -> None:
    """Raises InputError where a directory holds something else than this run. What kdlab.distill has made may be begun
    afresh."""
    cure = "take another directory=, or fresh=True to start over"
    if not (run.path / "run.json").exists():
        if run.path.exists() and any(run.path.iterdir()):
            raise InputError(f"directory: {run.path} holds files, and they are no run; take an empty or new directory=")
        return
    record = run.record
    if record.get("made_by") != FROM_PYTHON:
        raise InputError(f"directory: {run.path} holds a run of kdlab train; take another directory=")
    if record["hash"] != digest and not fresh:
        mine, theirs = flat(config), flat(run.config)
        keys = [
            key
            for key in dict.fromkeys([*mine, *theirs])
            if mine.get(key) != theirs.get(key) and key.split(".")[0] not in _NOT_IDENTITY
        ]
        what = (
            f"its {keys[0]} is {theirs.get(keys[0])!r}, and here it is {mine.get(keys[0])!r}"
            if keys
            else ("its teacher has other weights")
        )
        raise InputError(f"directory: {run.path} holds another run ({what}); {cure}")


def begin(run: Run, config: dict, hashes: tuple[str, str], parts: Prepared, teacher: dict | None) -> None:
    """Write run.json and config.yaml, or take the existing record."""
    earlier = run.record if (run.path / "run.json").exists() else {}
    strategy, objective = parts.strategy, parts.strategy.objective
    weights = {name: node.get("weight", 1.0) for name, node in config["loss"].items()}
    weights |= cast(Recipe, parts.recipe).described.get("weights", {})
    run.begin(
        config,
        {
            "format": FORMAT,
            "hash": hashes[0],
            "group": hashes[1],
            "status": RUNNING,
            "made_by": FROM_PYTHON,
            "task": parts.task.report.as_record(),
            "command": provenance.command_line(),
            "overrides": [],
            "choices": config["choices"],
            "seed": config["seed"],
            "threads": config["threads"],
            "weights": {name: "scheduled" if is_schedule(weight) else weight for name, weight in weights.items()},
            "code": provenance.code(),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
            "parameters": sum(value.numel() for value in strategy.student.parameters()),
            "trainable_parameters": sum(value.numel() for value in strategy.parameters() if value.requires_grad),
            "uses_teacher": parts.teacher is not None and objective.learns_from_teacher,
            "taught": objective.learns_from_teacher,
            "teacher": teacher,
            "initial": None,
            "metrics": {},
            "durations": earlier.get("durations", {}),
            "teacher_share": None,
            "fresh": False,
            "directory": os.getcwd(),
            "slurm": None,
            "began": earlier.get("began", provenance.now()),
            "resumed": [*earlier.get("resumed", []), {"at": provenance.now(), **provenance.code()}] if earlier else [],
            "ended": None,
            "error": None,
        },
    )


def _teacher(teacher: Teacher) -> dict:
    return describe(teacher) if teacher.network is None else network_of(teacher.network, teacher.aliases)


def _plain(value):
    """An option of the Trainer as it is written down."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value) if isinstance(value, Path) else describe(value)["class"]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
