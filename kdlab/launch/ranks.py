"""Several processes for one run. kdlab starts the ranks itself: Lightning would run the whole command line again,
including a sweep."""

from __future__ import annotations

import os
import signal
import socket
import threading
import traceback
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

from kdlab.errors import DataDamaged, InputError, KdlabError, ended_early
from kdlab.runs.curve import Observe

from . import processes, slurm

RANK_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
)
RUN_ID = "kdlab"  # of the ranks that kdlab has started


def refuse_other_launchers(config: dict) -> None:
    """Raises InputError where another launcher has started several such processes: each would train the whole run."""
    if "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "this process was started by torchrun or the like, but kdlab starts the processes of a run itself: "
            "kdlab train trainer.devices=N, without torchrun"
        )
    nodes = int(config["trainer"].get("num_nodes", 1))
    if nodes != 1:
        raise InputError(
            f"trainer.num_nodes={nodes}: kdlab trains a run on one machine; leave num_nodes out, and say with "
            "trainer.devices=N how many devices of that machine to use"
        )
    if slurm.tasks() > 1:
        from .devices import world_size

        if (world := world_size(config)) > 1:
            raise InputError(
                f"srun has started this command in {slurm.tasks()} tasks, and each of them would train the whole run "
                f"in {world} processes of its own (trainer.devices={config['trainer'].get('devices', 1)}). kdlab "
                "trains a run on one machine and starts its processes itself: srun --nodes=1 --ntasks=1 "
                f"--cpus-per-task={world * config['threads']} kdlab train …"
            )


def start_ranks(world: int, variables: dict[str, str] | None = None) -> list[Connection]:
    """Start ``world`` processes that wait for a run to train, and return a connection to each.

    A rank ends when its connection is closed. A sweep's worker gets such connections from the launcher: it cannot start
    warm processes itself.
    """
    lines = []
    for rank in range(world):
        line, far_end = processes.context().Pipe()
        processes.start(_rank, far_end, name=f"rank {rank}", variables=variables)
        far_end.close()
        lines.append(line)
    return lines


def fit_in_ranks(
    target: str,
    config: dict,
    path: Path,
    world: int,
    label: str = "",
    observe: Observe | None = None,
    ranks: list[Connection] | None = None,
) -> None:
    """Train the run in ``world`` processes and wait for them. If one fails, the others are ended.

    Args:
        target: the function that every process calls, ``module:function``. Its arguments are the config, the run's
            directory, the label, and a function to call at the end of every epoch.
        observe: as for :func:`kdlab.training.execute.fit`; it is called in this process, while the ranks continue.
        ranks: connections to processes that wait already; None starts them here.

    Raises:
        DataDamaged: a process could not read a file of the data.
        RuntimeError: a process failed otherwise; its traceback is in the message.
        KeyboardInterrupt: the user stopped them.
    """
    lines = ranks if ranks is not None and len(ranks) == world else start_ranks(world)
    port = free_port()
    try:
        for rank, line in enumerate(lines):
            line.send((target, config, str(path), rank, world, port, label))
        running = dict(zip(lines, range(world)))
        while running:
            for line in cast(list[Connection], wait(list(running))):
                rank, message = running[line], _answer(line)
                if isinstance(message, tuple):
                    if observe is not None:
                        observe(*message)
                    continue
                del running[line]
                if isinstance(message, DataDamaged):  # the caller reports that the run cannot be resumed
                    raise message
                if message is not None:
                    raise RuntimeError(f"rank {rank}: {(message.strip().splitlines() or ['?'])[-1]}\n{message}")
    finally:
        for line in lines:
            _end(line)


def _answer(line: Connection) -> tuple | DataDamaged | str | None:
    """The result of an epoch; None once the rank is done; or the error."""
    try:
        return line.recv()
    except (EOFError, OSError):
        return "the process was killed"


def _end(line: Connection) -> None:
    """End a rank and wait until it is gone, so that it cannot write into files that the next process uses."""
    try:
        line.send("end")
        while True:
            line.recv()
    except (EOFError, OSError):
        line.close()


def _rank(line: Connection) -> None:
    """The main function of a rank."""
    # the process that started it gets the signal too, saves what is finished, and then closes the connection
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        target, config, path, rank, world, port, label = line.recv()
    except (EOFError, TypeError, ValueError):  # it is not needed after all
        return
    _end_with(line)
    values = (rank, rank, world, world, 0, "127.0.0.1", port, RUN_ID)
    os.environ.update({name: str(value) for name, value in zip(RANK_VARIABLES, values)})
    failure: DataDamaged | str | None = None
    try:
        module, _, function = target.partition(":")
        train = getattr(import_module(module), function)
        if rank:
            config = {**config, "progress": "none"}
        train(config, Path(path), label, lambda *epoch: line.send(epoch))
    except BaseException as error:
        if isinstance(error, DataDamaged):
            failure = type(error)(*error.problems, reason=error.reason)  # without its cause, which may not be picklable
        elif isinstance(error, KdlabError):
            failure = str(error)
        else:  # the launcher shows the last line
            failure = "\n".join(filter(None, [traceback.format_exc(), ended_early(error)]))
    line.send(failure)
    threading.Event().wait()  # until the connection closes: the other ranks may still communicate with this one


def _end_with(line: Connection) -> None:
    """End this process when its connection is closed or receives anything: the run was stopped, or its parent is
    gone."""

    def watch() -> None:
        wait([line])
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
