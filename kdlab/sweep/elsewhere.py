"""Sweeps whose jobs run elsewhere: the common part of the launchers for other systems (Slurm, Ray).

Each job is one run. It is composed here and trained there, in a process that the other system starts, so runs and data
must lie on a file system that both see. Finished runs are found here and not sent. If a job dies, only that job has
failed; the others continue.
"""

from __future__ import annotations

import os
import signal
import traceback
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from kdlab.errors import InputError, RunFailed, to_user_error
from kdlab.launch.processes import Interrupt, handling
from kdlab.runs import known
from kdlab.runs.record import started_by

from .composing import ComposingLauncher, without_idle_teachers
from .job import FAILED, FOUND, INTERRUPTED, REFUSED, TRAINED
from .plan import labels_of
from .view import first_line

#: (status, message) of a job that has ended; for a job that succeeded, the message is the run's directory
End = tuple[str, str]


class Work:
    """One run, in a process that another system has started.

    Args:
        command: what the user typed, for the run's record.
    """

    def __init__(self, command: str):
        self.command, self.directory = command, os.getcwd()

    def __call__(self, config: dict) -> End:
        """Train the run in the folder where the sweep was started, and return how it ended. Failures are returned, not
        raised."""
        interrupt = Interrupt()
        try:
            with started_by(self.command), handling(interrupt):
                os.chdir(self.directory)
                from kdlab.training.ensure import ensure

                return TRAINED, str(ensure(config, shared=True).path)
        except InputError as error:
            return REFUSED, str(error)
        except KeyboardInterrupt:
            return self.interrupted(config, interrupt.number)
        except Exception as error:
            message = to_user_error(error)  # without a message for users, only the traceback explains the failure
            return FAILED, traceback.format_exc() if message is None else str(message)

    def interrupted(self, config: dict, number: int | None) -> End:
        """The end of a job that a signal has interrupted; its run is recorded as interrupted, too."""
        name = signal.Signals(number).name if number is not None else "a signal"
        return INTERRUPTED, f"interrupted by {name}; finished epochs are kept, and the same command resumes there"


class ElsewhereLauncher(ComposingLauncher):
    """Base of the launchers. A subclass sends the jobs and yields their results as they end."""

    @abstractmethod
    def outcomes(self, configs: Sequence[dict], labels: Sequence[str]) -> Iterator[tuple[int, End]]:
        """Send the configs, and yield the number and the end of each job that has ended. If the generator is closed
        earlier (the user stopped the sweep), it ends the remaining jobs."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Send the jobs whose runs are not finished, and return the result of every job; prints a line as each ends.

        Raises:
            InputError: some jobs cannot be composed; none was sent.
        """
        configs = self.all_composed(without_idle_teachers(job_overrides))
        labels = labels_of(job_overrides)
        ends: dict[int, End] = {}
        for number, config in enumerate(configs):
            if not config.get("fresh") and (run := known.finished(config)) is not None:
                ends[number] = (FOUND, str(run.path))
        left = [number for number in range(len(configs)) if number not in ends]
        silent = configs[0]["progress"] == "none"
        if left:
            stream: Any = self.outcomes(
                [{**configs[number], "progress": _lines(configs[number])} for number in left],
                [labels[number] for number in left],
            )
            try:
                for place, end in stream:
                    ends[left[place]] = end
                    if not silent:
                        print(
                            f"[{len(ends)}/{len(configs)}] {end[0]} {labels[left[place]]}  {first_line(end[1])}",
                            flush=True,
                        )
            finally:
                stream.close()
        return [_returned(list(overrides), *ends[number]) for number, overrides in enumerate(job_overrides)]


def _lines(config: dict) -> str:
    """The progress setting of a job: ``lines`` in place of a bar, which is useless in an output file."""
    return "lines" if config["progress"] in ("auto", "bar") else config["progress"]


def _returned(overrides: list[str], status: str, message: str) -> JobReturn:
    done = status in (TRAINED, FOUND)
    result = JobReturn(overrides=overrides, status=JobStatus.COMPLETED if done else JobStatus.FAILED)
    result.return_value = message if done else InputError(message) if status == REFUSED else RunFailed(message)
    return result


def package(name: str, launcher: str) -> Any:
    """A package that a launcher needs.

    Args:
        launcher: its name, or the common prefix of several.

    Raises:
        InputError: it is not installed; the message has the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"hydra/launcher={launcher} needs the package {name} ({error}): pip install {name}") from error
