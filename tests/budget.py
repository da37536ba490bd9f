"""A limit on the time of a test run, shared by the folders of tests: what .ci/run gives the slow tests.

``KDLAB_TEST_MINUTES=40`` splits 40 minutes evenly over the folders of tests (``tests/runs``, …). What a folder leaves
goes to the folders after it; small folders come first, so large ones inherit. Within a folder the first test is chosen
by the commit, so that over several commits every test is reached. Tests that were not reached are listed at the end,
and the run fails where a folder was not reached at all.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

REASON = "out of time"


def rotation(commit: str, folder: str, number: int) -> int:
    """Which of a folder's tests is the first at a commit.

    >>> rotation("34bb334", "tests/runs", 5), rotation("34bb334", "tests/data", 5)
    (4, 2)
    """
    return int(hashlib.sha256(f"{commit} {folder}".encode()).hexdigest(), 16) % number


class Budget:
    """The pytest plugin. It is for one process: the order of tests is its own."""

    def __init__(self, minutes: float, commit: str, clock: Callable[[], float] = time.monotonic):
        self._seconds, self._commit, self._clock = 60 * minutes, commit, clock
        self._left: list[str] = []  # folders that are yet to begin, in order
        self._folder: str | None = None
        self._ends = self._folder_ends = 0.0
        self._reached: set[str] = set()
        self._not_reached: dict[str, list[str]] = defaultdict(list)

    @staticmethod
    def _folder_of(item) -> str:
        return str(Path(item.nodeid.partition("::")[0]).parent)

    @pytest.hookimpl(trylast=True)  # after -m and -k have left tests out: a folder without any has no share
    def pytest_collection_modifyitems(self, items: list) -> None:
        folders = defaultdict(list)
        for item in items:
            folders[self._folder_of(item)].append(item)
        ordered = sorted(folders, key=lambda folder: (len(folders[folder]), folder))
        items[:] = [item for folder in ordered for item in self._rotated(folder, folders[folder])]
        self._left, self._ends = ordered, self._clock() + self._seconds

    def _rotated(self, folder: str, items: list) -> list:
        first = rotation(self._commit, folder, len(items))
        return items[first:] + items[:first]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item) -> None:
        folder, now = self._folder_of(item), self._clock()
        if folder != self._folder:
            self._folder, self._folder_ends = folder, now + max(0.0, self._ends - now) / max(1, len(self._left))
            self._left = [name for name in self._left if name != folder]
        if now >= self._folder_ends:
            self._not_reached[folder].append(item.nodeid)
            pytest.skip(REASON)
        self._reached.add(folder)

    def unreached(self) -> list[str]:
        """Folders of which no test was run."""
        return [folder for folder in self._not_reached if folder not in self._reached]

    def pytest_sessionfinish(self, session, exitstatus) -> None:
        if self.unreached() and exitstatus == 0:
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter) -> None:
        number = sum(map(len, self._not_reached.values()))
        if number:
            terminalreporter.section(f"{number} tests were not run: {REASON}")
            for folder, names in self._not_reached.items():
                terminalreporter.write_line(
                    f"{folder}: {len(names)}"
                    + (" (NO test of this folder was run)" if folder in self.unreached() else "")
                )
                for name in names:
                    terminalreporter.write_line(f"    {name}")


def commit() -> str:
    """The commit of this checkout; empty where git cannot tell."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
