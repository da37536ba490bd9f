"""What a notebook calls: the same as the command line, returning Runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.runs.run import Run
from kdlab.training.ensure import ensure

# Hydra, torch's random numbers and its number of threads are one for the whole process: runs of several threads take
# turns
_TURN = threading.RLock()


def train(overrides: Sequence[str] = (), *, quiet: bool = False) -> Run:
    """Train one run, or find it finished: ``kdlab train`` with the same overrides. Called from several threads, the
    runs take turns.

    Args:
        overrides: a list of strings, as on the command line.
        quiet: print warnings and nothing else, for a loop over many runs.

    Raises:
        kdlab.errors.InputError: the input is bad; nothing was trained or written.
        kdlab.errors.RunFailed: training failed.
    """
    if isinstance(overrides, str):
        raise InputError(f'overrides are a list of strings, for example kdlab.train(["{overrides}"])')
    with _TURN:
        return ensure(compose([*overrides, "progress=none"]), _warn) if quiet else ensure(compose(overrides))


def _warn(line: str) -> None:
    if "warning: " in line:
        print(line)


def load(run: str | Path) -> Run:
    """The run in a directory. Its ``student`` is a plain ``nn.Module``."""
    found = Run(run)
    found.check()
    return found
