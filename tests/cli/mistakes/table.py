"""What the tables of mistakes are made of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdlab.runs.run import Run

# a run in a second; the runs that lie there already are of this command with seeds 1 and 2
SHORT = ["train", "strategy=supervised", "trainer.max_epochs=2"]


@dataclass
class Place:
    """Where a mistake is made: a working directory, and what may be damaged in it."""

    folder: Path
    patch: pytest.MonkeyPatch
    # copies the finished runs of SHORT into runs/ and returns them, the relative paths being
    finished: Callable[[], tuple[Run, Run]]
    taught: Callable[[], Run]  # a finished teacher of digits

    def names(self) -> dict[str, str]:
        """What stands for {run}, {other} and {teacher} in a command."""
        found = {}
        runs = sorted(
            (self.folder / "runs" / "quickstart").glob("supervised-*"), key=lambda path: path.name.split("-s")[-1]
        )
        for name, path in zip(("run", "other"), runs):
            found[name] = str(path.relative_to(self.folder))
        return found


@dataclass(frozen=True)
class Mistake:
    """A mistake and what kdlab makes of it.

    Args:
        what: in a few words; its name in the list.
        command: what is typed after ``kdlab``; {run}, {other} and {teacher} stand for the runs that are there.
        words: what the message must hold.
        code: the exit code.
        given: what was done before, in a few words.
        setup: does it.
        stream: where the message is looked for.
        goes_on: whether the same command ends well once what ``setup`` has patched is as before.
    """

    what: str
    command: Sequence[str]
    words: Sequence[str]
    code: int = 2
    given: str = ""
    setup: Callable[[Place], object] | None = None
    stream: str = "err"
    goes_on: bool = False

    def typed(self) -> str:
        return " ".join(
            ["kdlab", *(text if re.fullmatch(r"\{\w+\}[\w/.]*", text) else shlex.quote(text) for text in self.command)]
        )


def neutral(text: str, place: Place) -> str:
    """A message without what differs from machine to machine: folders, hashes, versions, durations, places in files,
    and the order of a set."""
    text = (
        text.replace(str(place.folder.resolve()), "FOLDER")
        .replace(str(place.folder), "FOLDER")
        .replace(str(place.taught().path), "TEACHER")
    )
    text = re.sub(r"-[0-9a-f]{16}\b", "-HASH", text)
    text = re.sub(r"kdlab \d+\.\d+\S*", "kdlab VERSION", text)
    text = re.sub(r"\b\d+\.\d s\b", "… s", text)
    text = re.sub(r"\(char \d+\)", "(char …)", text)
    text = re.sub(r"(?<=names are: )[\w, ]+", lambda found: ", ".join(sorted(found[0].split(", "))), text)
    return re.sub(r"/\S*/site-packages/", "…/", text)


def row(mistake: Mistake, message: str) -> str:
    """A mistake's line in the list: what, command, exit code, the first lines of the message (of a table those that
    tell of the mistake)."""
    lines = [" ".join(line.split()) for line in message.strip().splitlines() if line.strip()]
    if mistake.stream == "out":
        lines = [line for line in lines if any(word in line for word in mistake.words)]
        lines = [re.sub(r" \d+\.\d$", " …", line) for line in lines]  # a table's last column has seconds
    shown = " / ".join(lines[:3]) + (" / …" if len(lines) > 3 else "")
    shown = shown if len(shown) <= 420 else f"{shown[:420].rstrip()} …"
    before = f"{mistake.given}; " if mistake.given else ""
    cells = [mistake.what, f"{before}`{mistake.typed()}`", str(mistake.code), shown]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
