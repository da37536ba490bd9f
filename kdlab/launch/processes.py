"""Warm processes: they are forked from a parent that has imported everything, so a job starts in a fraction of a
second.

The warm parent is Python's own ``forkserver`` (``spawn`` where the system cannot fork: correct, but each process
imports everything itself).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

#: the modules that a run imports before its first step ends; a module that is missing here is imported by every job
#: (:mod:`kdlab.launch.warm_parent`)
PRELOAD = [
    "kdlab.training.ensure",
    "kdlab.training.warm",
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


# the signals that ask a process to end: from a person (SIGINT), the system or a cluster (SIGTERM), or a cluster before
# its time limit (SIGUSR1, SIGUSR2)
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
WARNING = tuple(number for number in ENDING if number not in (signal.SIGINT, signal.SIGTERM))


def context() -> ForkServerContext | SpawnContext:
    """The multiprocessing context that kdlab's processes are made in."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context("spawn")


def warm() -> None:
    """Start the warm parent's imports now, in parallel with this process. Does nothing if they were started before."""
    made = context()
    if made.get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    made.set_forkserver_preload(["kdlab.launch.warm_parent"])
    # Python 3.11's server does not take over sys.path, and silently skips the imports that then fail
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    with environment({"PYTHONPATH": path}), _blocked(ENDING):
        resource_tracker.ensure_running()
        with _blocked(ENDING):  # once more: the tracker's start unblocks some of them
            forkserver.ensure_running()


def start(
    function: Callable, *arguments: Any, name: str | None = None, variables: dict[str, str] | None = None
) -> BaseProcess:
    """Start ``function(*arguments)`` in a warm process and return the process.

    It gets this process's present working directory, environment (with ``variables`` added) and ``sys.path``. It ends
    when this process is gone, even if that was killed.
    """
    warm()
    process = context().Process(
        target=_enter, args=(os.getcwd(), {**os.environ, **(variables or {})}, function, arguments), name=name
    )
    with _without_main():
        process.start()
    return process


def stop(processes: Collection[BaseProcess], patience: float = 15.0) -> None:
    """Ask processes to end, wait up to ``patience`` seconds for each, and kill those that are still alive."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=patience)
        if process.is_alive():
            process.kill()
            process.join()


def cause_of_death(process: BaseProcess) -> str:
    """How a process ended that sent no message, in words.

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
    """A signal handler that raises KeyboardInterrupt at the first signal. A later Ctrl-C raises it again only after
    ``patience`` seconds; other signals do not, since a cluster repeats them. ``number`` is the first signal.

    A terminal and a parent process may both send the same signal within a moment. The second one must not disturb the
    saving of finished epochs. The handler keeps its own count, since Lightning replaces handlers and restores them.
    """

    def __init__(self, patience: float = 1.0):
        self.patience = patience
        self.first: float | None = None
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; raises KeyboardInterrupt at the first, and at a Ctrl-C after the patience is over."""
        self.number = self.number or number
        if self.first is None or number == signal.SIGINT and time.monotonic() - self.first > self.patience:
            self.first = time.monotonic()
            raise KeyboardInterrupt


@contextlib.contextmanager
def handling(handler: Callable) -> Iterator[None]:
    """Handles the signals that ask a process to end (:data:`ENDING`) with ``handler`` inside the context, and restores
    the earlier handlers. Does nothing outside the main thread, which alone can have handlers."""
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
    """A warm process's first steps. The server was started earlier and elsewhere, so its working directory and
    environment are out of date."""
    _die_with_parent()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    # a terminal or a Slurm job sends these to all of its processes at once; the process that started this one gets them
    # too, and ends it
    for number in (signal.SIGINT, *WARNING):
        signal.signal(number, signal.SIG_IGN)
    _unblock()
    function(*arguments)


def _die_with_parent() -> None:
    """End this process when its parent is gone: the workers of a killed launcher must not survive it."""
    parent = multiprocessing.parent_process()
    if parent is None:  # this process has been started by hand
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hides the main module. Children would import it, which would run the user's script again in each of them."""
    main = sys.modules["__main__"]
    kept: dict[str, Any] = {name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(kept)


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Sets environment variables inside the context, and restores their values afterwards."""
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
    """Unblock the signals that the warm parent blocks for all its children."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextlib.contextmanager
def _blocked(signals: Sequence[int]) -> Iterator[None]:
    """Blocks signals inside the context. A terminal or a Slurm job sends them to all of its processes. The warm parent
    inherits this mask and must survive them: otherwise its children, which are still saving finished epochs, would be
    lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
