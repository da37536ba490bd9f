"""What Hydra sees of kdlab's sweeps: a launcher and sweepers, chosen by ``hydra/launcher`` and ``hydra/sweeper``.

Hydra takes plugins only by names below ``hydra_plugins.``; so kdlab's classes are entered in its table under such
names, which works from a checkout, an editable install and a wheel alike. The classes themselves stay where they are,
so other launchers can pickle them.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from kdlab.config.compose import composing_within_hydra, explaining, plain, sharing_teachers
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError, KdlabError, RunFailed
from kdlab.runs import known, processes

from .job import DONE, INTERRUPTED, NOT_STARTED, REFUSED, Job, Outcome
from .plan import Plan, plan
from .scheduler import Grid, Scheduler, Source
from .slots import Slots
from .view import View, first_line


def register() -> None:
    """Enter kdlab's launcher and sweepers in Hydra's table."""
    from .ray_launcher import RayLauncher
    from .search import OptunaSweeper
    from .submitit_launcher import LocalLauncher, SlurmLauncher

    plugins = Plugins.instance()
    for cls in (Launcher, SlurmLauncher, LocalLauncher, RayLauncher, GridSweeper, OptunaSweeper):
        plugins.class_name_to_class[f"hydra_plugins.kdlab.{cls.__name__}"] = cls
    # packages of Hydra's bring launchers of the same names; kdlab's files stand for them, and are not checked against
    # theirs
    launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        launchers.pop(path.name, None)


class ComposingLauncher(HydraLauncher):
    """Base of kdlab's launchers: composes the jobs of a sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def composed(self, overrides: Sequence[str]) -> dict:
        """A job's config as plain containers. Raises InputError where it cannot be composed."""
        with composing_within_hydra(), explaining(overrides):
            return plain(self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides)))

    def all_composed(self, job_overrides: Sequence[Sequence[str]], warm: bool = False) -> list[dict]:
        """The configs of all jobs, each composed once.

        Args:
            warm: let the warm parent begin its imports beside this, if something is to be trained.

        Raises:
            InputError: some jobs cannot be composed.
        """
        configs: list[dict] = []
        failed: list[tuple[Sequence[str], InputError]] = []
        with sharing_teachers():
            for overrides in job_overrides:
                try:
                    configs.append(self.composed(overrides))
                except InputError as error:
                    failed.append((overrides, error))
                if warm and len(configs) == 1 and not failed and not _is_known(configs[0]):
                    processes.warm()
        if failed:
            problems = list(dict.fromkeys(problem for _, error in failed for problem in error.problems))
            raise InputError(*problems, advice=how_to_split(job_overrides, [overrides for overrides, _ in failed]))
        return configs


class Launcher(ComposingLauncher):
    """Runs a sweep's jobs in warm processes: see :class:`kdlab.sweep.scheduler.Scheduler`.

    Args: as ``conf/hydra/launcher/kdlab.yaml`` explains them.
    """

    def __init__(
        self,
        workers: int | None = None,
        devices: Sequence[int] | None = None,
        jobs_per_device: int = 1,
        retry: int = 0,
        fail_fast: bool = False,
    ):
        for name, value, least in (
            ("workers", workers, 1),
            ("jobs_per_device", jobs_per_device, 1),
            ("retry", retry, 0),
        ):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise InputError(f"hydra.launcher.{name} must be a whole number of at least {least}, got {value!r}")
        if devices is not None and (
            isinstance(devices, str)
            or not all(isinstance(device, int) and not isinstance(device, bool) and device >= 0 for device in devices)
        ):
            raise InputError(
                f"hydra.launcher.devices must be a list of the numbers of GPUs, for example [0,1], got {devices!r}"
            )
        if not isinstance(fail_fast, bool):
            raise InputError(f"hydra.launcher.fail_fast must be true or false, got {fail_fast!r}")
        self.workers, self.jobs_per_device, self.retry, self.fail_fast = workers, jobs_per_device, retry, fail_fast
        self.devices = None if devices is None else [int(device) for device in devices]
        self.outcomes: list[Outcome] = []
        self._said: set[str] = set()  # a search plans each of its trials

    def planned(self, job_overrides: Sequence[Sequence[str]]) -> Plan:
        """The plan of a sweep: all its jobs composed (each once) and checked.

        Raises:
            InputError: some jobs cannot be composed or have problems; nothing was begun.
        """
        return plan(job_overrides, self.all_composed(job_overrides, warm=True), said=self._said)

    def run(
        self, source: Source, gpus: int, metric: str = "test/accuracy", progress: str = "auto", table: bool = True
    ) -> None:
        """Run what a source gives, show how it goes, and end with the table; what came of it is in ``outcomes``, also
        after an interrupt."""
        devices = list(range(gpus)) if self.devices is None else self.devices
        slots = Slots(workers=self.workers, devices=devices, jobs_per_device=self.jobs_per_device)
        view = View(source.total, metric, progress)
        scheduler = Scheduler(source, slots, view, self.retry, self.fail_fast)
        try:
            with view:
                scheduler.run()
        finally:
            self.outcomes = scheduler.outcomes
            if table:
                view.table(self.outcomes)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        planned = self.planned(job_overrides)
        self.run(Grid(planned.jobs), planned.gpus, progress=planned.jobs[0].config["progress"])
        by_job = {outcome.job: outcome for outcome in self.outcomes}
        return [_returned(job, by_job[job]) for job in planned.jobs]


def _returned(job: Job, outcome: Outcome) -> JobReturn:
    """An outcome as Hydra's sweepers want it."""
    result = JobReturn(
        overrides=job.overrides, status=JobStatus.COMPLETED if outcome.status in DONE else JobStatus.FAILED
    )
    result.return_value = str(outcome.path) if outcome.status in DONE else RunFailed(outcome.message or outcome.status)
    return result


class GridSweeper(HydraSweeper):
    """Every combination of the values after the overrides' keys, in Hydra's grammar, with any launcher.

    Hydra's own sweeper composes every job a second time to see whether it can be, and raises the first failure in place
    of the rest.
    """

    def __init__(self, params: dict | None = None):
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """
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
            for empty in (folder, folder.parent):  # where a launcher has made it and written nothing
                with contextlib.suppress(OSError):
                    empty.rmdir()
        finish(self.launcher, returns)

    def _launched(self, jobs: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        """What a launcher returns of the jobs. Another's than kdlab's may not be able to work here (no Slurm, say), and
        raise anything."""
        try:
            return self.launcher.launch(jobs, initial_job_idx=0)
        except KdlabError:
            raise
        except BrokenExecutor as error:  # joblib's pool: one process that is killed ends them all
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
    """Say what failed, and end accordingly.

    Raises:
        InputError: what failed was bad input throughout, and nothing else was begun.
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
    else:  # a launcher of Hydra's or somebody else's: what it returns is all that is known
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
            f"{number} of the {len(returns)} jobs failed; the same command tries them again, and leaves alone what is "
            "finished (without fresh=true, which begins all of them anew)"
        )
        raise InputError(text) if refused else RunFailed(text)


def _is_known(config: dict) -> bool:
    return not config.get("fresh") and known.finished(config) is not None


def how_to_split(jobs: Sequence[Sequence[str]], failed: Sequence[Sequence[str]]) -> str:
    """The answer to a sweep over choices together with a parameter that only some of them have: the commands to write
    instead.

    >>> jobs = [["loss=[ce,kd]", "loss.kd.weight=0.5", "seed=1"], ["loss=[ce]", "loss.kd.weight=0.5", "seed=1"]]
    >>> print(how_to_split(jobs, jobs[1:]))
    loss.kd.weight is a parameter that only some of the choices of loss have. Give each its own sweep:
      kdlab train -m 'loss=[ce,kd]' loss.kd.weight=0.5 seed=1
      kdlab train -m 'loss=[ce]' seed=1
    """
    values: dict[str, dict[str, None]] = {}  # key -> its values in the sweep, in their order
    for job in jobs:
        for text in job:
            key, _, value = text.partition("=")
            values.setdefault(key, {})[value] = None
    for group in [key for key in values if "." not in key and len(values[key]) > 1]:
        lacking = {value for job in failed for text in job for key, _, value in [text.partition("=")] if key == group}
        having = [value for value in values[group] if value not in lacking]
        stray = [key for key in values if key.startswith(f"{group}.")]
        if lacking and having and stray:

            def command(choices: Sequence[str], keys: Sequence[str], group: str = group) -> str:
                parts = [f"{key}={','.join(choices if key == group else values[key])}" for key in keys]
                return f"  kdlab train -m {shlex.join(parts)}"

            return "\n".join(
                [
                    (
                        f"{', '.join(stray)} is a parameter that only some of the choices of {group} have. Give each "
                        "its own sweep:"
                    ),
                    command(having, list(values)),
                    command(sorted(lacking), [key for key in values if key not in stray]),
                ]
            )
    return ""
