"""Processes that begin warm: forked from a parent that has imported everything, so that a job starts in a fraction of a
second.

The warm parent is Python's own ``forkserver`` (``spawn`` where the system cannot fork: right, but each process imports
for itself).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait

#: what a run needs before its first step is done; an import that is missing here costs its time in every job
PRELOAD = [
    "kdlab.training.ensure",
    "kdlab.sweep.worker",
    "kdlab.strategies",
    "kdlab.losses",
    "kdlab.models",
    "kdlab.data",
    "sklearn.datasets",
    "safetensors.torch",
    "torch._dynamo",
    "torch.utils.data",
    "PIL.Image",
    "yaml",
    "filelock",
]


# what asks a process to end: a person (SIGINT), the system or a cluster (SIGTERM), a cluster some time before the limit
# (SIGUSR1, SIGUSR2)
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
WARNING = tuple(number for number in ENDING if number not in (signal.SIGINT, signal.SIGTERM))


def context():
    """The multiprocessing context that kdlab's processes are made in."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def warm() -> None:
    """Let the warm parent begin its imports now, beside whatever this process does next. Does nothing if it has begun
    already."""
    made = context()
    if made.get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    made.set_forkserver_preload(PRELOAD)
    # Python 3.11's server does not take over sys.path, and swallows the imports that fail for want of it
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    with environment({"PYTHONPATH": path}), _blocked(ENDING):
        resource_tracker.ensure_running()
        with _blocked(ENDING):  # once more: the tracker's start unblocks some of them
            forkserver.ensure_running()


def start(function: Callable, *arguments, name: str | None = None, variables: dict[str, str] | None = None):
    """Start ``function(*arguments)`` in a warm process and return the process.

    It has this process's working directory, environment (with ``variables`` on top) and ``sys.path`` of now, and ends
    when this process is gone, however that came about.
    """
    warm()
    process = context().Process(
        target=_enter, args=(os.getcwd(), {**os.environ, **(variables or {})}, function, arguments), name=name
    )
    with _without_main():
        process.start()
    return process


def stop(processes, patience: float = 15.0) -> None:
    """Ask processes to end, wait for them, kill those that do not."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=patience)
        if process.is_alive():
            process.kill()
            process.join()


def cause_of_death(process) -> str:
    """How a process ended that did not say so itself, in words.

    >>> from types import SimpleNamespace
    >>> cause_of_death(SimpleNamespace(exitcode=-11)), cause_of_death(SimpleNamespace(exitcode=0))
    ('its process was killed by signal 11 (SIGSEGV)', 'its process ended with exit code 0')
    """
    code = process.exitcode
    if code is None or code >= 0:
        return f"its process ended with exit code {code}"
    try:
        hint = "the system does so when memory runs out" if -code == signal.SIGKILL else signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"its process was killed by signal {-code}"
    return f"its process was killed by signal {-code} ({hint})"


class Interrupt:
    """A handler of signals that raises KeyboardInterrupt at the first, and at a later Ctrl-C only after so many seconds
    of patience. A cluster repeats its signals, which is not impatience. ``number`` is the signal that was the first.

    Who interrupts through a terminal and a parent process sends the same signal twice within a moment, and the second
    must not break into the writing down of what has been finished. It counts for itself, since Lightning puts handlers
    of its own in the place of others, and takes them back.
    """

    def __init__(self, patience: float = 1.0):
        self.patience = patience
        self.first: float | None = None
        self.number: int | None = None

    def __call__(self, number, frame) -> None:
        """Handle a signal; raises KeyboardInterrupt at the first, and at a Ctrl-C after the patience is over."""
        self.number = self.number or number
        if self.first is None or number == signal.SIGINT and time.monotonic() - self.first > self.patience:
            self.first = time.monotonic()
            raise KeyboardInterrupt


@contextlib.contextmanager
def handling(handler: Callable):
    """``handler`` inside for the signals that ask a process to end (:data:`ENDING`), the earlier handlers after it.
    Only a main thread can have handlers; elsewhere nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in ENDING}
    _unblock()
    try:
        yield
    finally:
        for number, previous in before.items():
            if previous is not None:  # one that Python did not install cannot be put back
                signal.signal(number, previous)


def _enter(directory: str, variables: dict[str, str], function: Callable, arguments: tuple) -> None:
    """A warm process's first steps: the server was started elsewhere and earlier, so what it knows of place and
    environment is old."""
    _die_with_parent()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    # these reach all processes of a terminal, or of a job of Slurm's, at once; the process that started this one gets
    # them too and ends it
    for number in (signal.SIGINT, *WARNING):
        signal.signal(number, signal.SIG_IGN)
    _unblock()
    function(*arguments)


def _die_with_parent() -> None:
    """End this process when its parent is gone: a killed launcher must not leave its workers behind."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _without_main():
    """Children import the parent's main module, which would run a user's script once more in each of them. They need
    nothing of it."""
    main = sys.modules["__main__"]
    kept = {name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(kept)


@contextlib.contextmanager
def environment(values: dict[str, str]):
    """Variables of the environment inside, what they were before behind it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _unblock() -> None:
    """Let the signals through that the warm parent blocks for all its children."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextlib.contextmanager
def _blocked(signals: Sequence[int]):
    """Signals blocked inside. A terminal sends them to all of its processes, and Slurm to all of a job's; the warm
    parent, which inherits this mask, must not die of them: its children would be lost, who are still writing down what
    they have finished."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
