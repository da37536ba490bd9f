"""The output of a study: files in a results folder, and the generated parts of its README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kdlab.errors import InputError
from kdlab.runs.files import try_to_write, write_text

from . import curves as learning
from . import expectations, readme, rerun, tables
from .records import RERUN, gathered, read_records, write_records
from .study import Study
from .training import Trained


def generated(study: Study, records: Sequence[dict], again: Sequence[dict] = ()) -> dict[str, str]:
    """The generated parts of the README, by their names.

    Args:
        again: the records of the rerun in git.
    """
    parts = {
        readme.table_part(table.name): tables.block(study, table, records)
        for table in study.tables
        if tables.any_finished(table, records)
    }
    if study.expected and parts:
        parts[readme.EXPECTED] = expectations.block(expectations.findings(study, records))
    if study.levels and parts:
        parts[readme.LEVELS] = expectations.levels_block(expectations.levels(study, records))
    if again and parts:
        parts[readme.RERUN] = rerun.block(study, again, records)
    return parts


def kept_rerun(study: Study) -> list[dict]:
    """The records of the rerun in git; empty if there is none."""
    return read_records(study.results, RERUN)


def keep_rerun(study: Study, records: Sequence[dict], git: Sequence[dict]) -> list[Path]:
    """Save a rerun: its records next to those in git, and the comparison of the two in the README."""
    try:
        return [write_records(study.results, records, RERUN), write_readme(study, generated(study, git, records))]
    except OSError as error:
        raise cannot_write(study.results, error) from error


def write(study: Study, trained: Mapping[tuple[str, ...], Trained], into_study: bool) -> tuple[list[dict], list[Path]]:
    """Write the results of a study's runs. The curves come last, so that an error in them affects nothing else.

    Args:
        into_study: write into the study's own folder, including its README; otherwise into ``reproduced/`` next to its
            runs.

    Returns:
        The records, and the files that were written.
    """
    runs = Path(next(iter(trained.values())).config["paths"]["runs"])
    folder = study.results if into_study else runs / study.name / "reproduced"
    records = gathered(study, trained)
    parts = generated(study, records, kept_rerun(study) if into_study else ())
    try:
        written = [write_records(folder, records)]
        if into_study:
            written.append(write_readme(study, parts))
        else:
            write_text(folder / "tables.md", "\n\n".join(parts.values()) + "\n")
            written.append(folder / "tables.md")
        if curves := learning.gathered(study, trained):
            written += learning.write(study, curves, folder, learning.unit_of_rows(study, trained))
    except OSError as error:
        raise cannot_write(folder, error) from error
    return records, written


def refuse_unwritable(study: Study) -> None:
    """Raises InputError where results could not be written into a study's folder and its README, before anything is
    trained."""
    for folder in (study.folder, *([study.results] if study.results.exists() else [])):
        try:
            try_to_write(folder)
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({error.strerror or error}), so --write has no place; nothing was trained"
            ) from error
    text = _readme(study) or ""
    for part in _parts(study):
        readme.content(text, part, study.readme)


def cannot_write(folder: Path, error: OSError) -> InputError:
    """The error for results that could not be written once the study was trained."""
    return InputError(
        f"{folder} cannot be written ({error.strerror or error}); what was trained is kept, and the same command finds "
        "it"
    )


def write_readme(study: Study, parts: Mapping[str, str]) -> Path:
    """Put the generated parts between their markers. A missing README is created, and missing markers are added at its
    end."""
    text = _readme(study)
    if text is None:
        text = f"# {study.title}\n" + (f"\n{study.paper}\n" if study.paper else "")
    for name, part in parts.items():
        text = readme.replaced(text, name, part, study.readme)
    try:
        write_text(study.readme, text)
    except OSError as error:
        raise InputError(f"{study.readme} cannot be written ({error.strerror or error})") from error
    return study.readme


def differing(study: Study, records: Sequence[dict]) -> list[str]:
    """Lines about parts of the README that differ from what the records generate."""
    text, parts, problems = _readme(study), generated(study, records, kept_rerun(study)), []
    cure = f"kdlab reproduce --render {study.command} writes it again"
    if text is None:
        return [f"{study.readme} is missing; {cure}"] if parts else []
    for name, part in parts.items():
        begin, _ = readme.markers(name)
        found = readme.content(text, name, study.readme)
        if found is None:
            problems.append(f"{study.readme} has no {begin}; {cure}")
        elif found != part:
            problems.append(
                f"{study.readme}: the text after {begin} is not what {study.results / 'runs.jsonl'} and study.yaml "
                f"generate ({_first_difference(found, part)}); {cure}"
            )
    known = {table.name for table in study.tables}
    problems += [
        f"{study.readme}: study.yaml has no table '{name}'" for name in readme.tables_named(text) if name not in known
    ]
    # markers without results are fine; text between them without results is not
    return problems + [
        f"{study.readme}: there is text after {readme.markers(part)[0]}, but there are no results"
        for part in _parts(study)
        if part not in parts and readme.content(text, part, study.readme)
    ]


def _parts(study: Study) -> list[str]:
    """The names of all parts that a README may have."""
    return [*(readme.table_part(table.name) for table in study.tables), readme.EXPECTED, readme.LEVELS, readme.RERUN]


def _readme(study: Study) -> str | None:
    try:
        return study.readme.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{study.readme} cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _first_difference(found: str, expected: str) -> str:
    """The first difference between two texts, in a few words."""
    for number, (theirs, ours) in enumerate(zip(found.splitlines(), expected.splitlines()), start=1):
        if theirs != ours:
            place = next(
                (place for place, (one, other) in enumerate(zip(theirs, ours)) if one != other),
                min(len(theirs), len(ours)),
            )
            start = max(place - 20, 0)
            return f"line {number}: '…{theirs[start : place + 20]}…' in place of '…{ours[start : place + 20]}…'"
    return f"{len(found.splitlines())} lines in place of {len(expected.splitlines())}"
