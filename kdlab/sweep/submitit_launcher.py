"""``hydra/launcher=submitit_slurm`` and ``submitit_local``: each job of a sweep in a job of Slurm's, or in a process on
this machine."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import OmegaConf

from kdlab.errors import InputError
from kdlab.runs.record import command_line

from .elsewhere import ElsewhereLauncher, End, Work, package
from .job import FAILED, INTERRUPTED

PAUSE = 1.0  # seconds between two checks of the jobs
GRACE = 10.0  # seconds that cancelled jobs have to save their finished epochs
ASK = 15.0  # seconds between two calls of squeue
# options that submitit has for every cluster; all others are Slurm's
COMMON = (
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "name",
    "stderr_to_stdout",
)


class SubmititWork(Work):
    """A run in a job of submitit's. The signal before a time limit or a preemption interrupts the run. Then the job is
    queued again, up to ``max_num_timeout`` times."""

    def __call__(self, config: dict) -> End:
        """Remember submitit's signal and its handler, then train the run."""
        import submitit

        self._signal = submitit.JobEnvironment()._usr_sig()
        self._requeue = signal.getsignal(self._signal)  # submitit's own
        return super().__call__(config)

    def interrupted(self, config: dict, number: int | None) -> End:
        """The end of an interrupted job. At submitit's signal the job is queued again, if it has attempts left."""
        import submitit

        status, message = super().interrupted(config, number)
        message = f"job {submitit.JobEnvironment().job_id} was {message}"
        if number == self._signal and callable(self._requeue):
            try:
                self._requeue(self._signal, None)  # ends this process if the job is queued again
            except submitit.core.utils.UncompletedJobError:
                message = (
                    f"{message}; it has reached its time limit (hydra.launcher.timeout_min; max_num_timeout=N "
                    "queues it again)"
                )
        return status, message

    def checkpoint(self, config: dict) -> Any:
        """The work of the job when it is queued again: the same, which resumes the run."""
        import submitit

        return submitit.helpers.DelayedSubmission(SubmititWork(self.command), config)


class SubmititLauncher(ElsewhereLauncher):
    """Args: as ``conf/hydra/launcher/submitit_slurm.yaml`` and ``submitit_local.yaml`` explain them."""

    cluster = ""

    def __init__(self, submitit_folder: str, max_num_timeout: int = 0, **options: Any):
        for key in ("nodes", "tasks_per_node"):
            if options.get(key, 1) != 1:
                raise InputError(
                    f"hydra.launcher.{key}={options[key]}: kdlab trains a run in one task on one machine, and starts "
                    "the processes of that machine itself; set their number with trainer.devices=N"
                )
        self.folder, self.max_num_timeout = str(submitit_folder), max_num_timeout
        self.options = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in options.items()
        }

    def outcomes(self, configs: Sequence[dict], labels: Sequence[str]) -> Iterator[tuple[int, End]]:
        """Submit one array of jobs and yield the number and the end of each. Jobs that are left when it is closed are
        cancelled."""
        submitit = package("submitit", f"submitit_{self.cluster}")
        limit = {f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        executor = submitit.AutoExecutor(cluster=self.cluster, folder=self.folder, **limit)
        executor.update_parameters(
            **{key if key in COMMON else f"{self.cluster}_{key}": value for key, value in self.options.items()}
        )
        handles = dict(enumerate(executor.map_array(SubmititWork(command_line()), configs)))
        print(
            f"submitted to {self.cluster}: {_several([handle.job_id for handle in handles.values()])}; their output: "
            f"{handles[0].paths.folder.parent}",
            flush=True,
        )
        try:
            while handles:
                for number, handle in list(handles.items()):
                    if self._done(handle):
                        del handles[number]
                        yield number, self._end(handle)
                time.sleep(PAUSE if handles else 0)
        finally:
            self._cancel(list(handles.values()))

    def _done(self, handle: Any) -> bool:
        return handle.done()

    def _end(self, handle: Any) -> End:
        if handle.paths.result_pickle.exists() or self._late(handle):
            outcome, value = handle._get_outcome_and_result()
            return value if outcome == "success" else (FAILED, value)
        state, output = str(handle.state), handle.paths.stderr
        if state.startswith("CANCELLED") or state in ("PENDING", "UNKNOWN") and not output.exists():
            return INTERRUPTED, f"job {handle.job_id} of {self.cluster} was cancelled"
        hint = (
            f"its output is in {output}"
            if output.exists()
            else f"it has written nothing to {output.parent}: do all machines see that folder? hydra.sweep.dir=… names "
            "another"
        )
        return FAILED, f"job {handle.job_id} of {self.cluster} has ended ({state}); {hint}"

    def _late(self, handle: Any) -> bool:
        """Whether the result appears within 5 seconds: a shared file system may show it late."""
        deadline = time.monotonic() + 5
        while not handle.paths.result_pickle.exists() and time.monotonic() < deadline:
            time.sleep(0.5)
        return handle.paths.result_pickle.exists()

    def _cancel(self, handles: Sequence) -> None:
        """Cancel jobs, and give the running ones time to save their finished epochs."""
        if not handles:
            return
        print(f"stopping: {len(handles)} jobs are cancelled", flush=True)
        for handle in handles:
            handle.cancel(check=False)
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and any(
            handle.paths.stdout.exists() and not self._done(handle) for handle in handles
        ):
            time.sleep(0.2)


class SlurmLauncher(SubmititLauncher):
    """Jobs of Slurm's."""

    cluster = "slurm"

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._asked: dict[str, float] = {}

    def _done(self, handle: Any) -> bool:
        """Whether sacct or squeue reports the end of a job. sacct reports nothing where Slurm has no accounting, or for
        an array job that was cancelled before it began. squeue lists a job until it has ended."""
        if handle.done():
            return True
        now = time.monotonic()
        if now - self._asked.setdefault(handle.job_id, now) < ASK:
            return False
        self._asked[handle.job_id] = now
        found = subprocess.run(["squeue", "--noheader", "--jobs", handle.job_id], capture_output=True, text=True)
        return not found.stdout.strip() and (found.returncode == 0 or "Invalid job id" in found.stderr)


class LocalLauncher(SubmititLauncher):
    """Processes on this machine."""

    cluster = "local"


def _several(ids: Sequence[str]) -> str:
    """
    >>> _several(["7_0", "7_1", "7_2"]), _several(["7"])
    ('3 jobs, 7_0 to 7_2', 'job 7')
    """
    return f"{len(ids)} jobs, {ids[0]} to {ids[-1]}" if len(ids) > 1 else f"job {ids[0]}"
