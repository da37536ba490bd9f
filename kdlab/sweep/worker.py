"""The worker processes of a sweep. Each does one thing and ends, so no job is affected by another's leftovers."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, cast

from kdlab.errors import BeingTrained, InputError, KdlabError, RunPruned, to_user_error
from kdlab.launch.processes import Interrupt

from .job import FAILED, INTERRUPTED, PRUNED, REFUSED, TRAINED, Need

BUSY = "busy"  # another process is training the run


def work(
    config: dict, digest: str, output: str, line: Connection, ranks: list[Connection], wait: bool, asks: bool
) -> None:
    """Train one run, and report its result.

    It sends ``("teacher", text)`` for each line about the run's teacher (its name, its score, warnings),
    ``("row", finished, all, row, unit)`` after every row of the curve (see :data:`kdlab.runs.curve.Observe`), and
    ``("end", status, message)`` at the end. A run that a signal interrupts has no message; one whose own code raises
    KeyboardInterrupt has one.

    Args:
        digest: the hash of the run when the sweep was planned.
        output: the file for everything that is printed.
        line: the connection to the launcher.
        wait: whether to wait for another process that trains the run.
        asks: whether to ask the launcher after each row if it should continue.
    """
    signalled = Interrupt(patience=float("inf"))
    signal.signal(signal.SIGTERM, signalled)
    print_to(output)

    def observe(finished: int, whole: int, row: dict, unit: str) -> None:
        line.send(("row", finished, whole, row, unit))
        if asks and not line.recv():
            raise RunPruned(f"stopped after {unit} {finished} of {whole}, where other trials were better")

    try:
        from kdlab.runs.identity import run_hash
        from kdlab.training.ensure import ensure

        def say_of_teacher(text: str) -> None:
            print(text)
            line.send(("teacher", text))

        if run_hash(config) != digest:
            raise InputError(
                "an input of this job (the file of its teacher, its data) has changed since the sweep was planned; the "
                "same command plans it again"
            )
        ensure(
            {**config, "progress": "none"},
            wait=wait,
            observe=observe,
            ranks=ranks or None,
            shared=True,
            say_of_teacher=say_of_teacher,
        )
        end = (TRAINED, "")
    except BaseException as error:
        end = ending(error, bool(signalled.number))
    line.send(("end", *end))


def ending(error: BaseException, signalled: bool) -> tuple[str, str]:
    """The status of a job that an exception has ended, and the message.

    Args:
        signalled: whether a signal has interrupted the process.
    """
    if isinstance(error, BeingTrained):
        return BUSY, str(error)
    if isinstance(error, RunPruned):
        return PRUNED, str(error)
    if isinstance(error, InputError):
        return REFUSED, str(error)
    if isinstance(error, KdlabError):
        return FAILED, str(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "" if signalled else "its own code raised KeyboardInterrupt"
    message = to_user_error(error)  # without a message for users, only the traceback explains the failure
    return FAILED, "".join(traceback.format_exception(error)) if message is None else str(message)


def print_to(path: str) -> None:
    """Redirect all further output to a file, including that of C libraries and child processes."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for stream in (sys.stdout, sys.stderr):
        cast(Any, stream).reconfigure(line_buffering=True)


def examine(
    configs: list[dict], tried: dict[str, tuple[list[str], list[str]]], seconds: float, line: Connection
) -> None:
    """Check the configs of a sweep one after the other. For each it sends the result of :func:`described` (None where
    the config has problems), and then ``(problems, networks, notes)``. So if this process dies, the config without an
    answer is the cause. If the user's own code raises KeyboardInterrupt, the last message is
    :data:`kdlab.sweep.job.INTERRUPTED`.

    All configs are checked for names and signatures. Those that differ in more than the seed are also tried on a few
    samples, for ``seconds`` in all. Errors that only such a trial finds appear for the remaining configs when they are
    run.

    Args:
        tried: the groups that were tried before, with the results of :func:`_try`.
        seconds: how long configs are tried.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    began = time.monotonic()
    for config in configs:
        problems: list[str] = []
        networks: list[str] = []
        notes: list[str] = []
        described_already = False
        try:
            description = described(config)
            line.send(description)
            described_already, group = True, description["group"]
            if group not in tried and time.monotonic() - began < seconds and not description["finished"]:
                tried[group] = [], []
                tried[group] = _try(config)
            networks, notes = tried.get(group, ([], []))
        except InputError as error:
            problems = error.problems
        except KeyboardInterrupt:  # not from a signal: signals are ignored here, or end the process
            line.send(INTERRUPTED)
            return
        except Exception as error:  # the user's own classes may fail in any way
            problems = [f"{type(error).__name__}: {error}"]
        if not described_already:
            line.send(None)
        line.send((problems, networks, notes))


def described(config: dict) -> dict:
    """What the launcher must know about a job and cannot find without torch: hash, group, need, the names of its run's
    metrics, the same for earlier runs that it needs, the number of GPUs, and how its teacher's answers can be kept.

    Raises:
        InputError: the config has problems.
    """
    import torch

    from kdlab.config.check import check, check_facts
    from kdlab.config.references import composed_runs
    from kdlab.launch.devices import evaluation_device, world_size
    from kdlab.launch.ranks import refuse_other_launchers
    from kdlab.runs.identity import group_hash, run_hash
    from kdlab.runs.run import RunStore
    from kdlab.tasks import task_of
    from kdlab.training.caching import sharing

    check(config)
    check_facts(config)
    refuse_other_launchers(config)
    task = task_of(config)
    digest, gpu = run_hash(config), evaluation_device(config).type == "cuda"
    return {
        "digest": digest,
        "group": group_hash(config),
        "finished": RunStore(config["paths"]["runs"]).run(config, digest).finished and not config["fresh"],
        "need": Need(config["threads"], world_size(config), gpu),
        "gpus": torch.cuda.device_count() if gpu else 0,
        "metrics": {
            "train/loss",
            *(f"train/loss_{name}" for name in config["loss"]),
            *(f"val/{name}{end}" for name in task.metrics() for end in ("", "_best")),
        },
        "report": task.report.as_record(),
        "sharing": sharing(config),
        "earlier": [(one.role, one.name, one.config, described(one.config)) for one in composed_runs(config)],
    }


def _try(config: dict) -> tuple[list[str], list[str]]:
    """Build everything and try one step. Nothing is written, and an untrained network replaces a teacher that is not
    trained yet. Returns the names of the networks and ensembles that the run will report, and lines about its data and
    weights."""
    import torch

    from kdlab.launch.devices import threads
    from kdlab.training.assemble import assembled
    from kdlab.training.execute import quiet, rehearse

    quiet()
    with threads(config["threads"]), torch.random.fork_rng(devices=[]):
        rehearse(config)
        parts = assembled(config)
        return list(parts.strategy.answers()), [*parts.data.notes(), *parts.notes]
