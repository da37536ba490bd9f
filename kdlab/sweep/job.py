"""Job: one run of a sweep. Outcome: what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kdlab.runs.run import Run, RunStore

# what can come of a job; those in DONE need nothing more
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
    """What a job takes of the machine: ``threads`` in each of ``world`` processes, on GPUs or not."""

    threads: int = 1
    world: int = 1
    gpu: bool = False


@dataclass(eq=False)
class Job:
    """One run to be had.

    Args:
        label: what tells it from the other jobs of the sweep, for people.
        overrides: what was asked for.
        config: the composed config, checked.
        digest: the hash of its run.
        need: what it takes of the machine.
        earlier: the jobs that come before it: they train its teachers, or what its student begins with.
        number: its place in the sweep, from 1; None for one that only others need.
        key: :func:`kdlab.runs.known.key_of` its config, taken before the hash was.
        role: what it is to those that need it (``teacher``, ``initial``).
        attempts: how often it was tried.
        died: how the process died that checked it; such a job is not begun.
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

    @property
    def run(self) -> Run:
        """The run that the job trains; it may not exist yet."""
        return RunStore(self.config["paths"]["runs"]).run(self.config, self.digest)

    @property
    def place(self) -> tuple[str, str, str]:
        """What makes two jobs the same run: where it is kept, and its hash."""
        return self.config["paths"]["runs"], self.config["name"], self.digest

    @property
    def name(self) -> str:
        """The name for people: the label, after the role where only other jobs need it."""
        return self.label if self.number is not None else f"{self.role} {self.label}"


@dataclass
class Outcome:
    """What came of a job.

    Args:
        status: one of the words above.
        path: the run's directory, where there is one.
        message: why it did not end well; where it was found, a remark on that.
        seconds: of this attempt.
        metrics: the run's final numbers.
    """

    job: Job
    status: str
    path: Path | None = None
    message: str = ""
    seconds: float | None = None
    metrics: dict = field(default_factory=dict)
