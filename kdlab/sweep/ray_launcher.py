"""``hydra/launcher=ray``: each job of a sweep in a process of Ray's, on this machine or on a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from kdlab.runs.record import command_line

from .elsewhere import ElsewhereLauncher, End, Work, package
from .job import FAILED


class RayLauncher(ElsewhereLauncher):
    """Args: as ``conf/hydra/launcher/ray.yaml`` explains them."""

    def __init__(self, ray: Mapping | None = None):
        options: Any = OmegaConf.to_container(ray, resolve=True) if OmegaConf.is_config(ray) else dict(ray or {})
        self.init, self.remote = dict(options.get("init") or {}), dict(options.get("remote") or {})

    def outcomes(self, configs: Sequence[dict], labels: Sequence[str]) -> Iterator[tuple[int, End]]:
        """Send each config as a task of Ray and yield its number and its end. Tasks that are left when it is closed are
        cancelled."""
        ray = package("ray", "ray")
        if not ray.is_initialized():
            ray.init(**self._arguments())
        job = Work(command_line())
        waiting = {}
        for number, config in enumerate(configs):
            # one process per run, so that no run is affected by another's leftovers
            task = ray.remote(**{"num_cpus": config["threads"], "max_calls": 1, "max_retries": 0, **self.remote})(_call)
            waiting[task.options(name=labels[number]).remote(job, config)] = number
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
                for reference in ready:
                    number = waiting.pop(reference)
                    try:
                        end = tuple(ray.get(reference))
                    except Exception as error:  # its process or machine is gone; the other jobs are not affected
                        end = FAILED, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
                    yield number, end
        finally:
            for reference in waiting:
                # raises KeyboardInterrupt in the task, so that the run is recorded as interrupted
                ray.cancel(reference, force=False)
            if waiting:
                print(f"stopping: {len(waiting)} jobs are cancelled", flush=True)
                ray.wait(list(waiting), num_returns=len(waiting), timeout=10)

    def _arguments(self) -> dict:
        """The arguments of ``ray.init``. Memory is not set: an existing cluster refuses a number."""
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        return {
            "log_to_driver": False,
            "logging_level": "error",
            "runtime_env": {"env_vars": {"PYTHONPATH": path}},
            **self.init,
        }


def _call(job: Work, config: dict) -> End:
    return job(config)
