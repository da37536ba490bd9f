"""``ensure(config) -> Run``: the run of a config, which is trained if necessary.

Teachers, assistants, generations, stages and the jobs of sweeps all go through it: hashed, locked, trained if absent,
returned.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from filelock import Timeout

from kdlab.cache.filling import difference
from kdlab.errors import BeingTrained, DataDamaged, InputError, RunFailed, RunPruned, told
from kdlab.launch import slurm
from kdlab.launch.devices import evaluation_device, threads
from kdlab.launch.ranks import fit_in_ranks, refuse_other_launchers
from kdlab.runs import record as provenance
from kdlab.runs.checkpoints import misfits, read_checkpoint
from kdlab.runs.curve import Observe, unit_of
from kdlab.runs.files import write_text
from kdlab.runs.networks import scores_of_others, why_kept
from kdlab.runs.run import FAILED, FINISHED, INTERRUPTED, PRUNED, RUNNING, Run
from kdlab.runs.schema import FORMAT
from kdlab.schedules import is_schedule

from .assemble import Parts, assembled
from .caching import explicit
from .execute import fit, fit_rank, quiet, rehearse, say_precision
from .initial import origin
from .plan import Plan
from .recorder import recorded
from .results import results
from .teacher_record import describe

Say = Callable[[str], None]
FIT_RANK = f"{fit_rank.__module__}:{fit_rank.__name__}"
# what Lightning resumes from, in addition to the Recorder's state
RESUMED = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "loops")


def ensure(
    config: dict,
    say: Say = print,
    label: str = "",
    *,
    wait: bool = True,
    observe: Observe | None = None,
    ranks: list[Connection] | None = None,
    shared: bool = False,
    key: str | None = None,
    say_of_teacher: Say | None = None,
) -> Run:
    """The finished run of a config. It is looked up if it exists, resumed if it was begun, and otherwise trained. Runs
    that it needs (teachers, stages) are trained first.

    Args:
        config: a composed plain config (:func:`kdlab.config.compose.compose`).
        say: receives lines for the user.
        label: prefix of the lines of training; that of a teacher names its role.
        wait: wait for another process that is training the run.
        observe: called at the end of every row of the curve (an epoch, or ``trainer.every_n_train_steps``), once it is
            saved. An exception in it ends the training there.
        ranks: waiting processes that train the run together, if it is trained by several
            (:func:`kdlab.launch.ranks.start_ranks`).
        shared: other tasks that srun started with this one may train the same run (a teacher, a job of a sweep).
        key: :func:`kdlab.runs.known.key_of` the config, if it is known already.
        say_of_teacher: receives the lines about its teacher (name, score, warnings); default: ``say``.

    Raises:
        InputError: the config, the data or the teacher are wrong. Nothing was written.
        RunFailed: training failed; run.json holds the traceback.
        RunPruned: ``observe`` raised it.
        BeingTrained: another process is training the run, and ``wait`` is false.
        KeyboardInterrupt: the user stopped it; the same call resumes from the last checkpoint.
    """
    plan = Plan.of(config, key)
    run = plan.run()
    if run.finished and not config["fresh"]:
        return _found(plan, run, say)
    refuse_other_launchers(config)
    quiet()
    # restores the caller's random numbers and number of threads
    with threads(config["threads"]), torch.random.fork_rng(devices=[]):
        parts, described = _prepared(config, say, label, say_of_teacher)
        with _locked(run, say if wait else None, shared):
            run = plan.run()
            if run.finished and not config["fresh"]:  # another process was faster
                return _found(plan, run, say)
            _train(plan, run, parts, described, say, label, observe, ranks)
            plan.note(run)
    return run


def _prepared(config: dict, say: Say, label: str = "", say_of_teacher: Say | None = None) -> tuple[Parts, dict | None]:
    """The parts of a run whose earlier runs are trained, and what was measured of its teacher."""
    rehearse(config)
    say_precision(config, say)
    parts = assembled(config)
    notes = parts.data.notes()
    for line in notes:
        say(line)
    if parts.untrained:
        for one in parts.untrained:
            say(f"{one.role}: training {one.name}, once for all runs that share it{one.advice}")
            ensure(one.config, lambda line: None if line in notes else say(line), label=f"{one.role}: ", shared=True)
        parts = assembled(config)
    for line in parts.notes:
        say(f"{label}{line}")
    if parts.caching is not None:
        parts.caching.check_room()
        parts.caching.fill("validation", say)
    described = None
    if parts.teacher is not None:
        described = describe(
            config,
            parts.teacher,
            parts.task,
            parts.data.val_dataloader(),
            evaluation_device(config),
            say_of_teacher or say,
        )
    return parts, described


def keep_answers(config: dict, say: Say = print) -> Parts:
    """Keep the answers that a run's teacher gives on the training and validation split, without the run itself. The
    teacher is trained first where it must be.

    Args:
        config: a composed plain config. ``teacher.cache=auto`` is the exact mode that needs less.

    Returns:
        The parts of the run.

    Raises:
        InputError: the config is wrong, or these answers cannot be kept.
    """
    with _keeping(config) as config:
        parts, _ = _prepared(config, say)
        assert parts.caching is not None  # explicit() has chosen a mode
        parts.caching.fill("train", say)
    return parts


@contextlib.contextmanager
def _keeping(config: dict) -> Iterator[dict]:
    """A checked config with an explicit ``teacher.cache``, for work on its kept answers. It restores the caller's
    random numbers and number of threads."""
    Plan.of(config)
    config = explicit(config)
    quiet()
    with threads(config["threads"]), torch.random.fork_rng(devices=[]):
        yield config


def compared_with_live(config: dict) -> Iterator[tuple[Path, int, float]]:
    """For each network of a run's teacher: the folder of its kept answers, the number of files there, and how far they
    are from the live teacher's at most, over one batch of each file.

    Raises:
        InputError: the config is wrong, or its teacher is not trained.
    """
    with _keeping(config) as config:
        parts = assembled(config)
        if parts.untrained:
            raise InputError(f"teacher: {parts.untrained[0].name} is not trained, so nothing of it can be kept")
        for teacher in parts.caching.teachers if parts.caching is not None else []:
            yield teacher.store.path, *difference(teacher, parts.data, evaluation_device(config))


def _found(plan: Plan, run: Run, say: Say) -> Run:
    plan.note(run)
    say(provenance.finished_already(run))
    return run


@contextlib.contextmanager
def _locked(run: Run, say: Say | None, shared: bool) -> Iterator[None]:
    """Only one process trains a run. A second one prints a line and waits; without ``say`` it does not wait. The system
    frees the lock of a killed process.

    Raises:
        InputError: srun has started the same command in several tasks, and another of them is training the run; unless
            it is ``shared``.
    """
    try:
        lock = run.lock()
        lock.acquire(timeout=0)
    except Timeout:
        if say is None:
            raise BeingTrained(f"another process is training {run.path}") from None
        say(f"another process is training {run.path}; waiting for it")
        while not lock.is_locked:
            if not shared:
                _refuse_other_task(run)
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=1)
    except OSError as error:
        raise _unwritable(run, error) from error
    try:
        yield
    finally:
        lock.release()


def _refuse_other_task(run: Run) -> None:
    try:
        other = slurm.other_task(run.record)
    except InputError:  # no record yet
        return
    if other is not None:
        raise InputError(
            f"srun has started this command in {slurm.tasks()} tasks, and task {other} trains this very run "
            f"({run.path}). kdlab trains a run in one task: srun --ntasks=1 kdlab train …; for independent runs give "
            "each task a seed of its own: srun --ntasks=2 sh -c 'kdlab train seed=$SLURM_PROCID'"
        )


def _unwritable(run: Run, error: OSError) -> InputError:
    return InputError(
        f"paths.runs: {run.path.parent} cannot be written ({error.strerror or error}); name another folder with "
        "paths.runs=…"
    )


def _train(
    plan: Plan,
    run: Run,
    parts: Parts,
    teacher: dict | None,
    say: Say,
    label: str,
    observe: Observe | None,
    ranks: list[Connection] | None,
) -> None:
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
        raise _unwritable(run, error) from error
    began, unit = time.perf_counter(), unit_of(config)
    before = run.read().durations.get("wall_seconds", 0.0)
    try:
        if parts.caching is not None:
            parts.caching.fill("train", lambda line: say(f"{label}{line}"))
            run.update(cache=parts.caching.as_record())
        if plan.world > 1:
            fit_in_ranks(FIT_RANK, config, run.path, plan.world, label, observe, ranks)
        else:
            fit(config, run, parts, label, observe)
        if not run.checkpoint("last").exists():
            raise RuntimeError(
                f"not one {'epoch' if unit == 'epoch' else 'row of steps'} was finished; something ends the training "
                "before that (trainer.max_time, a callback)"
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
    except BaseException as error:
        stopped = (
            INTERRUPTED if isinstance(error, KeyboardInterrupt) else PRUNED if isinstance(error, RunPruned) else None
        )
        where = f"The traceback is in {run.path}/error.txt"
        try:
            run.update(
                status=stopped or FAILED,
                ended=provenance.now(),
                error=f"{type(error).__name__}: {error}",
                durations={"wall_seconds": before + time.perf_counter() - began},
            )
            if not stopped:
                write_text(run.path / "error.txt", traceback.format_exc())
        except OSError as unwritten:  # such as a full disk, which also made the run fail
            where = f"Nothing could be written of it in {run.path} ({unwritten.strerror or unwritten})"
        if stopped:
            raise
        kept = "finished epochs are kept" if unit == "epoch" else "the last checkpoint is kept"
        resumable = "" if isinstance(error, DataDamaged) else ", and the same command resumes there"
        raise RunFailed(
            f"the run failed while training: {told(error).rstrip('.')}. {where}; {kept}{resumable}"
        ) from error
    metrics, headline = found["metrics"], parts.task.headline.name
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
        "initial": origin(plan.initial),
        "metrics": {},
        "durations": earlier.durations if earlier else {},
        "teacher_share": None,
        "cache": None,
        "fresh": config["fresh"] or (earlier is not None and earlier.fresh),
        "directory": os.getcwd(),
        "slurm": slurm.task(),
        "began": (earlier and earlier.began) or provenance.now(),
        "resumed": [*earlier.resumed, {"at": provenance.now(), **provenance.code()}] if earlier else [],
        "ended": None,
        "error": None,
    }
    run.begin(config, values)
