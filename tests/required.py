"""Tests of optional packages must not be skipped where those packages are meant to be installed: in .ci/run.

``KDLAB_REQUIRE=vision,optuna`` names extras of pyproject.toml. A test that is skipped because a module cannot be
imported then fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest


def missing(extras: Iterable[str]) -> list[str]:
    """What is wrong with the extras: unknown ones, and packages of theirs that are not installed, a line each."""
    import tomllib

    known = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    lines = []
    for extra in extras:
        if extra not in known:
            lines.append(f"KDLAB_REQUIRE: pyproject.toml has no extra '{extra}' (it has {', '.join(known)})")
            continue
        for requirement in known[extra]:
            name = requirement.partition(">")[0].partition("=")[0].partition("[")[0].strip()
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                lines.append(f"KDLAB_REQUIRE: the extra '{extra}' needs {name}, which is not installed")
    return lines


class Required:
    """The pytest plugin: a skip for want of a module is a failure."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        return self._failed(item.nodeid, (yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        return self._failed(collector.nodeid, (yield))

    @staticmethod
    def _failed(name: str, report):
        reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        if "could not import" in reason:
            report.outcome, report.longrepr = "failed", f"{name}: {reason}; KDLAB_REQUIRE forbids to skip it"
        return report
