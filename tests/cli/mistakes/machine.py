"""What may go wrong while a run is trained: memory, disk, numbers, the user. What is finished is kept, and the same
command goes on."""

import errno
import os

import torch

from kdlab.strategies.base import Strategy

from .table import SHORT, Mistake, Place


def _in_the_second_epoch(error: BaseException):
    """Every step of the second epoch raises it."""
    step = Strategy.training_step

    def failing(self, batch, index):
        if self.current_epoch == 1:
            raise error
        return step(self, batch, index)

    return lambda place: place.patch.setattr(Strategy, "training_step", failing)


def _no_room(name: str, times: int = 0, number: int = errno.ENOSPC):
    """A file of that name cannot be written any more, once it was written so many times."""

    def setup(place: Place) -> None:
        replace, counted = os.replace, []

        def full(source, target):
            if str(target).endswith(name):
                counted.append(target)
                if len(counted) > times:
                    raise OSError(number, os.strerror(number), str(target))
            return replace(source, target)

        place.patch.setattr(os, "replace", full)

    return setup


def _no_folder(number: int):
    """No folder can be made where the runs are."""

    def setup(place: Place) -> None:
        mkdir = os.mkdir

        def refused(path, *arguments, **options):
            if not str(path).startswith("runs"):
                return mkdir(path, *arguments, **options)
            raise OSError(number, os.strerror(number), str(path))

        place.patch.setattr(os, "mkdir", refused)

    return setup


def _out_of_reach(place: Place) -> None:
    """A run whose files the user may not read."""
    from pathlib import Path

    place.finished()
    read = Path.read_text

    def refused(self, *arguments, **options):
        if self.name == "run.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return read(self, *arguments, **options)

    place.patch.setattr(Path, "read_text", refused)


def _torchrun(place: Place) -> None:
    place.patch.setenv("TORCHELASTIC_RUN_ID", "x")


MEMORY = ["the memory ran out", "data.batch_size", "trainer.accumulate_grad_batches", "the same command resumes"]
ON_CPU = (
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8589934592 bytes"
)
FULL = ["No space left on device", "the same command resumes"]

MISTAKES = [
    Mistake(
        "no memory on the GPU",
        SHORT,
        ["CUDA out of memory", *MEMORY],
        code=1,
        given="out of memory in epoch 2",
        goes_on=True,
        setup=_in_the_second_epoch(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
    ),
    Mistake(
        "no memory on the CPU",
        SHORT,
        ["can't allocate memory", *MEMORY],
        code=1,
        given="torch's allocator fails in epoch 2",
        goes_on=True,
        setup=_in_the_second_epoch(RuntimeError(ON_CPU)),
    ),
    Mistake(
        "no memory for Python",
        SHORT,
        MEMORY,
        code=1,
        given="MemoryError in epoch 2",
        goes_on=True,
        setup=_in_the_second_epoch(MemoryError()),
    ),
    Mistake(
        "failure of the user's own code",
        SHORT,
        ["RuntimeError: out of luck", "error.txt", "the same command resumes"],
        code=1,
        given="a step of epoch 2 raises an error",
        goes_on=True,
        setup=_in_the_second_epoch(RuntimeError("out of luck")),
    ),
    Mistake(
        "divergence",
        ["train", "strategy=supervised", "trainer.max_epochs=2", "optimizer.lr=1e30"],
        ["diverged in epoch 1", "optimizer.lr", "gradient_clip_val"],
        code=1,
    ),
    Mistake(
        "interrupt",
        SHORT,
        ["interrupted", "the same command resumes"],
        code=130,
        given="Ctrl-C in epoch 2",
        goes_on=True,
        setup=_in_the_second_epoch(KeyboardInterrupt()),
    ),
    Mistake(
        "full disk at the first file",
        SHORT,
        ["paths.runs", "No space left on device"],
        given="no room for run.json",
        goes_on=True,
        setup=_no_room("run.json"),
    ),
    Mistake(
        "full disk at the second file",
        SHORT,
        ["paths.runs", "No space left on device"],
        given="no room for config.yaml",
        goes_on=True,
        setup=_no_room("config.yaml"),
    ),
    Mistake(
        "full disk at the curve",
        SHORT,
        ["metrics.csv", *FULL],
        code=1,
        given="no room for metrics.csv in epoch 2",
        goes_on=True,
        setup=_no_room("metrics.csv", 1),
    ),
    Mistake(
        "full disk at a checkpoint",
        SHORT,
        ["last.ckpt", *FULL],
        code=1,
        given="no room for last.ckpt in epoch 2",
        goes_on=True,
        setup=_no_room("last.ckpt", 1),
    ),
    Mistake(
        "full disk at the predictions",
        SHORT,
        ["predictions.safetensors", *FULL],
        code=1,
        given="no room for predictions.safetensors",
        goes_on=True,
        setup=_no_room("predictions.safetensors"),
    ),
    Mistake(
        "full disk at the end",
        SHORT,
        ["run.json", "Nothing could be written of it", *FULL],
        code=1,
        given="no room for the result in run.json",
        goes_on=True,
        setup=_no_room("run.json", 1),
    ),
    Mistake(
        "disk that is read-only",
        SHORT,
        ["paths.runs", "Read-only file system"],
        given="no folder can be made",
        goes_on=True,
        setup=_no_folder(errno.EROFS),
    ),
    Mistake(
        "folder without permission",
        SHORT,
        ["paths.runs", "Permission denied"],
        given="no folder can be made",
        goes_on=True,
        setup=_no_folder(errno.EACCES),
    ),
    Mistake(
        "disk that turns read-only",
        SHORT,
        ["last.ckpt", "Read-only file system"],
        code=1,
        given="from epoch 2 on",
        goes_on=True,
        setup=_no_room("last.ckpt", 1, errno.EROFS),
    ),
    Mistake(
        "run that may not be read",
        ["evaluate", "{run}"],
        ["run.json cannot be read", "Permission denied"],
        given="run.json may not be read",
        setup=_out_of_reach,
    ),
    Mistake("torchrun", SHORT, ["torchrun", "trainer.devices=N"], given="started by torchrun", setup=_torchrun),
]
