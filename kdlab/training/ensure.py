"""``ensure(config) -> Run``: the run of a config, which is trained if necessary.

Teachers, assistants, generations, stages and the jobs of sweeps all go through it: hashed, locked, trained if absent,
returned.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from filelock import Timeout

from kdlab.cache.filling import difference
from kdlab.errors import BeingTrained, InputError
from kdlab.launch import slurm
from kdlab.launch.devices import evaluation_device, threads
from kdlab.launch.ranks import fit_in_ranks, refuse_other_launchers
from kdlab.runs import record as provenance
from kdlab.runs.curve import Observe
from kdlab.runs.run import Run

from .assemble import Parts, assembled
from .caching import explicit
from .execute import fit, fit_rank, quiet, rehearse, say_precision
from .memory import give_back, note_end
from .plan import Plan
from .recording import evaluated, failed, keep_training_answers, opened, say_results, unwritable
from .teacher_record import describe

Say = Callable[[str], None]
FIT_RANK = f"{fit_rank.__module__}:{fit_rank.__name__}"


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
    give_back()
    # restores the caller's random numbers and number of threads
    with threads(config["threads"]), torch.random.fork_rng(devices=[]):
        parts, described = prepared(config, say, label, say_of_teacher)
        with locked(run, say if wait else None, shared):
            run = plan.run()
            if run.finished and not config["fresh"]:  # another process was faster
                return _found(plan, run, say)
            try:
                _train(plan, run, parts, described, say, label, observe, ranks)
            finally:
                note_end(parts.data)
            plan.note(run)
    return run


def prepared(config: dict, say: Say, label: str = "", say_of_teacher: Say | None = None) -> tuple[Parts, dict | None]:
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
        parts.caching.check_room(say)
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
            parts.data,
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
        parts, _ = prepared(config, say)
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
def locked(run: Run, say: Say | None, shared: bool) -> Iterator[None]:
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
        raise unwritable(run, error) from error
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
    config, before = plan.config, opened(plan, run, parts, teacher, say)
    began = time.perf_counter()
    try:
        keep_training_answers(run, parts, lambda line: say(f"{label}{line}"))
        if plan.world > 1:
            fit_in_ranks(FIT_RANK, config, run.path, plan.world, label, observe, ranks)
        else:
            fit(config, run, parts, label, observe)
        found = evaluated(config, run, parts, teacher, before, began)
    except BaseException as error:
        ended = failed(run, error, config, before, began)
        if ended is error:
            raise
        raise ended from error
    say_results(config, run, parts, found, say, label)
