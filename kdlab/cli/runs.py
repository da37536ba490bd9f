"""``kdlab runs [list|show|diff|rm] …``: the runs on disk."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

from filelock import Timeout
from rich.console import Console
from rich.table import Table

from kdlab.errors import InputError, did_you_mean
from kdlab.runs.differences import flat
from kdlab.runs.networks import why_kept
from kdlab.runs.run import RUNNING, Run, find_runs
from kdlab.runs.schema import RunRecord

from .parser import Parser

VERBS = ("list", "show", "diff", "rm")


def run(arguments: list[str]) -> int:
    """Run ``kdlab runs list``, ``show``, ``diff`` or ``rm``; without a verb, ``list``.

    Returns:
        0.

    Raises:
        InputError: a folder is missing, a named run is missing or damaged, or a run to remove is being trained.
    """
    parser = Parser(prog="kdlab runs", description="Lists, shows, compares and removes runs.")
    verbs = parser.add_subparsers(dest="verb")
    listing = verbs.add_parser("list", help="one line per run (the default)")
    listing.add_argument("folder", nargs="*", default=["runs"])
    verbs.add_parser("show", help="everything about a run").add_argument("run")
    difference = verbs.add_parser("diff", help="the differences between two runs")
    difference.add_argument("first")
    difference.add_argument("second")
    removal = verbs.add_parser("rm", help="remove runs")
    removal.add_argument("run", nargs="+")
    removal.add_argument("--yes", action="store_true", help="remove them; without it, only list them")
    options = parser.parse_args(
        arguments if arguments and arguments[0] in (*VERBS, "-h", "--help") else ["list", *arguments]
    )
    return {"list": _list, "show": _show, "diff": _diff, "rm": _remove}[options.verb](options)


def _list(options: argparse.Namespace) -> int:
    missing = [folder for folder in options.folder if not Path(folder).is_dir()]
    if missing and options.folder != ["runs"]:
        raise InputError(f"there is no folder {', '.join(missing)}{did_you_mean(missing[0], VERBS)}")
    table = Table(box=None, pad_edge=False)
    for column in ("run", "status", "test", "best", "epochs", "seconds"):
        table.add_column(column, overflow="fold", justify="left" if column in ("run", "status") else "right")
    damaged: list[str] = []
    rows: list[tuple[Run, RunRecord | None]] = []
    for found in find_runs(options.folder):
        try:
            rows.append((found, found.read()))
        except InputError as error:
            damaged.append(str(error))
            rows.append((found, None))
    headlines = {record.task.headline for _, record in rows if record is not None}
    for found, record in rows:
        if record is None:
            table.add_row(str(found.path), "damaged", "", "", "", "")
            continue
        metrics, headline = record.metrics, record.task.headline.name
        named = f"{headline} " if len(headlines) > 1 else ""
        seconds = record.durations.get("train_seconds")
        status = "killed" if record.status == RUNNING and not found.being_trained else record.status
        table.add_row(
            str(found.path),
            status,
            _number(metrics.get(f"test/{headline}"), named),
            _number(metrics.get(f"test/{headline}_best"), named),
            str(_epochs(found)),
            "" if seconds is None else f"{seconds:.1f}",
        )
    if rows:
        _console().print(table)
        for text in damaged:
            print(text)
    else:
        print("no runs yet; the first: kdlab train")
    return 0


def _console() -> Console:
    """A console for standard output; without a terminal it is wide, so that nothing is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def _number(value: float | None, before: str = "") -> str:
    return "" if value is None else f"{before}{value:.4f}"


def _epochs(found: Run) -> int | str:
    """The finished epochs; of a run whose rows are steps, the steps."""
    from kdlab.runs.curve import MetricsFile, unit_of

    try:
        rows = MetricsFile(found.metrics_file).load().rows
    except (OSError, ValueError):  # a damaged curve does not affect the other numbers
        return "damaged"
    with contextlib.suppress(InputError):  # nor does a damaged config
        if rows and unit_of(found.config) == "step":
            return f"{int(rows[-1]['step'])} steps"
    return len(rows)


def _show(options: argparse.Namespace) -> int:
    found = Run(options.run)
    record = found.record
    print(json.dumps(record, indent=2))
    if record.get("networks"):
        _show_networks(record)
    if record["status"] == RUNNING:
        print(
            f"{found.path} is being trained"
            if found.being_trained
            else f"{found.path} was killed; the same command resumes it"
        )
    return 0


def _show_networks(record: dict) -> None:
    """Print a line per network, and which one is kept of each checkpoint, and why."""
    names = sorted({key for scores in record["networks"].values() for key in scores})
    table = Table(box=None, pad_edge=False)
    for column in ("network", *names):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, scores in record["networks"].items():
        table.add_row(name, *(_number(scores.get(key)) for key in names))
    _console().print(table)
    for which in ("last", "best"):
        if which in (record.get("kept") or {}):
            print(f"kept of {which}: {why_kept(record, which)}")


def _diff(options: argparse.Namespace) -> int:
    first, second = Run(options.first), Run(options.second)
    for one in (first, second):
        one.check()
    sides = [
        {
            **flat(found.config),
            **{f"metrics.{key}": value for key, value in found.metrics.items()},
            **flat({"code": found.read().code, "versions": found.read().versions}),
        }
        for found in (first, second)
    ]
    table = Table(box=None, pad_edge=False)
    for column in ("key", str(first.path.name), str(second.path.name)):
        table.add_column(column, overflow="fold")
    rows = [
        key
        for key in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(key) != sides[1].get(key) and not key.startswith(("choices", "overrides"))
    ]
    for key in rows:
        table.add_row(key, str(sides[0].get(key, "-")), str(sides[1].get(key, "-")))
    if rows:
        _console().print(table)
    else:
        print("no difference")
    return 0


def _remove(options: argparse.Namespace) -> int:
    found = [Run(path) for path in options.run]
    for one in found:
        one.check()
    for one in found:
        if options.yes:
            lock = one.lock()
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise InputError(f"{one.path} is being trained; stop that first") from None
            try:
                one.clear()
            finally:
                lock.release()
        print(f"{'removed' if options.yes else 'would remove'} {one.path}")
    if not options.yes:
        print("nothing was removed; add --yes")
    return 0
