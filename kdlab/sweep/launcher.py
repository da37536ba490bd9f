"""kdlab's own launcher: ``hydra/launcher=kdlab``, the default."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus

from kdlab.errors import InputError, RunFailed

from .composing import ComposingLauncher, without_idle_teachers
from .job import DONE, Job, Outcome
from .plan import Plan, labels_of, plan
from .scheduler import Grid, Scheduler, Source
from .sharing import saved
from .slots import Slots
from .stacking import saved_by_stacks, stack_jobs
from .view import View


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
        stack: bool = False,
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
        for name, flag in (("fail_fast", fail_fast), ("stack", stack)):
            if not isinstance(flag, bool):
                raise InputError(f"hydra.launcher.{name} must be true or false, got {flag!r}")
        self.stack = stack
        self.workers, self.jobs_per_device, self.retry, self.fail_fast = workers, jobs_per_device, retry, fail_fast
        self.devices = None if devices is None else [int(device) for device in devices]
        self.outcomes: list[Outcome] = []
        self._printed: set[str] = set()  # a search makes a plan for each trial

    def planned(
        self, job_overrides: Sequence[Sequence[str]], labels: Sequence[str] | None = None, more: bool = False
    ) -> Plan:
        """The plan of a sweep: all its jobs composed (each once) and checked.

        Args:
            labels: the names of the jobs for people; default: their overrides that are not common to all.
            more: further jobs like these will come.

        Raises:
            InputError: some jobs cannot be composed or have problems; nothing was begun.
        """
        return plan(job_overrides, self.all_composed(job_overrides, warm=True), labels, self._printed, more)

    def run(
        self, source: Source, gpus: int, metric: str | None = None, progress: str = "auto", table: bool = True
    ) -> None:
        """Run the jobs of a source, show the progress, and print the table at the end. The results are in ``outcomes``,
        also after an interrupt.

        Args:
            metric: the one that is shown of a run; None: the headline of its task.
        """
        slots = self._slots(gpus)
        view = View(source.total, metric, progress)
        scheduler = Scheduler(source, slots, view, self.retry, self.fail_fast)
        try:
            with view:
                scheduler.run()
        finally:
            self.outcomes = scheduler.outcomes
            if table:
                notes = (saved(self.outcomes), saved_by_stacks(self.outcomes))
                view.table(self.outcomes, "\n".join(filter(None, notes)))

    def _slots(self, gpus: int) -> Slots:
        devices = list(range(gpus)) if self.devices is None else self.devices
        return Slots(workers=self.workers, devices=devices, jobs_per_device=self.jobs_per_device)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Plan and run the jobs of a grid, and return the result of each.

        Raises:
            InputError: some jobs cannot be composed or have problems; nothing was begun.
        """
        planned = self.planned(without_idle_teachers(job_overrides), labels_of(job_overrides))
        if self.stack:
            for line in stack_jobs(planned.jobs, self._slots(planned.gpus).at_once):
                print(line)
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
