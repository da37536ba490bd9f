"""Scheduler: runs the jobs of a sweep in warm processes, several at a time, and continues after failures."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, cast

from kdlab.errors import KdlabError
from kdlab.launch import processes
from kdlab.launch.ranks import start_ranks
from kdlab.runs import known
from kdlab.runs.files import write_text
from kdlab.runs.record import now, other_commit
from kdlab.runs.run import FAILED as RUN_FAILED
from kdlab.runs.run import RUNNING

from .job import DONE, FAILED, FOUND, INTERRUPTED, NOT_STARTED, REFUSED, TRAINED, Job, Outcome
from .slots import Grant, Slots
from .stacked_worker import work_stacked
from .view import View
from .worker import BUSY, work

PAUSE = 1.0  # seconds until a run that another process trains is checked again


class Source(Protocol):
    """Where jobs come from: a list (:class:`Grid`), or a search that creates them one after the other."""

    #: whether a job asks after every epoch if it should continue
    asks: bool
    #: whether jobs may be taken before they can begin; false for a search, which learns from jobs that end in the
    #: meantime
    eager: bool
    #: how many jobs there will be
    total: int

    def next(self) -> Job | None:
        """The next job; None while there is none."""

    @property
    def exhausted(self) -> bool:
        """Whether there will be no further jobs."""

    def should_continue(self, job: Job, finished: int, row: dict) -> bool:
        """Whether a job should continue after ``finished`` epochs, or optimiser steps."""

    def ended(self, outcome: Outcome) -> None:
        """Receives the result of a job."""


class Grid:
    """A fixed list of jobs."""

    asks = False
    eager = True

    def __init__(self, jobs: Iterable[Job]):
        self._jobs = deque(jobs)
        self.total = len(self._jobs)

    def next(self) -> Job | None:
        """The next job of the list; None where all were given."""
        return self._jobs.popleft() if self._jobs else None

    @property
    def exhausted(self) -> bool:
        """Whether all jobs were given."""
        return not self._jobs

    def should_continue(self, job: Job, finished: int, row: dict) -> bool:
        """Always true: a grid stops no job."""
        return True

    def ended(self, outcome: Outcome) -> None:
        """Does nothing: a grid does not depend on outcomes."""


@dataclass(eq=False)
class _Worker:
    """A job that is being worked on, or several that are trained together."""

    jobs: list[Job]
    process: BaseProcess
    line: Connection
    grant: Grant
    output: Path
    began: float = field(default_factory=time.monotonic)
    ends: dict[Job, tuple[str, str]] = field(default_factory=dict)
    apart: str = ""  # why the jobs without an end must be trained one by one

    def received(self, message: tuple) -> tuple[Job, str, list]:
        """A message: whose it is, its kind, and its content."""
        if message[0] == "of":
            return self.jobs[message[1]], message[2], list(message[3:])
        return self.jobs[0], message[0], list(message[1:])


class Scheduler:
    """Runs the jobs of a source until it is exhausted.

    Runs that a job needs (such as its teachers) are trained before it, once for all jobs that share them. Two jobs with
    the same run are trained once. Finished runs are found. A run that another process trains is checked again later.

    Args:
        source: the jobs.
        slots: the machine.
        view: is notified of all events.
        retry: how often a job that failed while training is tried again.
        fail_fast: end everything at the first job that fails.
    """

    def __init__(self, source: Source, slots: Slots, view: View, retry: int = 0, fail_fast: bool = False):
        self.source, self.slots, self.view, self.retry, self.fail_fast = source, slots, view, retry, fail_fast
        self.outcomes: list[Outcome] = []
        self._waiting: deque[Job] = deque()  # seen, but not begun
        self._workers: list[_Worker] = []
        self._settled: dict[tuple, Outcome] = {}  # by the place of the run
        self._again: dict[Job, float] = {}  # trained by another process: not to be started before this time
        self._looked_for: set[Job] = set()  # jobs that were checked for a finished run
        self._begun_with_others: set[Job] = set()  # jobs that another job's stack has taken along
        self._folder: Path | None = None

    def run(self) -> list[Outcome]:
        """Run all jobs; returns their outcomes, including those of teachers, in the order in which they ended.

        Raises:
            KeyboardInterrupt: the user stopped the sweep, or their own code raised it. Every running job has saved its
                finished epochs.
        """
        with tempfile.TemporaryDirectory(prefix="kdlab-sweep-") as folder:
            self._folder = Path(folder)
            try:
                while self._fill() or self._workers:
                    self._listen()
                    if self.fail_fast and any(outcome.status in (FAILED, REFUSED) for outcome in self.outcomes):
                        self._stop()
                        break
            except BaseException:  # after any exception, no one reads the messages of the running jobs
                self._stop()
                raise
            finally:
                self._leave()
        return self.outcomes

    # -- starting jobs -------------------------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Begin all jobs that can begin now. Returns whether jobs are left that are not settled."""
        started = True
        while started:
            started = False
            for job in list(self._waiting):
                if self._begun_or_settled(job):
                    self._waiting.remove(job)
                    started = True
            if (self.source.eager or not self._waiting) and not self.source.exhausted:
                new = self.source.next()
                if new is not None:
                    self._waiting.append(new)
                    started = True
        return bool(self._waiting) or not self.source.exhausted

    def _begun_or_settled(self, job: Job) -> bool:
        """Begin a job, or settle it without training. Returns False while it has to wait."""
        if job in self._begun_with_others:
            return True
        if job.died:
            self._settle(Outcome(job, FAILED, None, job.died))
            return True
        if self._at_work(job):
            return False  # another job trains the same run: this job will have the same outcome
        if job.place in self._settled and job.attempts == 0:
            first = self._settled[job.place]
            status = FOUND if first.status == TRAINED else first.status
            self._settle(
                Outcome(
                    job, status, first.path, first.message or f"the same run as {first.job.name}", None, first.metrics
                )
            )
            return True
        if job not in self._looked_for:
            self._looked_for.add(job)
            run = job.run
            if run.finished and not job.config["fresh"]:
                known.note(job.config, job.digest, job.key)
                self._settle(Outcome(job, FOUND, run.path, other_commit(run.read()), None, run.metrics))
                return True
        if self._again.get(job, 0) > time.monotonic():
            return False
        for earlier in job.earlier:
            outcome = self._settled.get(earlier.place)
            if outcome is None:
                if not self._at_work(earlier) and all(one.place != earlier.place for one in self._waiting):
                    self._waiting.appendleft(earlier)
                return False
            if outcome.status not in DONE:
                self._settle(
                    Outcome(job, outcome.status, None, f"its {outcome.job.name} came to nothing: {outcome.message}")
                )
                return True
        grant = self.slots.take(job.need)
        if grant is None:
            return False
        others = self._others_of(job)
        if others:
            self._begin_stack([job, *others], grant)
        else:
            self._begin(job, grant)
        return True

    def _at_work(self, job: Job) -> bool:
        return any(one.place == job.place for worker in self._workers for one in worker.jobs)

    def _others_of(self, job: Job) -> list[Job]:
        """The jobs of its stack that can begin with it."""
        found: list[Job] = []
        for one in job.stack if job.attempts == 0 else []:
            if (
                one is job
                or one in self._begun_with_others
                or one.attempts
                or not one.stack  # it was taken apart
                or one.place in self._settled
                or self._at_work(one)
                or any(one.place == other.place for other in (job, *found))
                or (one.run.finished and not one.config["fresh"])
            ):
                continue
            found.append(one)
        return found

    def _begin_stack(self, jobs: list[Job], grant: Grant) -> None:
        for job in jobs:
            job.attempts += 1
        self._begun_with_others |= set(jobs[1:])
        line, far_end = processes.context().Pipe()
        output = cast(Path, self._folder) / f"{jobs[0].digest}-stack.txt"
        process = processes.start(
            work_stacked,
            [job.config for job in jobs],
            [job.digest for job in jobs],
            str(output),
            far_end,
            name=jobs[0].name,
            variables=grant.environment,
        )
        far_end.close()
        self._workers.append(_Worker(jobs, process, line, grant, output))
        for job in jobs:
            self.view.started(job)

    def _begin(self, job: Job, grant: Grant) -> None:
        job.attempts += 1
        line, far_end = processes.context().Pipe()
        ranks = start_ranks(job.need.world, grant.environment) if job.need.world > 1 else []
        output = cast(Path, self._folder) / f"{job.digest}-{job.attempts}.txt"
        wait_for_others = not self._workers and not self._may_begin_others(job)
        process = processes.start(
            work,
            job.config,
            job.digest,
            str(output),
            far_end,
            ranks,
            wait_for_others,
            self.source.asks and job.number is not None,
            name=job.name,
            variables=grant.environment,
        )
        for connection in (far_end, *ranks):  # the worker has its own copies, which close if it dies
            connection.close()
        self._workers.append(_Worker([job], process, line, grant, output))
        self.view.started(job)

    def _may_begin_others(self, job: Job) -> bool:
        return not self.source.exhausted or any(other is not job for other in self._waiting)

    # -- receiving messages --------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if not self._workers:
            time.sleep(0.25)
        ready = wait([worker.line for worker in self._workers], timeout=0.25) if self._workers else []
        for worker in [worker for worker in self._workers if worker.line in ready]:
            self._receive(worker)
        self.view.tick()

    def _receive(self, worker: _Worker) -> None:
        try:
            job, kind, content = worker.received(worker.line.recv())
        except (EOFError, OSError):
            self._collect(worker)
            return
        if kind == "row":
            finished, whole, row, unit = content
            self.view.row(job, finished, whole, row, unit)
            if self.source.asks and job.number is not None:
                _answer(worker, self.source.should_continue(job, finished, row))
        elif kind in ("teacher", "said"):
            self.view.told(*content)
        elif kind == "apart":
            (worker.apart,) = content
        else:
            worker.ends[job] = content[0], content[1]

    def _collect(self, worker: _Worker) -> None:
        """A worker's connection is closed: it has ended, or was killed."""
        worker.process.join(timeout=15)
        if worker.process.is_alive():
            processes.stop([worker.process])
        worker.line.close()
        self._workers.remove(worker)
        self.slots.give(worker.grant)
        left = [job for job in worker.jobs if job not in worker.ends]
        if len(worker.jobs) > 1 and left:
            # a killed stack: all together may need more memory than each alone, and one job may have killed the others
            reasons = [] if worker.apart else [self._killed(worker, job) for job in left]
            self._take_apart(left, worker.apart or f"{reasons[0]}; each goes on alone, from its last finished epoch")
        interrupted = False
        for job in worker.jobs:
            if job in worker.ends or len(worker.jobs) == 1:
                interrupted |= self._ended(worker, job)
        if interrupted:  # raised by the user's own code, with the same meaning as Ctrl-C
            raise KeyboardInterrupt

    def _take_apart(self, jobs: list[Job], why: str) -> None:
        """Jobs that were to be trained together are trained one by one."""
        which = f"1 job ({jobs[0].name})" if len(jobs) == 1 else f"{len(jobs)} jobs ({jobs[0].name}, …)"
        self.view.told(f"not stacked: {which}: {why}")
        for job in jobs:
            self._put_back(job)

    def _put_back(self, job: Job) -> None:
        """Let a job wait that was not trained to its end; it is then trained alone."""
        self.view.postponed(job)
        job.attempts, job.stack = job.attempts - 1, []
        self._begun_with_others.discard(job)
        self._waiting.append(job)

    def _ended(self, worker: _Worker, job: Job) -> bool:
        """A job has ended with its worker. Returns whether the user's own code raised KeyboardInterrupt."""
        status, message = worker.ends.get(job) or (
            FAILED,
            f"{self._killed(worker, job)}; finished epochs are kept, and the same command resumes there",
        )
        if status == BUSY:
            self._put_back(job)
            self._again[job] = time.monotonic() + PAUSE
            return False
        outcome = self._outcome(worker, job, status, message)
        if status == INTERRUPTED and message:
            self._settle(outcome)
            return True
        if status == FAILED and job.attempts <= self.retry:
            self.view.retried(job, message)
            job.stack = []
            self._begun_with_others.discard(job)
            self._waiting.append(job)
            return False
        self._settle(outcome)
        return False

    def _outcome(self, worker: _Worker, job: Job, status: str, message: str) -> Outcome:
        """The outcome of a job. Its worker's output is saved in its run, if that was begun. Of jobs that are trained
        together, each took its share of the time."""
        run = job.run
        begun = (run.path / "run.json").exists()
        if begun:
            _keep_output(worker.output, run.path)
        seconds = (time.monotonic() - worker.began) / len(worker.jobs)
        outcome = Outcome(job, status, run.path if begun else None, message, seconds)
        if status in DONE:
            try:
                outcome.metrics = run.metrics
            except KdlabError as error:  # it was damaged or removed in the meantime
                outcome.status, outcome.message = FAILED, str(error)
        return outcome

    def _killed(self, worker: _Worker, job: Job) -> str:
        """Why the worker of a job was killed. This is written into its run's record, since it could not do that
        itself."""
        reason = processes.cause_of_death(worker.process)
        run = job.run
        try:
            if run.status == RUNNING and not run.being_trained:
                run.update(status=RUN_FAILED, error=reason, ended=now())
                write_text(run.path / "error.txt", f"{reason}\n\n{_tail(worker.output)}")
        except (KdlabError, OSError) as error:
            reason = f"{reason}; its record could not be written ({error})"
        return reason

    def _settle(self, outcome: Outcome) -> None:
        self._settled.setdefault(outcome.job.place, outcome)
        self.outcomes.append(outcome)
        self.source.ended(outcome)
        self.view.ended(outcome)

    # -- stopping ------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """End the running jobs, which save their finished epochs. They are killed if they take too long, or after a
        second interrupt."""
        began = time.monotonic()
        interrupts: list[float] = []
        with processes.handling(lambda *_: interrupts.append(time.monotonic())):
            self.view.stopping(len(self._workers))
            for worker in self._workers:
                worker.process.terminate()
            # a terminal and a parent process may both send the same signal: that is not a second interrupt
            while (
                self._workers and time.monotonic() - began < 20 and not any(moment - began > 1 for moment in interrupts)
            ):
                for worker in list(self._workers):
                    self._receive_rest(worker)
            for worker in list(self._workers):
                worker.process.kill()
                self._ended_early(worker)

    def _receive_rest(self, worker: _Worker) -> None:
        while worker.line.poll(0.05):
            try:
                job, kind, content = worker.received(worker.line.recv())
            except (EOFError, OSError):
                self._ended_early(worker)
                return
            if kind == "row" and self.source.asks:
                _answer(worker, True)
            elif kind == "end":
                worker.ends[job] = content[0], content[1]

    def _ended_early(self, worker: _Worker) -> None:
        worker.process.join(timeout=15)
        worker.line.close()
        self._workers.remove(worker)
        for job in worker.jobs:
            end = worker.ends.get(job)
            status, message = end if end and end[0] != BUSY else (INTERRUPTED, "")
            self._settle(self._outcome(worker, job, status, message))

    def _leave(self) -> None:
        """Add outcomes for the jobs that were not begun, so that the table is complete."""
        waiting = [job for job in self._waiting if job not in self._begun_with_others]
        self.outcomes += [Outcome(job, NOT_STARTED) for job in waiting]
        while self.source.eager and (job := self.source.next()) is not None:
            if job not in self._begun_with_others:
                self.outcomes.append(Outcome(job, NOT_STARTED))


def _answer(worker: _Worker, should_continue: bool) -> None:
    """Send a worker whether to continue. If it was killed in the meantime, its connection is closed, which is handled
    later."""
    with contextlib.suppress(OSError):
        worker.line.send(should_continue)


def _keep_output(output: Path, folder: Path) -> None:
    """Save the output of a job in its run."""
    text = _tail(output)
    if text.strip():
        # such as a full disk, which the outcome reports
        with (
            contextlib.suppress(OSError),
            open(folder / "output.txt", "a", encoding="utf-8") as file,
        ):
            file.write(text)


def _tail(path: Path, most: int = 100_000) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(path.stat().st_size - most, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
