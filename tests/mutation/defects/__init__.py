"""The defects, a module for each package: what is put in, and which tests ought to notice it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module

PACKAGES = (
    "functional",
    "losses",
    "objective",
    "strategies",
    "data",
    "teachers",
    "runs",
    "sweep",
    "compare",
    "studies",
    "measure",
    "library",
    "clock",
    "direct_step",
    "cache",
    "stacked",
)


@dataclass(frozen=True)
class Defect:
    """One wrong piece of text in place of one right piece.

    Args:
        file: path in the repository.
        old: text that stands in that file exactly once. White space does not count, nor does a comma before a closing
            bracket, so that a formatter may break its lines.
        new: what a person might have written in error.
        tests: what pytest is given; empty: the nearest test files (``nearest.py``).
        slow: also run tests with the mark ``slow``.
        equivalent: why no test can notice it; empty: some test must.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    slow: bool = False
    equivalent: str = ""
    package: str = ""
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.package}/{self.number:02}"

    @property
    def place(self) -> re.Pattern[str]:
        """Finds the old text, whatever its layout."""
        characters = (re.escape(one) for one in "".join(self.old.split()))
        return re.compile(r"\s*".join(rf"(?:,\s*)?{one}" if one[-1] in ")]}" else one for one in characters))


def of_package(package: str) -> list[Defect]:
    """A package's defects: rows ``(file, old, new)``, and a dict of further fields where there are some."""
    found = []
    for number, (file, old, new, *more) in enumerate(import_module(f"{__name__}.{package}").DEFECTS, start=1):
        found.append(Defect(f"kdlab/{file}", old, new, package=package, number=number, **(more[0] if more else {})))
    return found


def every() -> list[Defect]:
    """All defects, package by package."""
    return [defect for package in PACKAGES for defect in of_package(package)]
