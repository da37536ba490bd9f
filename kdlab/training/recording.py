"""The record of a run: how a run is begun, resumed, finished, or failed."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable

import torch

from kdlab.errors import DataDamaged, InputError, RunFailed, RunPruned, told
from kdlab.launch import slurm
from kdlab.runs import record as provenance
from kdlab.runs.checkpoints import misfits, read_checkpoint
from kdlab.runs.curve import unit_of
from kdlab.runs.files import write_text
from kdlab.runs.networks import scores_of_others, why_kept
from kdlab.runs.run import FAILED, FINISHED, INTERRUPTED, PRUNED, RUNNING, Run
from kdlab.runs.schema import FORMAT
from kdlab.schedules import is_schedule

from .assemble import Parts
from .initial import origin
from .plan import Plan
from .recorder import recorded
from .results import results

Say = Callable[[str], None]
# what Lightning resumes from, in addition to the Recorder's state
RESUMED = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "loops")


def unwritable(run: Run, error: OSError) -> InputError:
    """The error for a run whose directory cannot be written."""
    return InputError(
        f"paths.runs: {run.path.parent} cannot be written ({error.strerror or error}); name another folder with "
        "paths.runs=…"
    )


def opened(plan: Plan, run: Run, parts: Parts, teacher: dict | None, say: Say) -> float:
    """Begin a locked run, or take the existing one. Returns the seconds that it took before.

    Raises:
        InputError: it cannot be resumed, or its directory cannot be written.
    """
    config, obstacle = plan.config, _obstacle(run, parts)
    # a run that was begun with fresh=true and killed is resumed by the same command, not begun again
    if config["fresh"] and (obstacle is not None or not run.begun_afresh):
        run.clear()
    elif obstacle is not None:
        raise InputError(f"{run.path} cannot be resumed: {obstacle}. Use fresh=true to start over")
    begun = run.path.exists()
    try:
        _begin(plan, run, parts, teacher, say)
    except OSError as error:
        if not begun:  # a half-written beginning does not count
            shutil.rmtree(run.path, ignore_errors=True)
        raise unwritable(run, error) from error
    return run.read().durations.get("wall_seconds", 0.0)


def keep_training_answers(run: Run, parts: Parts, say: Say) -> None:
    """Keep the teacher's answers to the training samples, where the run keeps them, and record what that took."""
    if parts.caching is not None:
        parts.caching.fill("train", say)
        run.update(cache=parts.caching.as_record())


def evaluated(config: dict, run: Run, parts: Parts, teacher: dict | None, before: float, began: float) -> dict:
    """Evaluate a trained run and finish its record. Returns what :func:`kdlab.training.results.results` does.

    Args:
        before: the seconds that it took before it was resumed.
        began: when it was begun, or resumed now (``time.perf_counter``).
    """
    if not run.checkpoint("last").exists():
        raise RuntimeError(
            f"not one {'epoch' if unit_of(config) == 'epoch' else 'row of steps'} was finished; something ends the "
            "training before that (trainer.max_time, a callback)"
        )
    found = results(config, run, parts, teacher)
    durations = {"train_seconds": found["train_seconds"], "wall_seconds": before + time.perf_counter() - began}
    (run.path / "error.txt").unlink(missing_ok=True)
    run.update(
        status=FINISHED,
        durations=durations,
        ended=provenance.now(),
        **{key: value for key, value in found.items() if key != "train_seconds"},
    )
    return found


def failed(run: Run, error: BaseException, config: dict, before: float, began: float) -> BaseException:
    """Record why a run ended before it was finished. Returns the exception to raise: the error itself where the user or
    a search has stopped the run, otherwise a RunFailed.

    Args:
        error: with its traceback.
        before, began: as for :func:`evaluated`.
    """
    stopped = INTERRUPTED if isinstance(error, KeyboardInterrupt) else PRUNED if isinstance(error, RunPruned) else None
    where = f"The traceback is in {run.path}/error.txt"
    try:
        run.update(
            status=stopped or FAILED,
            ended=provenance.now(),
            error=f"{type(error).__name__}: {error}",
            durations={"wall_seconds": before + time.perf_counter() - began},
        )
        if not stopped:
            write_text(run.path / "error.txt", "".join(traceback.format_exception(error)))
    except OSError as unwritten:  # such as a full disk, which also made the run fail
        where = f"Nothing could be written of it in {run.path} ({unwritten.strerror or unwritten})"
    if stopped:
        return error
    kept = "finished epochs are kept" if unit_of(config) == "epoch" else "the last checkpoint is kept"
    resumable = "" if isinstance(error, DataDamaged) else ", and the same command resumes there"
    return RunFailed(f"the run failed while training: {told(error).rstrip('.')}. {where}; {kept}{resumable}")


def say_results(config: dict, run: Run, parts: Parts, found: dict, say: Say, label: str = "") -> None:
    """Print the scores of a finished run on test, and its directory."""
    metrics, headline, unit = found["metrics"], parts.task.headline.name, unit_of(config)
    best = (
        f", {metrics[f'test/{headline}_best']:.4f} (best on validation, {unit} {metrics[f'best_{unit}']})"
        if "best_epoch" in metrics
        else ""
    )
    others = scores_of_others(found, headline)
    say(
        f"{label}test {headline} {metrics[f'test/{headline}']:.4f} (last {unit}){best}"
        + (f"; kept: {why_kept(found)}; {others}" if others else "")
    )
    say(f"{label}{run.path}")


def _obstacle(run: Run, parts: Parts) -> str | None:
    """Why a run that was begun cannot be resumed, found before anything is changed; None if it can."""
    last = run.checkpoint("last")
    if not last.exists():
        return None
    validated = False
    for which in ("last", "best"):
        path = run.checkpoint(which)
        if which == "best" and not validated:
            continue
        try:
            content = read_checkpoint(path)
            state = recorded(content)
            missing = [key for key in RESUMED if key not in content]
            if missing:
                raise LookupError(f"it holds no {missing[0]}")
        except InputError as error:
            return str(error)
        except LookupError as error:
            return f"{path} is no checkpoint of a run of kdlab ({error.args[0]})"
        weights = content["state_dict"]
        if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
            return f"{path} is no checkpoint of a run of kdlab (its state_dict holds something else than tensors)"
        wrong = misfits(weights, parts.strategy.state_dict())
        if wrong:
            return f"{path} is of another network than this run's: {wrong}"
        validated = state.get("best") is not None
    return None


def _begin(plan: Plan, run: Run, parts: Parts, teacher: dict | None, say: Say) -> None:
    """Write run.json before anything else, or take the existing one."""
    config, earlier = plan.config, None
    if (run.path / "run.json").exists():
        earlier = run.read()
        commit = earlier.code.get("commit")
        other = (
            f" (begun by commit {str(commit)[:8]}, this is another)" if commit != provenance.code()["commit"] else ""
        )
        say(f"resuming {run.path}{other}")
    # an older kdlab let Lightning save in the middle of an epoch (hpc_ckpt); Lightning would prefer that file to
    # last.ckpt
    for leftover in [*run.path.glob("**/*.part"), *run.path.glob("hpc_ckpt_*")]:
        leftover.unlink(missing_ok=True)
    values = {
        "format": FORMAT,
        "hash": plan.hash,
        "group": plan.group,
        "status": RUNNING,
        "command": provenance.command_line(),
        "overrides": config.get("overrides", []),
        "choices": config.get("choices", {}),
        "task": parts.task.report.as_record(),
        "seed": config["seed"],
        "threads": config["threads"],
        "weights": {
            name: "scheduled" if is_schedule(node.get("weight", 1.0)) else node.get("weight", 1.0)
            for name, node in config["loss"].items()
        },
        "code": provenance.code(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "parameters": sum(value.numel() for value in parts.strategy.student.parameters()),
        "trainable_parameters": sum(value.numel() for value in parts.strategy.parameters() if value.requires_grad),
        "uses_teacher": parts.teacher is not None and parts.strategy.objective.learns_from_teacher,
        "taught": parts.strategy.objective.learns_from_teacher,  # by a teacher, or by peers
        "teacher": teacher,
        "initial": {**(origin(plan.initial) or {}), **(parts.inherited or {})} or None,
        "metrics": {},
        "durations": earlier.durations if earlier else {},
        "teacher_share": None,
        "cache": None,
        "stacked": earlier.stacked if earlier else None,
        "fresh": config["fresh"] or (earlier is not None and earlier.fresh),
        "directory": os.getcwd(),
        "slurm": slurm.task(),
        "began": (earlier and earlier.began) or provenance.now(),
        "resumed": [*earlier.resumed, {"at": provenance.now(), **provenance.code()}] if earlier else [],
        "ended": None,
        "error": None,
    }
    run.begin(config, values)
