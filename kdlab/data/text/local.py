"""Texts in files on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdlab.errors import InputError

from .files import Reading, Table, read_table
from .sources import FileSource, Source
from .texts import TextData


class TextFiles(TextData):
    """Texts with labels from CSV, TSV, JSON lines, Parquet or plain text files, by their endings.

    Args:
        train: the file of the training samples.
        test: of the test samples; None: a part of train (``test_fraction``).
        validation_file: of the validation samples; None: a part of train (``validation``).
        unlabelled: of further training samples without labels, for terms that learn from a teacher.
        encoding, errors, columns, quotes: how files are read (:class:`kdlab.data.text.files.Reading`).
        options: those of :class:`TextData`.
    """

    def __init__(
        self,
        train: str,
        test: str | None = None,
        validation_file: str | None = None,
        unlabelled: str | None = None,
        encoding: str = "utf-8",
        errors: str = "strict",
        columns: Sequence[str] | None = None,
        quotes: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._check_unlabelled("unlabelled", unlabelled)
        self.reading = Reading(encoding, errors, columns, quotes, self.text)
        self.files = {
            name: path
            for name, path in (
                ("train", train),
                ("validation", validation_file),
                ("test", test),
                ("unlabelled", unlabelled),
            )
            if path is not None
        }

    def tables(self) -> dict[str, Table]:
        """The files as tables.

        Raises:
            InputError: a file is missing or damaged, or a package that reads it is not installed; all are listed.
        """
        found, problems = {}, []
        for name, path in self.files.items():
            try:
                found[name] = read_table(self.keys[name], path, self.reading)
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(*problems)
        return found

    def sources(self) -> dict[str, Source]:
        """The files, to be read a block at a time."""
        wanted = [column for column in (self.text, self.text_pair) if column is not None]
        return {name: FileSource(self.keys[name], path, self.reading, wanted) for name, path in self.files.items()}
