"""The grid sweeper, ``hydra/sweeper=kdlab``: every combination of the values on the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from kdlab.errors import InputError, KdlabError, RunFailed

from .job import DONE, INTERRUPTED, NOT_STARTED, REFUSED
from .launcher import Launcher
from .view import first_line


class GridSweeper(HydraSweeper):
    """Runs every combination of the overrides' values, in Hydra's grammar, with any launcher.

    Hydra's own sweeper composes every job twice to validate it, and raises only the first failure.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: HydraLauncher

    def __init__(self, params: dict | None = None):
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's context and config, and make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run every combination of the values with the launcher.

        Raises:
            InputError: a job is bad input; none was begun.
            RunFailed: some jobs failed.
        """
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        if not jobs:
            raise InputError("the sweep has no jobs: one of its lists of values is empty")
        try:
            returns = self._launched(jobs)
        finally:
            folder = Path(self.config.hydra.sweep.dir)
            for empty in (folder, folder.parent):  # if a launcher made the folder and wrote nothing
                with contextlib.suppress(OSError):
                    empty.rmdir()
        finish(self.launcher, returns)

    def _launched(self, jobs: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        """The launcher's results of the jobs. A launcher of another package may not work here (without Slurm, for
        example), and may raise any exception."""
        try:
            return self.launcher.launch(jobs, initial_job_idx=0)
        except KdlabError:
            raise
        except BrokenExecutor as error:  # joblib's pool: if one process is killed, all end
            raise RunFailed(
                f"a process of hydra/launcher={self._choice()} was killed (the system does so when memory runs out), "
                "and the jobs that were not finished have ended with it; the same command tries them again. kdlab's "
                "own launcher survives this, and names the job"
            ) from error
        except Exception as error:
            if isinstance(self.launcher, Launcher):
                raise
            raise InputError(f"hydra/launcher={self._choice()}: {type(error).__name__}: {error}") from error

    def _choice(self) -> str:
        return self.config.hydra.runtime.choices["hydra/launcher"]


def finish(launcher: HydraLauncher, returns: Sequence[JobReturn]) -> None:
    """Print the failures, and raise an error if there are any.

    Raises:
        InputError: all failures are bad input, and no job was trained.
        RunFailed: some jobs failed.
    """
    if isinstance(launcher, Launcher):
        bad = [outcome for outcome in launcher.outcomes if outcome.status not in DONE]
        trained = any(
            outcome.status not in (REFUSED, NOT_STARTED, INTERRUPTED) and outcome.seconds is not None
            for outcome in launcher.outcomes
        )
        refused = bool(bad) and all(outcome.status == REFUSED for outcome in bad) and not trained
        number = sum(outcome.job.number is not None for outcome in bad)
    else:  # a launcher of another package: only its return values are known
        failures = [(entry, entry._return_value) for entry in returns if entry.status != JobStatus.COMPLETED]
        for entry, error in failures:
            message = str(error) if isinstance(error, KdlabError) else f"{type(error).__name__}: {error}"
            print(f"failed: {' '.join(entry.overrides or [])}: {first_line(message)}")
        number, refused = (
            len(failures),
            bool(failures)
            and len(failures) == len(returns)
            and all(isinstance(error, InputError) for _, error in failures),
        )
    if number:
        text = (
            f"{number} of the {len(returns)} jobs failed; the same command tries only these again (with fresh=true it "
            "starts all jobs over)"
        )
        raise InputError(text) if refused else RunFailed(text)
