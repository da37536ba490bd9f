"""Composing the jobs of a sweep: the first step of all of kdlab's launchers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from kdlab.config.chains import place
from kdlab.config.compose import composing_within_hydra, explaining, plain, sharing_teachers
from kdlab.config.remembered import remember
from kdlab.errors import InputError
from kdlab.launch import processes
from kdlab.runs import known

BASELINE = "strategy=supervised"


class ComposingLauncher(HydraLauncher):
    """Base of kdlab's launchers: composes the jobs of a sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep Hydra's context and config, from which the jobs are composed."""
        self.hydra_context, self.config = hydra_context, config
        remember(hydra_context.config_loader)

    def composed(self, overrides: Sequence[str]) -> dict:
        """A job's config as plain containers. Raises InputError where it cannot be composed."""
        with composing_within_hydra(), explaining(overrides):
            return plain(self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides)))

    def all_composed(self, job_overrides: Sequence[Sequence[str]], warm: bool = False) -> list[dict]:
        """The configs of all jobs, each composed once.

        Args:
            warm: start the imports of the warm parent in parallel, if there is something to train.

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


def _is_known(config: dict) -> bool:
    return not config.get("fresh") and known.finished(config) is not None


def without_idle_teachers(jobs: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The jobs of a sweep over strategies, in which the baseline (``strategy=supervised``) has no overrides of the
    teacher: they are meant for the jobs with another strategy, and a line says so. Where all jobs are supervised they
    stay, and the check reports them.

    >>> typed = ["teacher=run", "teacher.run=runs/a"]
    >>> without_idle_teachers([["strategy=supervised", *typed], ["strategy=offline", *typed]])
    strategy=supervised learns without a teacher: teacher=run, teacher.run=runs/a count for the other jobs alone
    [['strategy=supervised'], ['strategy=offline', 'teacher=run', 'teacher.run=runs/a']]
    """
    baseline = [job for job in jobs if BASELINE in job]
    idle = {text: None for job in baseline for text in job if place(text).partition(".")[0] == "teacher"}
    idle.pop("teacher=none", None)  # as it has none
    if len(baseline) == len(jobs) or not idle:
        return list(jobs)
    count = "counts" if len(idle) == 1 else "count"
    print(f"{BASELINE} learns without a teacher: {', '.join(idle)} {count} for the other jobs alone")
    return [[text for text in job if text not in idle] if BASELINE in job else job for job in jobs]


def how_to_split(jobs: Sequence[Sequence[str]], failed: Sequence[Sequence[str]]) -> str:
    """The advice on a sweep over choices and a parameter that only some of them have: the commands to type instead.

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
