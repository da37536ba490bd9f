"""``kdlab compare FOLDER…``: a table of the runs in folders, grouped over seeds; also as CSV, Markdown and LaTeX."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from kdlab.compare import Group, Table, groups, place, table_of
from kdlab.compare.page import make_folder, write_report
from kdlab.errors import InputError
from kdlab.runs.record import command_line
from kdlab.runs.run import runs_in

from .parser import Parser


def run(arguments: list[str]) -> int:
    """Run ``kdlab compare``: write the table's files, print the table, and make the report if one is asked for.

    Returns:
        0.

    Raises:
        InputError: no runs are found, an option is wrong, or a folder that was asked for cannot be written.
    """
    parser = Parser(prog="kdlab compare", description=__doc__)
    parser.add_argument("folder", nargs="+", help="folders with runs in or below them")
    parser.add_argument(
        "--metric", help="a test metric of run.json (default: the headline of the task; nll and ece, or mae and r2)"
    )
    parser.add_argument(
        "--baseline",
        metavar="ROW",
        help="the row with which the others are compared: its name, or a part of the name that no other row has "
        "(default: the student baseline, if there is one)",
    )
    parser.add_argument(
        "--further",
        default="",
        metavar="METRICS",
        help="other metrics as columns, separated by commas: nll,ece,agreement,kl_to_teacher, or results of "
        "kdlab measure: latency_ms,cka,checkpoint_bytes,…",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="print every column, in several blocks if they are too wide for the terminal",
    )
    parser.add_argument("--out", help="folder for compare.csv, compare.md and compare.tex (default: the first folder)")
    parser.add_argument(
        "--report",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="also write report.html with its figures and tables into FOLDER (default: the folder 'report' next to "
        "compare.csv); put this option after the runs' folders",
    )
    parser.add_argument(
        "--wandb",
        metavar="PROJECT",
        help="also log table, figures and report to Weights & Biases (offline unless you are logged in)",
    )
    options = parser.parse_args(arguments)
    runs = runs_in(options.folder)
    found, left_out = groups(runs)
    table = table_of(found, options.metric, options.baseline, left_out, options.further)
    if options.wandb is not None and not options.wandb.strip():
        raise InputError("compare: --wandb needs the name of a project")
    out = Path(options.out) if options.out else place(options.folder)
    report = (
        Path(options.report)
        if options.report
        else out / "report"
        if options.report is not None or options.wandb
        else None
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        if report:  # both places, before anything is written
            make_folder(report)
        table.write(out, "compare")
        written = f"written: {out / 'compare.csv'}, and the same as .md and .tex"
    except OSError as error:
        if options.out or report:
            raise InputError(f"{out} cannot be written ({error.strerror}); name another folder with --out") from error
        # the files were not asked for: in a folder that is read-only the table is shown without them
        written = f"nothing was written: {out} cannot be written ({error.strerror}); --out DIR names another folder"
    table.show(options.all)
    print(written)
    if report:
        _report(options, found, table, report)
    return 0


def _report(options: argparse.Namespace, found: Sequence[Group], table: Table, folder: Path) -> None:
    page = write_report(found, table, folder, f"Comparison of {', '.join(options.folder)}", command_line())
    print(f"written: {page}, with figures and tables next to it")
    if options.wandb:
        from kdlab.compare.wandb_run import log_report

        print(f"logged: {log_report(table, folder, options.wandb, Path(options.folder[0]).resolve().name)}")
