"""The README's generated parts: what stands between a pair of markers."""

from __future__ import annotations

import re
from pathlib import Path

from kdlab.errors import InputError

README = Path("README.md")


def markers(table: str | None) -> tuple[str, str]:
    """What stands around a table; around the expectations where no table is named.

    >>> markers("temperature"), markers(None)
    (('<!-- table: temperature -->', '<!-- end of table -->'), ('<!-- expected -->', '<!-- end of expected -->'))
    """
    return ("<!-- expected -->", "<!-- end of expected -->") if table is None else (f"<!-- table: {table} -->", "<!-- end of table -->")


def tables_named(text: str) -> list[str]:
    """The tables that a README has markers for."""
    return re.findall(r"^<!-- table: (.+?) -->\s*$", text, re.MULTILINE)


def content(text: str, table: str | None, path: Path = README) -> str | None:
    """What stands between the markers, without the empty lines around it; None where the markers are missing.

    Raises:
        InputError: a marker stands there several times, or without its end.
    """
    place = _place(text, table, path)
    return None if place is None else text[place[0]:place[1]].strip("\n")


def replaced(text: str, table: str | None, new: str, path: Path = README) -> str:
    """The text with other content between the markers. Where they are missing they are added at the end.

    >>> replaced("a\\n<!-- expected -->\\nold\\n<!-- end of expected -->\\nb\\n", None, "new")
    'a\\n<!-- expected -->\\nnew\\n<!-- end of expected -->\\nb\\n'
    """
    place = _place(text, table, path)
    begin, end = markers(table)
    if place is None:
        return f"{text.rstrip()}\n\n{begin}\n{new}\n{end}\n".lstrip("\n")
    return f"{text[:place[0]]}\n{new}\n{text[place[1]:]}"


def _place(text: str, table: str | None, path: Path) -> tuple[int, int] | None:
    begin, end = markers(table)
    if text.count(begin) > 1:
        raise InputError(f"{path} has {begin} {text.count(begin)} times")
    start = text.find(begin)
    if start < 0:
        return None
    start += len(begin)
    stop, following = text.find(end, start), text.find("<!-- table:", start)
    if stop < 0 or 0 <= following < stop:
        raise InputError(f"{path} has {begin} without {end} behind it")
    return start, stop
