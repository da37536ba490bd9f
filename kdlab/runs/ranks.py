"""Several processes for one run. kdlab starts the ranks itself: Lightning would run the command line again, whole sweep and all."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import sys
import threading
import traceback
from multiprocessing.connection import wait
from pathlib import Path

from kdlab.errors import InputError, KdlabError

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


def refuse_other_launchers(config: dict) -> None:
    """Raises InputError where another launcher has started this process as one of several: each would train the run on its own."""
    if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("this process was started by torchrun or the like, but kdlab starts the processes of a run itself: "
                         "kdlab train trainer.devices=N, without torchrun")
    if int(config["trainer"].get("num_nodes", 1)) != 1:
        raise InputError(f"trainer.num_nodes={config['trainer']['num_nodes']}: kdlab trains a run on one machine")


def fit_in_ranks(config: dict, path: Path, world: int, label: str = "") -> None:
    """Train the run in ``world`` processes and wait for them. If one fails, the others are ended.

    Raises:
        RuntimeError: a process failed; its traceback is in the message.
        KeyboardInterrupt: the user stopped them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kdlab.runs.ensure"])
    failures = context.SimpleQueue()
    port = free_port()
    processes = [context.Process(target=_rank, args=(config, str(path), rank, world, port, label, failures), name=f"rank {rank}")
                 for rank in range(world)]
    with _without_main():
        for process in processes:
            process.start()
    try:
        running = {process.sentinel: process for process in processes}
        while running:
            for sentinel in wait(list(running)):
                process = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    raise RuntimeError(_reason(process, failures))
    except BaseException:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(timeout=10)
            process.kill()
        raise


@contextlib.contextmanager
def _without_main():
    """Children import the parent's main module, which would run a user's script once more in each rank. They need nothing of it."""
    main = sys.modules["__main__"]
    kept = {name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__}
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(kept)


def _reason(process, failures) -> str:
    text = "".join(failures.get() for _ in iter(lambda: failures.empty(), True))
    if "KeyboardInterrupt" in text:
        raise KeyboardInterrupt
    reason = (text.strip().splitlines() or [f"exit code {process.exitcode}"])[-1]
    return f"{process.name}: {reason}\n{text}"


def _rank(config: dict, path: str, rank: int, world: int, port: int, label: str, failures) -> None:
    """One rank's whole life."""
    _die_with_parent()
    values = (rank, rank, world, world, 0, "127.0.0.1", port, "kdlab")
    os.environ.update({name: str(value) for name, value in zip(RANK_VARIABLES, values)})
    try:
        from .ensure import assembled
        from .execute import fit
        from .run import Run

        if rank:
            config = {**config, "progress": "none"}
        fit(config, Run(path), assembled(config), label)
    except BaseException as error:
        text = str(error) if isinstance(error, KdlabError) else traceback.format_exc()
        failures.put(text[-20_000:])        # a pipe holds 64 KB, and nobody reads before this process has ended
        raise SystemExit(1) from None


def _die_with_parent() -> None:
    """End this process when its parent is gone: a killed launcher must not leave ranks behind."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
