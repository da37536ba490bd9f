"""View: the progress of a sweep. On a terminal it is a live display, elsewhere one line per job; at the end a table of
all jobs."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .job import FAILED, FOUND, INTERRUPTED, NOT_STARTED, PRUNED, REFUSED, TRAINED, Job, Outcome

COLOURS = {
    TRAINED: "green",
    FOUND: "cyan",
    PRUNED: "yellow",
    FAILED: "red",
    REFUSED: "red",
    INTERRUPTED: "yellow",
    NOT_STARTED: "dim",
}
RECENT = 8  # ended jobs that stay in the live display


class View:
    """Shows the events that the scheduler reports.

    Args:
        total: the number of jobs, without the runs that only they need (teachers).
        metric: the metric of a run that is shown; None: the headline of its task.
        progress: as in the config: ``auto`` (live on a terminal), ``bar`` (live), ``lines``, ``none`` (only the table).
    """

    def __init__(self, total: int, metric: str | None, progress: str = "auto", console: Console | None = None):
        self.console = console or output_console()
        self.total, self.metric = total, metric
        self.live_wanted = progress == "bar" or (progress == "auto" and self.console.is_terminal)
        self.silent = progress == "none"
        self.counts: Counter[str] = Counter()
        self._running: dict[Job, tuple[int, int, dict, str]] = {}
        self._recent: deque[Text] = deque(maxlen=RECENT)
        self._told: set[str] = set()
        self._began, self._spent, self._trained = time.monotonic(), 0.0, 0
        self._live: Live | None = None

    def __enter__(self) -> View:
        if self.live_wanted:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _metric(self, job: Job) -> str:
        return self.metric or job.headline

    # -- events --------------------------------------------------------------------------------------------------------

    def started(self, job: Job) -> None:
        """A job begins."""
        self._running[job] = (0, 0, {}, "epoch")
        if job.number is None:
            self._print(f"{job.name}: training it, once for all jobs that share it")

    def row(self, job: Job, finished: int, whole: int, row: dict, unit: str = "epoch") -> None:
        """A job has finished a row of its curve.

        Args:
            finished: number of finished epochs, or optimiser steps.
            whole: number of them in all.
            row: of metrics.csv.
            unit: ``epoch`` or ``step``.
        """
        self._running[job] = (finished, whole, row, unit)

    def told(self, line: str) -> None:
        """A job has printed a line about its teacher. Jobs that share a teacher print the same line: it is shown
        once."""
        if line not in self._told:
            self._told.add(line)
            self._print(line)

    def postponed(self, job: Job) -> None:
        """A job waits: another process trains its run, or it was begun with others and is now trained alone."""
        self._running.pop(job, None)

    def retried(self, job: Job, message: str) -> None:
        """A job failed and will be tried again."""
        self._running.pop(job, None)
        self._print(f"failed, and tried again: {job.name}: {first_line(message)}")

    def ended(self, outcome: Outcome) -> None:
        """A job has ended: count it, and print its line or add it to the live display."""
        job = outcome.job
        self._running.pop(job, None)
        if job.number is not None:
            self.counts[outcome.status] += 1
        if outcome.seconds is not None and outcome.status == TRAINED and job.number is not None:
            self._spent, self._trained = self._spent + outcome.seconds, self._trained + 1
        line = Text.assemble(
            f"[{sum(self.counts.values())}/{self.total}] " if job.number is not None else "",
            (outcome.status, COLOURS[outcome.status]),
            f" {job.name}",
            _number(f"  {_plain(self._metric(job))} ", outcome.metrics.get(self._metric(job))),
            "" if outcome.seconds is None else f"  {outcome.seconds:.1f} s",
            _remark(outcome),
        )
        if outcome.status == FOUND and self._live is None:
            return  # runs that were finished before are only in the table at the end
        self._recent.append(line)
        if self._live is None:
            self._print(line)

    def stopping(self, workers: int) -> None:
        """The sweep stops while ``workers`` jobs are running."""
        self._print(f"stopping: {workers} running jobs save their finished epochs")

    def tick(self) -> None:
        """Redraw the live display, if there is one."""
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)

    def _print(self, line: str | Text) -> None:
        if not self.silent:
            self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    # -- the live display ----------------------------------------------------------------------------------------------

    def left(self) -> float | None:
        """Estimated seconds until all jobs are done; None before the first has ended."""
        if not self._trained:
            return None
        remaining = self.total - sum(self.counts.values())
        at_work = sum(job.number is not None for job in self._running)
        rounds = remaining / max(at_work, 1)
        return rounds * self._spent / self._trained

    def summary(self) -> str:
        """How many jobs are done, running and failed, and about how much time is left."""
        done = self.counts[TRAINED] + self.counts[FOUND] + self.counts[PRUNED]
        failed = self.counts[FAILED] + self.counts[REFUSED]
        parts = [f"{done} of {self.total} done", f"{len(self._running)} running"]
        if failed:
            parts.append(f"{failed} failed")
        left = self.left()
        if left is not None and done + failed < self.total:
            parts.append(f"about {_duration(left)} left")
        return ", ".join(parts)

    def _picture(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for job, (finished, whole, row, unit) in self._running.items():
            shown = ("train/loss", f"val/{_plain(self._metric(job)).removesuffix('_best')}")
            values = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if name in shown)
            progress = f"{unit} {finished}/{whole}" if whole else "beginning"
            table.add_row(
                Text(job.name, overflow="ellipsis", no_wrap=True),
                ProgressBar(total=max(whole, 1), completed=finished, width=20),
                progress,
                values,
            )
        elapsed = _duration(time.monotonic() - self._began)
        bar = ProgressBar(total=max(self.total, 1), completed=sum(self.counts.values()), width=40)
        return Group(*self._recent, table, bar, Text(f"{self.summary()}, {elapsed} so far"))

    # -- the table -----------------------------------------------------------------------------------------------------

    def table(self, outcomes: list[Outcome], note: str = "") -> None:
        """Print all jobs with their results, in the order of the sweep; runs that they need (teachers) come first. If
        they are of several tasks, each number has the name of its metric. ``note`` is a line below."""
        metrics = dict.fromkeys(self._metric(outcome.job) for outcome in outcomes)
        several = len(metrics) > 1
        table = Table(box=None, pad_edge=False)
        for name, justify in (
            ("", "right"),
            ("job", "left"),
            ("status", "left"),
            ("test" if several else next(iter(metrics), self.metric or "test"), "right"),
            ("seconds", "right"),
            ("run", "left"),
        ):
            table.add_column(name, justify=cast(Any, justify), overflow="fold")
        shown: dict[object, Outcome] = {}
        for outcome in outcomes:  # a teacher may occur for several students
            shown.setdefault(outcome.job.place if outcome.job.number is None else outcome.job, outcome)
        for outcome in sorted(
            shown.values(), key=lambda outcome: (outcome.job.number is not None, outcome.job.number or 0)
        ):
            job = outcome.job
            place = str(outcome.path) if outcome.path else ""
            if outcome.message and outcome.status not in (TRAINED, FOUND):
                place = first_line(outcome.message)
            elif outcome.message:
                place += f" ({outcome.message})"
            table.add_row(
                "" if job.number is None else str(job.number),
                Text(job.name),
                Text(outcome.status, style=COLOURS[outcome.status]),
                _number(f"{_plain(self._metric(job))} " if several else "", outcome.metrics.get(self._metric(job))),
                "" if outcome.seconds is None else f"{outcome.seconds:.1f}",
                Text(place),
            )
        self.console.print(table)
        if note:
            self.console.print(note, soft_wrap=True, highlight=False, markup=False)


def output_console() -> Console:
    """A console for standard output; without a terminal it is wide, so that nothing is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=220)


def first_line(message: str) -> str:
    """A message in one line; of a traceback, its last line."""
    lines = [line.strip() for line in message.strip().splitlines()] or [""]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0] if len(lines) == 1 else " ".join(lines)


def _remark(outcome: Outcome) -> str:
    if outcome.status in (TRAINED, FOUND):
        return ""
    return f"  {first_line(outcome.message)}" if outcome.message else ""


def _plain(metric: str) -> str:
    """A metric's name without its split."""
    return metric.partition("/")[2]


def _number(before: str, value: float | None) -> str:
    return "" if value is None else f"{before}{value:.4f}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
