"""``kdlab cache [list|build|verify|prune] …``: the kept answers of teachers, below ``paths.runs``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.table import Table

from kdlab.errors import InputError

from .parser import Parser

VERBS = ("list", "build", "verify", "prune")
TOLERANCE = 1e-5  # of a kept answer, against the live teacher


def run(arguments: list[str]) -> int:
    """Run ``kdlab cache list``, ``build``, ``verify`` or ``prune``; without a verb, ``list``.

    Returns:
        0, or 1 where ``verify`` found damage.

    Raises:
        InputError: an option or the config is wrong, or a folder holds no cache.
    """
    parser = Parser(prog="kdlab cache", description="Lists, builds, verifies and removes the kept answers of teachers.")
    verbs = parser.add_subparsers(dest="verb")
    listing = verbs.add_parser("list", help="one line per cache (the default)")
    listing.add_argument("runs", nargs="?", default="runs", help="the folder of runs (default: runs)")
    building = verbs.add_parser("build", help="keep the answers that a run needs, without the run")
    building.add_argument("override", nargs="*", help="the overrides of the run, as for kdlab train")
    verifying = verbs.add_parser("verify", help="compare every file with its checksum")
    verifying.add_argument("cache", nargs="*", help="folders of caches, or of runs (default: runs)")
    verifying.add_argument(
        "--live",
        nargs="+",
        metavar="OVERRIDE",
        help="ask the teacher of the run with these overrides about a batch of each file",
    )
    pruning = verbs.add_parser("prune", help="remove caches")
    pruning.add_argument("cache", nargs="*", help="folders of caches, or of runs (default: runs)")
    pruning.add_argument("--yes", action="store_true", help="remove them; without it, only list them")
    options = parser.parse_args(
        arguments if arguments and arguments[0] in (*VERBS, "-h", "--help") else ["list", *arguments]
    )
    return {"list": _list, "build": _build, "verify": _verify, "prune": _prune}[options.verb](options)


def _list(options: argparse.Namespace) -> int:
    from kdlab.cache.store import FOLDER, Damaged, Store, readable_size
    from kdlab.sweep.view import output_console

    rows: list[list[str]] = []
    damaged = []
    for path in sorted((Path(options.runs) / FOLDER).glob("*/")):
        try:
            store = Store(path)
            manifest, size = store.manifest(), readable_size(store.size, digits=2)
        except Damaged as error:
            damaged.append(str(error))
            rows.append([str(path), "damaged", *[""] * 5])
            continue
        contents = manifest["contents"]
        codec = contents.get("codec") or {}
        options_of_codec = (f"{name}={value:g}" for name, value in codec.items() if name != "name")
        named = " ".join([codec["name"], *options_of_codec]) if codec else None
        kind = ", ".join(filter(None, (contents["mode"], named, contents.get("dtype"))))
        measured = _measured(manifest.get("measured", {}))
        rows.append([str(path), kind, str(len(store.files())), size, *measured, manifest["made"]])
    if not rows:
        print(f"there are no kept answers below {options.runs}; teacher.cache=views or fixed keeps them")
        return 0
    columns = ["cache", "mode", "files", "size", "bytes a token", "error", "made"]
    shown = [place for place in range(len(columns)) if place not in (4, 5) or any(row[place] for row in rows)]
    table = Table(box=None, pad_edge=False)
    for place in shown:
        table.add_column(columns[place], overflow="fold", justify="right" if 2 <= place <= 5 else "left")
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    output_console().print(table)
    for text in damaged:
        print(text)
    return 0


def _measured(slots: dict[str, dict]) -> tuple[str, str]:
    """Bytes a token, and the mean error against the live teacher in nats a token, of the training split; empty where
    the answers are no tokens'."""
    training = [one for slot, one in slots.items() if slot.startswith("train")]
    tokens = sum(one["tokens"] for one in training)
    if not tokens:
        return "", ""
    error = sum(one["tokens"] * one["error"] for one in training) / tokens
    size = sum(one["bytes"] for one in training) / tokens
    return f"{size:,.0f}", f"{training[0]['of']} {error:.2g}"


def _build(options: argparse.Namespace) -> int:
    from kdlab.config.compose import compose
    from kdlab.training.ensure import keep_answers

    parts = keep_answers(compose(options.override))
    for teacher in parts.caching.teachers if parts.caching is not None else []:
        print(teacher.store.path)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from kdlab.cache.store import Damaged, Store

    damaged = files = 0
    for path in _folders(options.cache):
        try:
            store = Store(path)
        except Damaged as error:
            print(error)
            damaged += 1
            continue
        for slot, name in store.files():
            files += 1
            try:
                store.stored(slot, name)
            except Damaged as error:
                print(error)
                damaged += 1
    print(f"{files} files, {damaged} damaged" if damaged else f"{files} files, all as they were written")
    if options.live:
        damaged += _against_live(options.live)
    return 1 if damaged else 0


def _against_live(overrides: list[str]) -> int:
    from kdlab.config.compose import compose
    from kdlab.training.ensure import compared_with_live

    wrong = 0
    for path, files, difference in compared_with_live(compose(overrides)):
        print(f"{path}: {files} files, at most {difference:.1e} from the live teacher")
        wrong += not difference <= TOLERANCE
    return wrong


def _prune(options: argparse.Namespace) -> int:
    from kdlab.cache.store import readable_size

    folders = _folders(options.cache)
    if not folders:
        print("there are no kept answers below runs")
        return 0
    for path in folders:
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"{'removed' if options.yes else 'would remove'} {path} ({readable_size(size, digits=2)})")
        if options.yes:
            shutil.rmtree(path)
    if not options.yes:
        print("nothing was removed; the same command with --yes removes them")
    return 0


def _folders(named: list[str]) -> list[Path]:
    """The folders of caches: those that are named, also by a folder of runs; default: all below ``runs``."""
    from kdlab.cache.store import FOLDER

    found: list[Path] = []
    for path in map(Path, named or ["runs"]):
        if path.parent.name == FOLDER and path.is_dir():
            found.append(path)
        elif (path / FOLDER).is_dir() or not named:
            found += sorted((path / FOLDER).glob("*/"))
        else:
            raise InputError(f"{path} is no folder of kept answers; kdlab cache list shows them")
    return found
