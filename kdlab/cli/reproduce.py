"""``kdlab reproduce STUDY``: trains the missing runs of a study, and compares its tables with the expectations and with
the results in git.

Exit codes:
  0  all expectations hold or are explained, and the results match git (with --check: study and files are consistent)
  1  otherwise, or a run failed
  2  bad input

The results match git under two conditions. Every row is within its tolerance, and no further from git than other seeds
are. Every claim that is significant here or in git shows at least a quarter of its effect on the other side, or the
variation of seeds explains the difference.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, cast

from kdlab.errors import InputError

from .parser import Parser

if TYPE_CHECKING:
    from kdlab.studies.study import Study


def run(arguments: list[str]) -> int:
    """Run ``kdlab reproduce``; the module's docstring lists the exit codes that it returns.

    Raises:
        InputError: there is no such study, or an option is wrong.
    """
    parser = Parser(prog="kdlab reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "study",
        nargs="*",
        help="a folder below experiments/, or any folder with a study.yaml; after it you can pass paths.runs=… "
        "paths.data=… progress=lines and options of the launcher, for example hydra.launcher.workers=2",
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--write",
        action="store_true",
        help="write the results into the study's folder and its README, instead of runs/STUDY/reproduced/",
    )
    kinds.add_argument(
        "--extend",
        action="store_true",
        help="keep the runs that the results in git have, train only the others, and write the results into the "
        "study's folder: for rows and seeds that were added to study.yaml",
    )
    kinds.add_argument(
        "--keep",
        action="store_true",
        help="keep the results of this rerun as results/rerun.jsonl, next to those in git, and compare both in the "
        "study's README",
    )
    kinds.add_argument(
        "--check",
        action="store_true",
        help="train nothing: check that study.yaml, records and README in git fit together (default: all studies)",
    )
    kinds.add_argument(
        "--list", action="store_true", help="list the studies: scale, minutes, runs, and number of runs finished here"
    )
    kinds.add_argument(
        "--render",
        action="store_true",
        help="train nothing: write the README's tables again, from the records in git and study.yaml",
    )
    options = parser.parse_intermixed_args(arguments)
    names = [text for text in options.study if "=" not in text]
    extra = [text for text in options.study if "=" in text]
    if options.list:
        return _list(names, extra)
    if options.check or options.render:
        if extra:
            raise InputError(
                f"reproduce: --{'check' if options.check else 'render'} trains nothing, so {extra[0]} has no effect; "
                "leave it out"
            )
        return _check(names) if options.check else _render(names)
    if len(names) != 1:
        what = (
            f"one study at a time, not {' and '.join(names)}"
            if names
            else "which study? kdlab reproduce --list shows them"
        )
        raise InputError(f"reproduce: {what}")
    return _reproduce(names[0], extra, options.write, options.keep, options.extend)


def _studies(names: list[str]) -> list[Study]:
    """The studies that are named, or all."""
    from kdlab.studies.reading import read
    from kdlab.studies.study import all_studies, find, refuse_ambiguous

    for name in names:
        refuse_ambiguous(name)
    if not names:
        names = [name for name, _ in all_studies()]
        if not names:
            find("")  # its message explains where to get studies
    return [read(name) for name in names]


def _list(names: list[str], extra: list[str]) -> int:
    from rich.markup import escape
    from rich.table import Table

    from kdlab.studies.listing import counts, finished_runs
    from kdlab.sweep.view import output_console

    for text in extra:
        if not text.lstrip("+").startswith("paths.runs="):
            raise InputError(f"reproduce: --list only reads paths.runs, so {text} has no effect; leave it out")
    places = [text.partition("=")[2] for text in extra]
    found = finished_runs(places[-1] if places else "runs")
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("study", "left"),
        ("title", "left"),
        ("scale", "left"),
        ("minutes", "right"),
        ("runs", "right"),
        ("finished here", "right"),
    ):
        table.add_column(name, justify=cast(Any, justify), overflow="fold")
    for study in _studies(names):
        table.add_row(
            *map(escape, (study.name, study.title, study.scale)),
            "" if study.minutes is None else f"{study.minutes:g}",
            *map(str, counts(study, found)),
        )
    output_console().print(table)
    print(
        "minutes: from nothing, on two cores of the machine in the study's tables; kdlab reproduce STUDY trains what "
        "is missing"
    )
    return 0


def _check(names: list[str]) -> int:
    from kdlab.studies.check import check
    from kdlab.studies.records import read_records

    studies, wrong = _studies(names), 0
    for study in studies:
        problems = check(study)
        wrong += bool(problems)
        print(
            f"wrong  {study.name}"
            if problems
            else f"ok     {study.name}" + ("" if read_records(study.results) else "  (no results in git yet)")
        )
        for problem in problems:
            print(f"         {problem}")
    print(f"{len(studies) - wrong} of {len(studies)} are right")
    return 1 if wrong else 0


def _render(names: list[str]) -> int:
    from kdlab.studies.records import read_records, tasks_of
    from kdlab.studies.results import generated, kept_rerun, write_readme

    for study in _studies(names):
        records = read_records(study.results)
        study = study.with_headlines(tasks_of(records))
        print(
            f"written: {write_readme(study, generated(study, records, kept_rerun(study)))}"
            if records
            else f"{study.name}: no results in git yet"
        )
    return 0


def _reproduce(name: str, extra: list[str], write: bool, keep: bool, extend: bool) -> int:
    from kdlab.launch.processes import Interrupt, handling
    from kdlab.studies import results, tables
    from kdlab.studies.expectations import findings, levels
    from kdlab.studies.extend import kept_runs
    from kdlab.studies.reading import read
    from kdlab.studies.records import read_records
    from kdlab.studies.rerun import claims, reruns
    from kdlab.studies.study import refuse_ambiguous
    from kdlab.studies.training import train
    from kdlab.tasks.metric import report_of

    refuse_ambiguous(name)
    study = read(name)
    git = read_records(study.results)
    if (keep or extend) and not git:
        what = "--keep keeps a rerun of results in git" if keep else "--extend adds runs to the results in git"
        raise InputError(f"reproduce: {what}, and {study.name} has none; --write writes them")
    write = write or extend
    if write or keep:
        results.refuse_unwritable(study)
    # SIGTERM and SIGUSR1 act like Ctrl-C: the runs are recorded as interrupted, and the same command resumes them
    with handling(Interrupt()):
        trained = train(study, extra, kept_runs if extend else None)
    if extend:
        kept = sum(one.kept is not None for one in trained.values())
        print(f"{kept} of {len(trained)} runs are those in git")
    study = study.with_headlines({texts: report_of(one.config) for texts, one in trained.items()})
    records, written = results.write(study, trained, write)
    for one in study.tables:
        print(f"\n{one.title}")
        if tables.any_finished(one, records):
            tables.table(one, records).show()
        else:
            print("\n".join(tables.missing(one, records)))
    found, level, again, held = (
        findings(study, records),
        levels(study, records),
        reruns(study, records, git),
        claims(study, records, git),
    )
    _show(
        f"expected ({study.scale})",
        ("claim", "row", "expected", "found", "p", ""),
        [(one.claim, one.expectation.row, one.expected, one.found, one.test, one.why) for one in found],
    )
    _show(
        "regression checks: values of an earlier run, or of the one in git",
        ("table", "row", "expected", "found", ""),
        [(one.expectation.table, one.expectation.row, one.expected, one.found, one.why) for one in level],
    )
    _show(
        "here and in git",
        ("table", "row", "here", "in git", ""),
        [(one.table, one.row, one.here, one.git, one.verdict) for one in again],
    )
    _show(
        "claims that are significant, here or in git",
        ("claim", "row", "here", "in git", ""),
        [(one.claim, one.row, one.here, one.git, one.verdict) for one in held],
    )
    if keep:
        written += results.keep_rerun(study, records, git)
    print(f"\nwritten: {', '.join(map(str, written))}")
    unfinished = sum(record["status"] != "finished" for record in records)
    if unfinished:
        print(f"{unfinished} of the {len(records)} runs are not finished; the same command tries only these again")
    found += level
    # results for git must be explained
    right = all(one.accepted for one in found) if write else not any(one.contradicted for one in found)
    agree = all(one.agrees for one in again) and all(one.agrees for one in held)
    return 0 if not unfinished and right and agree else 1


def _show(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from kdlab.sweep.view import output_console

    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(escape(name), overflow="fold")
    for cells in rows:
        table.add_row(*map(escape, cells))
    print(f"\n{title}")
    output_console().print(table)
