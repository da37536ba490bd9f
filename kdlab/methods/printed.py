"""The printed index: what ``kdlab methods`` prints, kept beside the code, so that printing it imports no torch.

``printed.json`` holds a digest of the files that it was made from. Where these have changed since, it is not used.
``python -m kdlab.methods`` makes it again; a test compares it with the code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kdlab.config.paths import conf_dir
from kdlab.runs.files import write_text

FILE = Path(__file__).with_name("printed.json")
_CODE = ("functional", "losses", "methods", "strategies", "teachers")
_CONF = ("loss", "preset", "strategy")


@dataclass
class Listed:
    """One method.

    Args:
        name: as in ``loss=[…]`` or ``strategy=…``.
        family: of :data:`kdlab.functional.sources.FAMILIES`.
        kind: ``loss``, ``strategy`` or ``piece``.
        serves: kinds of networks that it is for.
        line: its lines in the list.
        page: all that is known about it.
    """

    name: str
    family: str
    kind: str
    serves: list[str]
    line: str
    page: str


@dataclass
class Printed:
    """The whole index.

    Args:
        families: in the order of the list.
        kinds: of networks.
        ending: the last line of the list.
        entries: in the order of the list.
        pieces: the pages of functions that strategies compose; they are not in the list.
    """

    families: list[str]
    kinds: list[str]
    ending: str
    entries: list[Listed]
    pieces: dict[str, str]


def digest() -> str:
    """SHA-256 of the files from which the index is made."""
    found = hashlib.sha256()
    roots = [Path(__file__).parents[1] / name for name in _CODE] + [conf_dir() / name for name in _CONF]
    for root in roots:
        for path in sorted([*root.rglob("*.py"), *root.rglob("*.yaml")]):
            found.update(f"{root.name}/{path.relative_to(root).as_posix()}".encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def stored() -> Printed | None:
    """The index in ``printed.json``; None where the code has changed since, or the file cannot be read."""
    try:
        found = json.loads(FILE.read_text(encoding="utf-8"))
        if found.pop("digest") != digest():
            return None
        return Printed(**{**found, "entries": [Listed(**entry) for entry in found["entries"]]})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(printed: Printed) -> None:
    """Write ``printed.json``: one line for each method."""
    content = {"digest": digest(), **asdict(printed)}
    entries = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in content.pop("entries"))
    head = json.dumps(content, ensure_ascii=False, indent=0)[:-2]
    write_text(FILE, f'{head},\n"entries": [\n{entries}\n]\n}}\n')
