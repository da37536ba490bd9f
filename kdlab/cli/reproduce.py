"""``kdlab reproduce STUDY``: trains what is missing of a study, and holds its tables against what is expected and against what is in git."""

from __future__ import annotations

from pathlib import Path

from kdlab.errors import InputError

from .parser import Parser


def run(arguments: list[str]) -> int:
    parser = Parser(prog="kdlab reproduce", description=__doc__)
    parser.add_argument("study", nargs="?", help="its folder below experiments/, or any folder with a study.yaml")
    parser.add_argument("override", nargs="*", help="paths.runs=…, paths.data=…, progress=…, hydra.launcher.workers=…")
    parser.add_argument("--write", action="store_true", help="write the results into the study's folder")
    options = parser.parse_intermixed_args(arguments)
    if options.study is None:
        raise InputError("reproduce: which study? kdlab reproduce --list tells of them")
    return _reproduce(options.study, options.override, options.write)


def _reproduce(name: str, extra: list[str], write: bool) -> int:
    from kdlab.runs.processes import Interrupt, handling
    from kdlab.studies.reading import read
    from kdlab.studies.records import gathered, write_records
    from kdlab.studies.training import train

    study = read(name)
    # a SIGTERM ends it as Ctrl-C does: recorded, and to be gone on with
    with handling(Interrupt()):
        trained = train(study, extra)
    runs = Path(next(iter(trained.values())).config["paths"]["runs"])
    folder = study.results if write else runs / study.name / "reproduced"
    records = gathered(study, trained)
    print(f"written: {write_records(folder, records)}")
    unfinished = [record for record in records if record["status"] != "finished"]
    for record in unfinished:
        print(f"{record['status']}: {' '.join(record['overrides'])}: {record.get('error', '')}")
    return 1 if unfinished else 0
