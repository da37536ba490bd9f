"""Study: a paper's experiments as tables of runs, with what is expected of them; found by its name, or by its
folder."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdlab.errors import InputError, did_you_mean
from kdlab.tasks.metric import CLASSIFICATION, Report

FILE = "study.yaml"
#: of a table that names no metric, until the task of its runs is known
HEADLINE = CLASSIFICATION.headline.name


@dataclass(frozen=True)
class Row:
    """A row of a table: runs that differ in nothing but the seed.

    Args:
        name: the name in the table.
        overrides: as on the command line, without the seed; sweeps are already expanded.
        seeds: there is one run per seed.
        bias: class -> number that is added to its saved test logits before they are scored.
        network: the network whose numbers the row shows, if several learn; None: the one that the run keeps.
    """

    name: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    bias: dict[int, float] = field(default_factory=dict)
    network: str | None = None

    def run_overrides(self, seed: int) -> tuple[str, ...]:
        """The overrides of the run with this seed."""
        return (*self.overrides, f"seed={seed}")


@dataclass(frozen=True)
class StudyTable:
    """A table: its rows, its main test metric, further metrics, and the row that the others are compared with.

    Args:
        metric_of_task: whether study.yaml names no metric, so that it is the headline of the runs' task.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    metric: str = HEADLINE
    further: tuple[str, ...] = ()
    baseline: str | None = None
    metric_of_task: bool = False

    def row(self, name: str) -> Row:
        """The row of that name. Raises StopIteration where there is none."""
        return next(row for row in self.rows if row.name == name)

    def in_order(self) -> list[Row]:
        """The rows as they are trained: the baseline first, since everything is compared with it."""
        return sorted(self.rows, key=lambda row: row.name != self.baseline)


@dataclass(frozen=True)
class Expectation:
    """What a row is expected to reach: ``value`` ± ``tolerance``, or more than ``by`` ``above`` (``below``) another
    row.

    Args:
        metric: None: the table's.
        claim: the expectation in words.
        explained: why it does not hold here, if it does not.
    """

    table: str
    row: str
    metric: str | None = None
    value: float | None = None
    tolerance: float | None = None
    above: str | None = None
    below: str | None = None
    by: float = 0.0
    claim: str = ""
    explained: str = ""


@dataclass(frozen=True)
class Study:
    """A study, read from its ``study.yaml``.

    Args:
        folder: the folder of study.yaml, README.md and ``results/``.
        name: its name for ``kdlab reproduce``: its folder below ``experiments/``, or the relative path of a folder
            elsewhere (:func:`_name_of`).
        scale: ``full``, or what was made smaller.
        minutes: its duration from the start, on two cores.
        expected: what is claimed of the rows.
        levels: values of rows when the study was first run, which a rerun should reach.
        curve_metric, curve_rows, curve_table: which learning curves are kept. Without a table, rows of the same name
            have the same runs, and the first table's row is used.
        curve_metric_of_task: whether study.yaml names no metric for them.
    """

    folder: Path
    name: str
    title: str
    scale: str
    tables: tuple[StudyTable, ...]
    paper: str = ""
    minutes: float | None = None
    expected: tuple[Expectation, ...] = ()
    levels: tuple[Expectation, ...] = ()
    curve_metric: str = f"val/{HEADLINE}"
    curve_rows: tuple[str, ...] = ()
    curve_table: str | None = None
    curve_metric_of_task: bool = False

    def with_headlines(self, reports: Mapping[tuple[str, ...], Report]) -> Study:
        """The study with the headline of the runs' task wherever study.yaml names no metric.

        Args:
            reports: of the tasks of its runs, by overrides; one of each table is enough.
        """

        def headline(rows: list[Row], now: str) -> str:
            found = (reports.get(row.run_overrides(seed)) for row in rows for seed in row.seeds)
            return next((report.headline.name for report in found if report is not None), now)

        tables = tuple(
            replace(table, metric=headline(list(table.rows), table.metric)) if table.metric_of_task else table
            for table in self.tables
        )
        metric = self.curve_metric
        if self.curve_metric_of_task:
            metric = f"val/{headline(self.rows_of_curves(), metric.removeprefix('val/'))}"
        return replace(self, tables=tables, curve_metric=metric)

    def rows_of_curves(self) -> list[Row]:
        """The rows whose curves are in curves.csv."""
        first: dict[str, Row] = {}
        for table in self.tables if self.curve_table is None else [self.table(self.curve_table)]:
            for row in table.rows:
                first.setdefault(row.name, row)
        return [first[name] for name in self.curve_rows]

    def tolerance(self, table: StudyTable, row: Row) -> float | None:
        """The tolerance in study.yaml for the mean of a row's metric; None if there is no value for it."""
        return max(
            (
                one.tolerance
                for one in (*self.expected, *self.levels)
                if one.value is not None
                and one.tolerance is not None
                and (one.table, one.row, one.metric or table.metric) == (table.name, row.name, table.metric)
            ),
            default=None,
        )

    @property
    def command(self) -> str:
        """The argument for ``kdlab reproduce``: the name, or the folder if the name means another study."""
        known = dict(all_studies()).get(self.name)
        return self.name if known is not None and known.resolve() == self.folder.resolve() else str(self.folder)

    @property
    def results(self) -> Path:
        """The folder of the results in git."""
        return self.folder / "results"

    @property
    def readme(self) -> Path:
        """The path of the study's README.md."""
        return self.folder / "README.md"

    def table(self, name: str) -> StudyTable:
        """The table of that name. Raises StopIteration where there is none."""
        return next(table for table in self.tables if table.name == name)

    def run_overrides(self) -> list[tuple[str, ...]]:
        """The overrides of every run, each once, in the order of training."""
        return list(
            dict.fromkeys(
                row.run_overrides(seed) for table in self.tables for row in table.in_order() for seed in row.seeds
            )
        )


def experiments_folders() -> list[Path]:
    """Where studies are: ``experiments/`` in the working folder, and the one next to the package in a checkout."""
    import kdlab

    places = [Path("experiments"), Path(kdlab.__file__).resolve().parents[1] / "experiments"]
    return [
        place
        for number, place in enumerate(places)
        if place.is_dir() and place.resolve() not in [other.resolve() for other in places[:number]]
    ]


def all_studies() -> Iterator[tuple[str, Path]]:
    """Name and folder of every study, sorted by name. Of two with one name, that of the working folder is used."""
    found: dict[str, Path] = {}
    for place in experiments_folders():
        for path in place.rglob(FILE):
            found.setdefault(path.parent.relative_to(place).as_posix(), path.parent)
    yield from sorted(found.items())


def refuse_ambiguous(name: str) -> None:
    """Raises InputError where a name means both a study of ``experiments/`` and another study in a folder here."""
    known = dict(all_studies()).get(name)
    if known is not None and (Path(name) / FILE).is_file() and Path(name).resolve() != known.resolve():
        raise InputError(
            f"'{name}' is a study in {known} and a folder here; name one of them by its path: {known} or ./{name}"
        )


def _name_of(folder: Path, known: Container[str]) -> str:
    """A unique name for a study outside ``experiments/``: its relative path. If that leaves the working folder or is
    another study's name, its folder name with six digits of a hash of the whole path."""
    here = Path.cwd().resolve()
    path = folder.relative_to(here).as_posix() if here in folder.parents else None
    return (
        path
        if path is not None and path not in known
        else f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:6]}"
    )


def find(name: str) -> tuple[str, Path]:
    """The name and the folder of a study, from a name or path.

    Args:
        name: below ``experiments/``, or the path of any folder that holds a study.yaml.

    Raises:
        InputError: there is none.
    """
    known = dict(all_studies())
    if name in known:
        return name, known[name]
    folder = Path(name).parent if Path(name).name == FILE else Path(name)
    if (folder / FILE).is_file():
        for known_name, place in known.items():
            if place.resolve() == folder.resolve():
                return known_name, place
        return _name_of(folder.resolve(), known), folder
    if folder.is_dir() and str(name) not in (".", ""):
        raise InputError(f"{folder} holds no {FILE}; kdlab/studies/README.md shows one")
    if not known:
        raise InputError(
            f"there is no study '{name}': the studies are in experiments/ of kdlab's repository, and an installed "
            f"package does not contain them; clone the repository, or name a folder that holds a {FILE}"
        )
    raise InputError(
        f"there is no study '{name}'{did_you_mean(name, known)} (there are {', '.join(known)}; kdlab reproduce --list "
        "shows them)"
    )
