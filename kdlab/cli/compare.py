"""``kdlab compare FOLDER…``: a table of the runs in folders, grouped over seeds; also as CSV and Markdown."""

from __future__ import annotations

from pathlib import Path

from kdlab.compare import comparison
from kdlab.errors import InputError
from kdlab.runs.files import write_text
from kdlab.runs.run import find_runs

from .parser import Parser


def run(arguments: list[str]) -> int:
    parser = Parser(prog="kdlab compare", description=__doc__)
    parser.add_argument("folder", nargs="+", help="folders with runs in or below them")
    parser.add_argument("--metric", default="accuracy", help="a test metric of run.json (default: accuracy; also nll, ece)")
    parser.add_argument("--out", help="where compare.csv and compare.md go (default: the first folder)")
    options = parser.parse_args(arguments)
    missing = [folder for folder in options.folder if not Path(folder).is_dir()]
    if missing:
        raise InputError(f"there is no folder {', '.join(missing)}")
    runs = list(find_runs(options.folder))
    if not runs:
        raise InputError(f"no runs in {', '.join(options.folder)}; kdlab runs lists what there is")
    table = comparison(runs, options.metric)
    first = Path(options.folder[0])
    out = Path(options.out) if options.out else first.parent if (first / "run.json").exists() else first
    try:
        write_text(out / "compare.csv", table.csv())
        write_text(out / "compare.md", table.markdown())
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); name another folder with --out") from error
    table.show()
    print(f"written: {out / 'compare.csv'}, {out / 'compare.md'}")
    return 0
