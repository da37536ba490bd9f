"""The README's generated parts: the text between a pair of markers."""

from __future__ import annotations

import re
from pathlib import Path

from kdlab.errors import InputError

README = Path("README.md")


#: the generated parts other than tables: claims, regression checks, the comparison with a rerun
EXPECTED, LEVELS, RERUN = "expected", "levels", "rerun"


def table_part(name: str) -> str:
    """The part of a README that shows a table."""
    return f"table: {name}"


def markers(part: str) -> tuple[str, str]:
    """The markers around a generated part.

    >>> markers(table_part("temperature")), markers(EXPECTED)
    (('<!-- table: temperature -->', '<!-- end of table -->'), ('<!-- expected -->', '<!-- end of expected -->'))
    """
    return f"<!-- {part} -->", f"<!-- end of {part.partition(':')[0]} -->"


def tables_named(text: str) -> list[str]:
    """The tables that a README has markers for."""
    return re.findall(r"^<!-- table: (.+?) -->\s*$", text, re.MULTILINE)


def content(text: str, part: str, path: Path = README) -> str | None:
    """The text between the markers, without empty lines around it; None where the markers are missing.

    Raises:
        InputError: a marker occurs several times, or without its end.
    """
    place = _place(text, part, path)
    return None if place is None else text[place[0] : place[1]].strip("\n")


def replaced(text: str, part: str, new: str, path: Path = README) -> str:
    """The text with new content between the markers. Missing markers are added at the end.

    >>> replaced("a\\n<!-- expected -->\\nold\\n<!-- end of expected -->\\nb\\n", EXPECTED, "new")
    'a\\n<!-- expected -->\\nnew\\n<!-- end of expected -->\\nb\\n'
    """
    place = _place(text, part, path)
    begin, end = markers(part)
    if place is None:
        return f"{text.rstrip()}\n\n{begin}\n{new}\n{end}\n".lstrip("\n")
    return f"{text[: place[0]]}\n{new}\n{text[place[1] :]}"


def _place(text: str, part: str, path: Path) -> tuple[int, int] | None:
    begin, end = markers(part)
    if text.count(begin) > 1:
        raise InputError(f"{path} has {begin} {text.count(begin)} times")
    start = text.find(begin)
    if start < 0:
        return None
    start += len(begin)
    stop, following = text.find(end, start), text.find("<!-- table:", start)
    if stop < 0 or 0 <= following < stop:
        raise InputError(f"{path} has {begin} without {end} after it")
    return start, stop
