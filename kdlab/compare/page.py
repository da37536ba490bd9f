"""The report of a comparison: one page with everything, and the same table and figures as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from kdlab.errors import InputError
from kdlab.runs import record as provenance
from kdlab.runs.files import try_to_write, write_text

from .baseline import on_other_data
from .collect import BASELINE, NETWORK, TEACHER, Group
from .statistics import Difference, Interval
from .table import Table

_KINDS = {TEACHER: "teacher", BASELINE: "baseline", NETWORK: "network"}  # role of a row -> class in the page's style


@dataclass(frozen=True)
class Cell:
    """The text of a cell in the page's table, and its style class."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Fact:
    """A fact at the top of the page."""

    name: str
    value: str
    about: str


def write_report(
    groups: Sequence[Group], table: Table, folder: str | Path, title: str = "Comparison", command: str = ""
) -> Path:
    """Write ``report.html`` (complete in itself: it fetches nothing), ``figures/*.png`` and ``*.svg``, ``table.csv``,
    ``.md`` and ``.tex``.

    Figures that cannot be drawn are left out; the page says which, and why. The same runs give the same page, except
    for date, command and machine at its end.

    Args:
        groups: of :func:`kdlab.compare.groups`.
        table: of the same groups.
        command: the command line that made it.

    Returns:
        The page's path.

    Raises:
        InputError: the folder cannot be written.
    """
    from .figures import NAMES, draw, remove, save

    folder = Path(folder)
    make_folder(folder)
    figures, notes = draw(groups, table.metric, table.baseline)
    try:
        for name in set(NAMES) - set(figures):  # of an earlier report
            remove(folder / "figures" / name)
        table.write(folder, "table")
        for name, figure in figures.items():
            save(figure, folder / "figures" / name)
        page = folder / "report.html"
        write_text(page, html(groups, table, figures, notes, title, command))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    return page


def make_folder(folder: Path) -> None:
    """Make the folder of a report, before anything is drawn. Raises InputError where it cannot be written."""
    try:
        try_to_write(folder / "figures")
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{folder} cannot be written ({error.strerror or error}); name another folder with --report FOLDER"
    )


def html(
    groups: Sequence[Group],
    table: Table,
    figures: dict,
    notes: Sequence[str] = (),
    title: str = "Comparison",
    command: str = "",
) -> str:
    """The page.

    Args:
        figures: name -> :class:`kdlab.compare.figures.Drawing`.
        notes: lines about figures that are left out.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    from .figures.style import COLOURS, inline_svg

    environment = Environment(autoescape=True, trim_blocks=True)
    template = environment.from_string(files("kdlab.compare").joinpath("page.html.jinja").read_text(encoding="utf-8"))
    drawn = [
        {
            "name": name,
            "title": figure.title,
            "caption": figure.caption,
            "alt": figure.alt,
            "wide": figure.wide,
            "svg": Markup(inline_svg(figure, name)),
        }
        for name, figure in figures.items()
    ]
    seeds = sorted({record["seed"] for group in groups for record in group.records if record.get("seed") is not None})
    subtitle = (
        f"{table.metric} on test, at the last epoch; {len(table.rows)} rows, "
        f"{sum(len(group.records) for group in groups)} finished runs"
        + (f", seeds {', '.join(map(str, seeds))}" if seeds else "")
    )
    return (
        template.render(
            title=title,
            subtitle=subtitle,
            colours=COLOURS,
            facts=facts(table),
            columns=table.columns(),
            rows=[{"kind": _KINDS.get(row.role, ""), "cells": cells} for row, cells in zip(table.rows, _cells(table))],
            explanation=table.explanation(),
            figures=drawn,
            left_out=[*table.notes, *notes],
            made=_made(groups, command),
        )
        + "\n"
    )


def facts(table: Table) -> list[Fact]:
    """The teacher if there is exactly one, the baseline, and the best of the others, by the mean at the last epoch."""
    teachers = [row for row in table.rows if row.role == TEACHER and row.last and row.label != table.baseline]
    baseline = [row for row in table.rows if row.label == table.baseline]
    result = [
        Fact(f"teacher: {table.metric}", _interval(row.last), row.label) for row in teachers if len(teachers) == 1
    ]
    result += [
        Fact(
            f"{'student alone' if row.role == BASELINE else 'baseline'}: {table.metric}", _interval(row.last), row.label
        )
        for row in baseline
    ]
    variants = [
        row
        for row in table.rows
        if row.role not in (TEACHER, BASELINE, NETWORK)
        and row.last
        and row.label != table.baseline
        and not any(on_other_data(row, one) for one in baseline)
    ]
    if variants:
        best = (max if table.higher_is_better else min)(variants, key=lambda row: row.last.mean if row.last else 0.0)
        result.append(
            Fact(
                f"best of {len(variants)} variants: {table.metric}"
                if len(variants) > 1
                else f"variant: {table.metric}",
                _interval(best.last),
                best.label,
            )
        )
        difference = best.difference
        if difference is not None and difference.mean is not None:
            half = "" if difference.half_width is None else f" ± {difference.half_width:.4f}"
            result.append(
                Fact(
                    "its difference to the baseline",
                    f"{difference.mean:+.4f}{half}",
                    _verdict(difference, len(variants)),
                )
            )
    return result


def _verdict(difference: Difference, variants: int) -> str:
    p = "" if difference.p_adjusted is None else f", p = {difference.p_adjusted:.3g} (corrected)"
    chosen = " It was chosen as the best of them on test, so expect less of it elsewhere." if variants > 1 else ""
    return f"{difference.verdict}; {difference.n} seeds{p}.{chosen}"


def _cells(table: Table) -> list[list[Cell]]:
    return [[Cell(text, text if text in ("better", "worse") else "") for text in cells] for cells in table.cells()]


def _interval(value: Interval | None) -> str:
    return (
        ""
        if value is None
        else f"{value.mean:.4f}" + ("" if value.half_width is None else f" ± {value.half_width:.4f}")
    )


def _made(groups: Sequence[Group], command: str) -> dict[str, str]:
    """Command, date, commits, versions and machines: of this page, and of the runs."""
    records = [record for group in groups for record in group.records]
    made = {
        "command": command or "kdlab.compare.report(…), from Python",
        "date": provenance.now(),
        "code": _code(provenance.code()),
        "versions": _versions(provenance.versions()),
        "machine": _machine(provenance.hardware()),
    }
    made["the runs' code"] = _several([_code(record.get("code") or {}) for record in records])
    made["the runs' versions"] = _several([_versions(record.get("versions") or {}) for record in records])
    made["the runs' machine"] = _several([_machine(record.get("hardware") or {}) for record in records])
    ended = sorted(record["ended"] for record in records if record.get("ended"))
    if ended:
        made["the runs ended"] = ended[0] if len(ended) == 1 else f"{ended[0]} to {ended[-1]}"
    return {name: value for name, value in made.items() if value}


def _code(code: dict) -> str:
    return (
        ", ".join(filter(None, [f"kdlab {code['kdlab']}", provenance.commit_in_words(code, 12)]))
        if code.get("kdlab")
        else ""
    )


def _versions(versions: dict) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _machine(hardware: dict) -> str:
    return ", ".join(filter(None, [provenance.machine_in_words(hardware), hardware.get("system")]))


def _several(texts: Sequence[str]) -> str:
    """The distinct values, most frequent first; if there are several, each with its number of runs."""
    counts = Counter(filter(None, texts)).most_common()
    return (
        counts[0][0]
        if len(counts) == 1
        else "; ".join(f"{text} ({number} run{'s' if number > 1 else ''})" for text, number in counts)
    )
