"""Provenance: what run.json records about the origin of a result."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from .schema import RunRecord

if TYPE_CHECKING:
    from .run import Run

PACKAGES = ("torch", "lightning", "torchmetrics", "hydra-core", "omegaconf", "transformers", "numpy")

_typed: ContextVar[str | None] = ContextVar("typed", default=None)


def now() -> str:
    """The time now in UTC, to the second, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line() -> str:
    """The command line that the user typed. In a process that another system started for a job of a sweep, it is that
    of the sweep."""
    return _typed.get() or " ".join([Path(sys.argv[0]).name, shlex.join(sys.argv[1:])]).strip()


@contextlib.contextmanager
def started_by(command: str) -> Iterator[None]:
    """Sets the command line that the user typed, for a job in a process that was started with another one."""
    token = _typed.set(command)
    try:
        yield
    finally:
        _typed.reset(token)


@cache
def code() -> dict:
    """kdlab's version, the commit of its checkout (or of the working directory's), and whether that has changes."""
    import kdlab

    found = checkout_of_kdlab() or _checkout(Path.cwd()) or {"commit": None, "dirty": None}
    return {"kdlab": kdlab.__version__, **found}


@cache
def checkout_of_kdlab() -> dict | None:
    """The commit of the checkout that kdlab was imported from, and whether it has changes; None if it was installed in
    another way."""
    import kdlab

    return _checkout(Path(kdlab.__file__).resolve().parents[1])


def _checkout(folder: Path) -> dict | None:
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def other_commit(record: RunRecord) -> str:
    """A remark if a finished run was trained by another commit; otherwise empty."""
    theirs, ours = record.code.get("commit"), code()["commit"]
    return (
        ""
        if theirs == ours
        else f"trained by commit {str(theirs)[:8]}, this is {str(ours)[:8]} (fresh=true starts over)"
    )


def finished_already(run: Run) -> str:
    """The line for a run that is finished already, with a remark if another commit trained it."""
    return "; ".join(filter(None, [f"finished already: {run.path}", other_commit(run.read())]))


def versions() -> dict[str, str | None]:
    """The version of Python and of each package in ``PACKAGES``; None for one that is not installed."""
    return {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}}


@cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def hardware() -> dict:
    """The machine. ``model`` and ``vector`` are reported by the processor; ``capability`` is what torch's kernels use
    of it. Where these differ, sums are rounded differently."""
    import torch

    gpus = (
        [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "model": _model(),
        "vector": _vector(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
    }


def machine_in_words(hardware: dict) -> str:
    """The accelerators of a record of :func:`hardware`, or else processor and cores.

    >>> machine_in_words({"processor": "EPYC", "cores": 2}), machine_in_words({"processor": "EPYC", "cores": 64,
    ...     "gpus": ["H100", "H100"]})
    ('EPYC, 2 cores', '2 x H100')
    >>> machine_in_words({"processor": "Xeon", "model": "family 6 model 207", "capability": "AVX512", "cores": 2})
    'Xeon (family 6 model 207), AVX512, 2 cores'
    """
    if gpus := hardware.get("gpus"):
        return " and ".join(
            f"{gpus.count(name)} x {name}" if gpus.count(name) > 1 else name for name in dict.fromkeys(gpus)
        )
    cores = f"{hardware['cores']} cores" if hardware.get("cores") else ""
    model = f" ({hardware['model']})" if hardware.get("model") else ""
    return ", ".join(
        filter(
            None,
            [
                f"{hardware.get('processor') or hardware.get('machine') or ''}{model}".strip(),
                hardware.get("capability"),
                cores,
            ],
        )
    )


def commit_in_words(code: dict, digits: int) -> str:
    """The commit that :func:`code` recorded; empty where there was none.

    >>> commit_in_words({"commit": "85098ac1ffff", "dirty": True}, 8)
    'commit 85098ac1 with changes'
    """
    return (
        f"commit {code['commit'][:digits]}{' with changes' if code.get('dirty') else ''}" if code.get("commit") else ""
    )


@cache
def _cpuinfo() -> dict[str, str]:
    """Linux's entry for the first processor; empty on other systems."""
    try:
        first = Path("/proc/cpuinfo").read_text().strip().partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor()


def _model() -> str:
    """The processor's number: virtual machines often have one name for several processors. Of x86-64 family, model and
    stepping, of arm64 implementer and part."""
    known = {
        "cpu family": "family",
        "model": "model",
        "stepping": "stepping",
        "CPU implementer": "implementer",
        "CPU part": "part",
    }
    return " ".join(f"{word} {_cpuinfo()[key]}" for key, word in known.items() if key in _cpuinfo())


def _vector() -> list[str]:
    """The extensions that decide in which order numbers are summed."""
    flags = (_cpuinfo().get("flags") or _cpuinfo().get("Features") or "").split()
    return sorted(flag for flag in flags if flag.startswith(("sse4", "avx", "fma", "amx", "asimd", "sve", "bf16")))
