"""Rows of texts that are read a block at a time: a file may be larger than memory."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kdlab.errors import InputError
from kdlab.runs.files import content_hash

from .files import (
    Reading,
    SeparatedRows,
    Table,
    kind_of,
    not_decodable,
    numbered,
    parquet_errors,
    quotes_fields,
    read_table,
    undecodable,
    unknown_encoding,
    unreadable,
    without_ends,
)

CHARACTERS = 2**20  # a block is full when it has so many, or so many rows
ROWS = 10_000
_PARQUET_ROWS = 500  # that are read at a time: the length of their texts is not known before

Row = TypeVar("Row")


class Source(ABC):
    """Rows in a file, or in a split of a data set, in a fixed order."""

    @property
    @abstractmethod
    def key(self) -> str:
        """The option that names it, with its value, for messages."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As :attr:`kdlab.data.text.files.Table.source`."""

    @property
    @abstractmethod
    def size(self) -> int:
        """About how many bytes the texts have."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What decides the rows."""

    @abstractmethod
    def blocks(self) -> Iterator[Table]:
        """The rows, in tables of some rows each. A column that no row of a block has may be missing there. Raises
        InputError where they cannot be read."""


@dataclass(frozen=True)
class FileSource(Source):
    """The rows of a file (:func:`kdlab.data.text.files.read_table`). A JSON file that is one list is read as a whole.

    Args:
        option: the option that names the file.
        path: the file.
        reading: how it is read.
        wanted: the columns that are read of a Parquet file.
    """

    option: str
    path: str
    reading: Reading
    wanted: Sequence[str]

    @property
    def key(self) -> str:
        """The option with its value."""
        return f"{self.option}={self.path}"

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    @property
    def size(self) -> int:
        """Bytes of the file; 0 if there is none."""
        try:
            return Path(self.path).stat().st_size
        except OSError:
            return 0

    def identity(self) -> dict[str, Any]:
        """SHA-256 of the file, and how it is read."""
        kind, reading = kind_of(self.option, self.path), self.reading
        try:
            found: dict[str, Any] = {"file": content_hash(Path(self.path)), "kind": kind}
        except OSError as error:
            raise unreadable(self.option, self.path, error) from error
        if kind != "parquet":
            found |= {"encoding": reading.encoding, "errors": reading.errors}
        if kind in ("csv", "tsv"):
            columns = None if reading.columns is None else list(reading.columns)
            found |= {"columns": columns, "quotes": quotes_fields(reading, kind)}
        return found

    def blocks(self) -> Iterator[Table]:
        """The rows of the file. Raises InputError as :func:`kdlab.data.text.files.read_table` does."""
        kind = kind_of(self.option, self.path)
        found = {"parquet": self._parquet, "json": self._json, "txt": self._txt}.get(kind)
        try:
            yield from self._separated(kind) if found is None else found()
        except OSError as error:
            raise unreadable(self.option, self.path, error) from error

    def _lines(self, newline: str = "\n") -> Iterator[str]:
        """The lines of a text file with their ends, without a byte order mark."""
        reading = self.reading
        try:
            with open(self.path, encoding=reading.encoding, errors=reading.errors, newline=newline) as file:
                for number, line in enumerate(file):
                    yield line if number else line.removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            with open(self.path, "rb") as binary:
                wrong = undecodable(binary, reading.encoding)
            raise not_decodable(self.option, self.path, reading, wrong or [1]) from error
        except LookupError as error:
            raise unknown_encoding(reading, error) from error

    def _separated(self, kind: str) -> Iterator[Table]:
        quoted = quotes_fields(self.reading, kind)
        rows = SeparatedRows(self.option, self.path, self._lines("" if quoted else "\n"), self.reading, kind)
        for numbers, fields in in_blocks((number, one, sum(map(len, one))) for number, one in rows):
            yield Table(self.path, dict(zip(rows.names or [], zip(*fields))), numbers, "line")

    def _txt(self) -> Iterator[Table]:
        lines = without_blank_end(without_ends(self._lines()))
        for numbers, texts in in_blocks((number, line, len(line)) for number, line in enumerate(lines, start=1)):
            yield Table(self.path, {self.reading.text: texts}, numbers, "line")

    def _json(self) -> Iterator[Table]:
        first = next((line for line in self._lines() if line.strip()), "")
        if first.lstrip().startswith("["):  # one list, which no library of Python's own reads in parts
            whole = read_table(self.option, self.path, self.reading)
            for begin in range(0, len(whole), ROWS):
                yield some_rows(whole, begin, begin + ROWS)
            return
        wrong: list[int] = []
        for numbers, records in in_blocks(self._records(wrong)):
            names = dict.fromkeys(name for record in records for name in record)
            columns: dict[str, Sequence[Any]] = {name: [record.get(name) for record in records] for name in names}
            yield Table(self.path, columns, numbers, "line")
        if wrong:
            raise InputError(f"{self.key}: {numbered('line', wrong)}: no JSON object with named values")

    def _records(self, wrong: list[int]) -> Iterator[tuple[int, dict, int]]:
        """The objects of JSON lines, with their lines and lengths. The lines that hold no object are added to
        ``wrong``."""
        for number, line in enumerate(without_ends(self._lines()), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InputError(f"{self.key}: line {number} is no JSON ({error})") from error
            if isinstance(record, dict):
                yield number, record, len(line)
            else:
                wrong.append(number)

    def _parquet(self) -> Iterator[Table]:
        with parquet_errors(self.option, self.path):
            from pyarrow import parquet

            with parquet.ParquetFile(self.path) as file:
                names, done = file.schema_arrow.names, 0
                wanted = [name for name in self.wanted if name in names] or names[:1]
                for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=wanted):
                    columns: dict[str, Sequence[Any]] = dict.fromkeys(names, ())
                    columns |= {name: batch.column(name).to_pylist() for name in wanted}
                    yield Table(self.path, columns, range(done + 1, done + batch.num_rows + 1))
                    done += batch.num_rows


def in_blocks(rows: Iterable[tuple[int, Row, int]]) -> Iterator[tuple[list[int], list[Row]]]:
    """Numbers and values of rows, some rows at a time.

    Args:
        rows: the number of each row, its value, and how many characters that has.
    """
    numbers: list[int] = []
    values: list[Row] = []
    size = 0
    for number, value, length in rows:
        numbers.append(number)
        values.append(value)
        size += length
        if size >= CHARACTERS or len(values) >= ROWS:
            yield numbers, values
            numbers, values, size = [], [], 0
    if values:
        yield numbers, values


def without_blank_end(lines: Iterable[str]) -> Iterator[str]:
    """Lines without the blank ones at the end.

    >>> [*without_blank_end(["a", "", "b", " ", ""])]
    ['a', '', 'b']
    """
    blank: list[str] = []
    for line in lines:
        blank.append(line)
        if line.strip():
            yield from blank
            blank = []


def some_rows(table: Table, begin: int, end: int | None = None) -> Table:
    """The rows of a table from one to another. Columns that were not read stay so."""
    columns = {name: values[begin:end] for name, values in table.columns.items()}
    return Table(table.source, columns, table.numbers[begin:end], table.unit)
