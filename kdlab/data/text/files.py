"""Files of texts as tables: CSV, TSV, JSON lines, Parquet and plain text."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.errors import InputError, did_you_mean

#: ending -> how the file is read
KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".txt": "txt",
}
NAMED = 5  # faulty rows that a message names


@dataclass(frozen=True)
class Table:
    """Named columns of one file.

    Args:
        source: the file, or whatever else the rows come from, for messages.
        columns: name -> its values, one a row.
        numbers: of each row in the source, from 1.
        unit: what ``numbers`` count: ``line`` of a text file (its header is line 1), or ``row``.
    """

    source: str
    columns: dict[str, Sequence[Any]]
    numbers: Sequence[int]
    unit: str = "row"

    def __len__(self) -> int:
        return len(self.numbers)

    def column(self, key: str, name: str) -> Sequence[Any]:
        """The values of a column.

        Args:
            key: the option that names it, for the message.

        Raises:
            InputError: there is no such column.
        """
        if name in self.columns:
            return self.columns[name]
        raise InputError(
            f"{key}={name}: {self.source} has no column '{name}' (it has {', '.join(self.columns)})"
            f"{did_you_mean(name, self.columns)}"
        )

    def places(self, rows: Sequence[int]) -> str:
        """Rows in words, for messages.

        >>> Table("a.csv", {}, range(2, 100), "line").places([0, 1, 2, 3, 4, 5, 6])
        'a.csv, lines 2, 3, 4, 5, 6 and 2 more'
        """
        return f"{self.source}, {numbered(self.unit, [self.numbers[row] for row in rows])}"


def numbered(unit: str, numbers: Sequence[int], count: int | None = None) -> str:
    """Numbers of lines or rows: the first few, and how many more there are.

    Args:
        count: how many there are; None: as many as ``numbers``.

    >>> numbered("line", [7]), numbered("row", [7, 9])
    ('line 7', 'rows 7, 9')
    """
    count = len(numbers) if count is None else count
    more = f" and {count - NAMED:,} more" if count > NAMED else ""
    return f"{unit}{'s' if count > 1 else ''} {', '.join(map(str, numbers[:NAMED]))}{more}"


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        encoding: of text files.
        errors: what is done with bytes that are not of this encoding: ``strict`` refuses them, ``replace`` puts U+FFFD
            in their place, ``ignore`` leaves them out.
        columns: the names of the columns of a CSV or TSV file without a header line; None: its first line is the
            header.
        quotes: whether fields of a CSV or TSV file may be quoted. None: those of CSV are, those of TSV are not, as in
            GLUE.
        text: the column of a plain text file.
    """

    encoding: str = "utf-8"
    errors: str = "strict"
    columns: Sequence[str] | None = None
    quotes: bool | None = None
    text: str = "text"


def read_table(key: str, path: str, reading: Reading) -> Table:
    """The table in a file; its kind follows from the file's ending (:data:`KINDS`).

    Args:
        key: the option that names the file, for messages.

    Raises:
        InputError: the file is missing, of unknown kind, empty or damaged; a package for it is not installed.
    """
    kind = kind_of(key, path)
    try:
        if kind == "parquet":
            table = _parquet(key, path)
        else:
            content = _decoded(key, path, reading)
            table = (
                {"json": _json, "txt": _txt}[kind](key, path, content, reading)
                if kind in ("json", "txt")
                else (_separated(key, path, content, reading, kind))
            )
    except OSError as error:
        raise unreadable(key, path, error) from error
    if not len(table):
        raise no_rows(key, path)
    return table


def kind_of(key: str, path: str) -> str:
    """The kind of a file, a value of :data:`KINDS`. Raises InputError where it is missing, or of unknown kind."""
    file = Path(path)
    if file.is_dir():
        raise InputError(f"{key}={path}: this is a folder; name a file ({', '.join(KINDS)})")
    if not file.is_file():
        raise InputError(f"{key}={path}: there is no such file{_neighbour(file)}")
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise InputError(
            f"{key}={path}: the kind of a file follows from its ending, and '{file.suffix}' is not known; known are "
            f"{', '.join(KINDS)}"
        )
    return kind


def unreadable(key: str, path: str, error: OSError) -> InputError:
    """The error for a file that cannot be read."""
    return InputError(f"{key}={path}: it cannot be read ({error.strerror or error})")


def no_rows(key: str, path: str) -> InputError:
    """The error for a file without rows."""
    return InputError(f"{key}={path}: the file holds no rows")


def _neighbour(file: Path) -> str:
    """A hint at a file with a similar name, or at the folder that is missing."""
    if not file.parent.is_dir():
        return f"; there is no folder {file.parent}"
    return did_you_mean(file.name, [one.name for one in file.parent.iterdir() if one.suffix.lower() in KINDS])


def _decoded(key: str, path: str, reading: Reading) -> str:
    """The content of a text file, without a byte order mark."""
    content = Path(path).read_bytes()
    try:
        text = content.decode(reading.encoding, reading.errors)
    except UnicodeDecodeError as error:
        lines = undecodable(content.split(b"\n"), reading.encoding) or [content.count(b"\n", 0, error.start) + 1]
        raise not_decodable(key, path, reading, lines) from error
    except LookupError as error:
        raise unknown_encoding(reading, error) from error
    return text.removeprefix("\ufeff")


def not_decodable(key: str, path: str, reading: Reading, lines: Sequence[int]) -> InputError:
    """The error for a file with bytes that are not of its encoding, on the given lines."""
    cures = ["data.errors=replace"]
    if reading.encoding.lower().replace("_", "-") != "latin-1":
        cures.insert(0, "data.encoding=latin-1 (if that is its encoding)")
    return InputError(
        f"{key}={path}: {numbered('line', lines)}: bytes that are not data.encoding={reading.encoding}; "
        f"{', or '.join(cures)}"
    )


def unknown_encoding(reading: Reading, error: LookupError) -> InputError:
    """The error for an encoding, or a way to treat errors, that does not exist."""
    return InputError(
        f"data.encoding={reading.encoding}, data.errors={reading.errors}: {error}; for example data.encoding=utf-8 "
        "data.errors=strict"
    )


def undecodable(lines: Iterable[bytes], encoding: str) -> list[int]:
    """The numbers of the lines that cannot be decoded."""
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            found.append(number)
    return found


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Lets a field of a CSV file be longer than 131,072 characters."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


class SeparatedRows:
    """The rows of a CSV or TSV file, each with the line on which it begins.

    Args:
        lines: of the file, with their ends.
        kind: ``csv`` or ``tsv``.

    Attributes:
        names: of the columns; None before the first row.
    """

    def __init__(self, key: str, path: str, lines: Iterable[str], reading: Reading, kind: str) -> None:
        self.key, self.path, self.reading, self.kind = key, path, reading, kind
        quoted = quotes_fields(reading, kind)
        self._reader = csv.reader(
            lines if quoted else without_ends(lines),
            delimiter="," if kind == "csv" else "\t",
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=True,
        )
        self.names = None if reading.columns is None else list(reading.columns)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """The rows. Raises InputError after the last one if any had another number of fields."""
        wrong, line = [], 1
        with _long_fields():
            try:
                for fields in self._reader:
                    begin, line = line, self._reader.line_num + 1
                    if not fields:
                        continue
                    if self.names is None:
                        self.names = fields
                    elif len(fields) != len(self.names):
                        wrong.append((begin, len(fields)))
                    else:
                        yield begin, fields
            except csv.Error as error:
                raise InputError(
                    f"{self.key}={self.path}: line {self._reader.line_num}: {error}; data.quotes=false reads quotation "
                    "marks as they are"
                ) from error
        self._check(wrong)

    def _check(self, wrong: list[tuple[int, int]]) -> None:
        names, place = self.names or [], f"{self.key}={self.path}"
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            whose = "the header of the file" if self.reading.columns is None else "data.columns"
            raise InputError(f"{place}: {whose} names the column '{twice}' twice; data.columns=[…] names them")
        if wrong:
            whose = "its header has" if self.reading.columns is None else "data.columns names"
            cure = (
                "put quotation marks around fields that hold a comma"
                if self.kind == "csv"
                else "a field must hold no tab, unless data.quotes=true and it has quotation marks"
            )
            raise InputError(
                f"{place}: {numbered('line', [number for number, _ in wrong])}: {wrong[0][1]} "
                f"field{'s' if wrong[0][1] > 1 else ''}, and {whose} {len(names)}; {cure}"
            )


def quotes_fields(reading: Reading, kind: str) -> bool:
    """Whether fields of a file may be quoted."""
    return kind == "csv" if reading.quotes is None else reading.quotes


def without_ends(lines: Iterable[str]) -> Iterator[str]:
    r"""Lines without ``\n`` or ``\r\n``.

    >>> [*without_ends(["a\r\n", "b\n", "c\r"])]
    ['a', 'b', 'c\r']
    """
    for line in lines:
        yield line[:-2] if line.endswith("\r\n") else line[:-1] if line.endswith("\n") else line


def _separated(key: str, path: str, content: str, reading: Reading, kind: str) -> Table:
    quoted = quotes_fields(reading, kind)
    found = SeparatedRows(key, path, io.StringIO(content, newline="" if quoted else "\n"), reading, kind)
    numbers, rows = [], []
    for number, fields in found:
        numbers.append(number)
        rows.append(fields)
    names = found.names or []
    columns = list(zip(*rows)) if rows else [()] * len(names)
    return Table(path, dict(zip(names, columns)), numbers, "line")


def _lines(content: str) -> list[str]:
    lines = content.replace("\r\n", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _txt(key: str, path: str, content: str, reading: Reading) -> Table:
    lines = _lines(content)
    return Table(path, {reading.text: lines}, range(1, len(lines) + 1), "line")


def _json(key: str, path: str, content: str, reading: Reading) -> Table:
    """JSON lines, or one list of objects."""
    records, unit = [], "line"
    if content.lstrip().startswith("["):
        unit = "row"
        try:
            records = list(enumerate(json.loads(content), start=1))
        except ValueError as error:
            raise InputError(f"{key}={path}: it is no JSON ({error})") from error
    else:
        for number, line in enumerate(_lines(content), start=1):
            if line.strip():
                try:
                    records.append((number, json.loads(line)))
                except ValueError as error:
                    raise InputError(f"{key}={path}: line {number} is no JSON ({error})") from error
    wrong = [number for number, record in records if not isinstance(record, dict)]
    if wrong:
        raise InputError(f"{key}={path}: {numbered(unit, wrong)}: no JSON object with named values")
    names = dict.fromkeys(name for _, record in records for name in record)
    columns: dict[str, Sequence[Any]] = {name: [record.get(name) for _, record in records] for name in names}
    return Table(path, columns, [number for number, _ in records], unit)


def _parquet(key: str, path: str) -> Table:
    with parquet_errors(key, path):
        from pyarrow import parquet

        found = parquet.read_table(path)
    columns: dict[str, Sequence[Any]] = {name: found.column(name).to_pylist() for name in found.column_names}
    return Table(path, columns, range(1, found.num_rows + 1))


@contextlib.contextmanager
def parquet_errors(key: str, path: str) -> Iterator[None]:
    """Raises InputError where pyarrow is missing, or cannot read a file."""
    try:
        import pyarrow
    except ImportError as error:
        raise InputError(f"{key}={path}: Parquet files need pyarrow: pip install 'kdlab[text]'") from error
    try:
        yield
    except pyarrow.ArrowException as error:
        raise InputError(f"{key}={path}: it is no Parquet file, or damaged ({str(error).splitlines()[0]})") from error
