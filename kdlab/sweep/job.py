"""Job: one run of a sweep. Outcome: its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kdlab.runs.run import Run, RunStore
from kdlab.tasks.metric import report_of

# the outcomes of a job; a job with an outcome in DONE is complete
TRAINED, FOUND, FAILED, REFUSED, PRUNED, INTERRUPTED, NOT_STARTED = (
    "trained",
    "found",
    "failed",
    "refused",
    "pruned",
    "interrupted",
    "not started",
)
DONE = (TRAINED, FOUND, PRUNED)


@dataclass(frozen=True)
class Need:
    """The resources of a job: ``threads`` in each of ``world`` processes, on GPUs or not."""

    threads: int = 1
    world: int = 1
    gpu: bool = False


@dataclass(eq=False)
class Job:
    """One run of a sweep, or one that other jobs need.

    Args:
        label: what distinguishes it from the other jobs of the sweep, for people.
        overrides: those of the job.
        config: the composed config, checked.
        digest: the hash of its run.
        need: its resources.
        earlier: the jobs that must end first: they train its teachers, or its student's initial weights.
        number: its place in the sweep, from 1; None for one that only others need.
        key: :func:`kdlab.runs.known.key_of` its config, computed before the hash.
        role: its role for the jobs that need it (``teacher``, ``initial``).
        attempts: how often it was tried.
        died: how the process that checked it died. Such a job is not started.
        stack: the jobs that are trained together with it, itself included (:mod:`kdlab.sweep.stacking`); empty: none.
    """

    label: str
    overrides: list[str]
    config: dict
    digest: str
    need: Need = Need()
    earlier: list[Job] = field(default_factory=list)
    number: int | None = None
    key: str | None = None
    role: str = "teacher"
    attempts: int = 0
    died: str = ""
    stack: list[Job] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The run that the job trains; it may not exist yet."""
        return RunStore(self.config["paths"]["runs"]).run(self.config, self.digest)

    @property
    def place(self) -> tuple[str, str, str]:
        """Folder, name and hash of the run. Two jobs with equal values are the same run."""
        return self.config["paths"]["runs"], self.config["name"], self.digest

    @property
    def headline(self) -> str:
        """The metric on test that is shown of the run, with its split: the headline of its task."""
        return f"test/{report_of(self.config).headline.name}"

    @property
    def name(self) -> str:
        """The name for people: the label. If only other jobs need it, its role comes first."""
        return self.label if self.number is not None else f"{self.role} {self.label}"


@dataclass
class Outcome:
    """The result of a job.

    Args:
        status: one of the constants above.
        path: the run's directory, where there is one.
        message: why it did not succeed, or a remark on a run that was found.
        seconds: the duration of this attempt.
        metrics: the run's final numbers.
    """

    job: Job
    status: str
    path: Path | None = None
    message: str = ""
    seconds: float | None = None
    metrics: dict = field(default_factory=dict)
