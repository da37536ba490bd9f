"""Tokens of texts that need not fit into memory: made a block at a time, and kept in arrays that are mapped from disk.

A folder of tokens holds four arrays (:data:`ARRAYS`) and ``tokens.json``: what decides the tokens, and how many rows
are done. After each block the arrays grow; ``tokens.json`` follows every few seconds. If a process ends before, the
next one cuts the arrays to what ``tokens.json`` says, and goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from kdlab.errors import InputError
from kdlab.runs.files import write_json

from .causal_tokens import CausalTokenising, chat_of, labels_of, no_chats, predicted_counts, some
from .files import NAMED, Table, numbered
from .rows import DROP_THEM, NONE_LEFT, Columns, no_text, of_other_types, other_type, without_text
from .sources import Source, some_rows
from .tokens import Tokens
from .views import Mapped

_FORMAT = 1
_NOTED = "tokens.json"
_SECONDS = 2.0  # between two notes of what is done
_TOLD = 30.0  # between two lines that say so

#: the tokens; 1 where a token is to be predicted; where each text ends; how many of its tokens are to be predicted
ARRAYS = {"ids": "<i4", "counts": "|i1", "ends": "<i8", "predicted": "<i4"}


@dataclass(frozen=True)
class Done:
    """What is done of a source.

    Args:
        rows, texts, tokens: how many.
        unit: what numbers of rows count.
        dropped: rows without a text.
        cut: texts that were longer than the length.
        unpredicted: texts without a token to predict.
        some_unpredicted: the numbers of the first of their rows.
        pad, vocabulary: as of :class:`Tokens`.
        complete: nothing is left to do.
    """

    rows: int = 0
    texts: int = 0
    tokens: int = 0
    unit: str = "row"
    dropped: int = 0
    cut: int = 0
    unpredicted: int = 0
    some_unpredicted: list[int] = field(default_factory=list)
    pad: int = 0
    vocabulary: int = 0
    complete: bool = False

    def sizes(self) -> dict[str, int]:
        """Bytes of each array."""
        items = {"ids": self.tokens, "counts": self.tokens, "ends": self.texts, "predicted": self.texts}
        return {name: items[name] * np.dtype(kind).itemsize for name, kind in ARRAYS.items()}


@dataclass(frozen=True)
class Kept:
    """Tokens on disk.

    Args:
        tokens: of all texts; ``types`` is 1 where a token is to be predicted.
        predicted: how many tokens of each text are to be predicted, ``(N,)``.
        done: how many rows there were.
    """

    tokens: Tokens
    predicted: Tensor
    done: Done


class TokensOnDisk:
    """The tokens of one source.

    Args:
        folder: where tokens are kept.
        source: the rows.
        columns: those of the texts.
        faulty: what is done with rows without a text: ``refuse``, or ``drop`` them.
        tokenising: how texts become tokens.

    Attributes:
        checked: all rows were read, and none is refused.
    """

    def __init__(
        self, folder: Path, source: Source, columns: Columns, faulty: str, tokenising: CausalTokenising
    ) -> None:
        self.folder, self.source, self.columns = folder, source, columns
        self.faulty, self.tokenising = faulty, tokenising
        self.checked = False

    @cached_property
    def _described(self) -> dict[str, Any]:
        """What decides the tokens. Which rows are refused does not."""
        how = self.tokenising.described()
        if self.tokenising.whole:  # then texts are not cut
            del how["length"]
        found = {**how, "on_disk": _FORMAT, "rows": self.source.identity(), **asdict(self.columns)}
        return json.loads(json.dumps(found))

    @cached_property
    def path(self) -> Path:
        """The folder of these tokens."""
        text = json.dumps(self._described, sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    # -- checks --------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Read all rows once, unless that was done before.

        Raises:
            InputError: the rows cannot be read, there is no such column, or rows are refused.
        """
        done = self._done()
        known = done is not None and (self.faulty == "drop" or done.complete and not done.dropped)
        if not self.checked and not known:
            self._check_rows()
        self.checked = True

    def _check_rows(self) -> None:
        empty, other, chats = array("q"), array("q"), array("q")
        example: object = None
        names: dict[str, None] = {}
        count, unit = 0, "row"
        for block in self.source.blocks():
            count, unit = count + len(block), block.unit
            names |= dict.fromkeys(block.columns)
            texts, pairs = self._texts(block)
            empty.extend(block.numbers[row] for row in without_text(texts, pairs))
            for values in (texts, pairs or ()) if self.tokenising.form != "messages" else ():
                wrong = of_other_types(values, False)
                example = values[wrong[0]] if wrong and not other else example
                other.extend(block.numbers[row] for row in wrong)
            if self.tokenising.form == "messages":
                without = {*without_text(texts, None)}
                chats.extend(
                    block.numbers[row]
                    for row, value in enumerate(texts)
                    if row not in without and chat_of(value) is None
                )
        if not count:
            raise InputError(f"{self.source.key}: it holds no rows")
        whole = Table(self.source.name, dict.fromkeys(names, ()), (), unit)
        whole.column("data.text", self.columns.text)
        if self.columns.text_pair is not None:
            whole.column("data.text_pair", self.columns.text_pair)
        if empty and (self.faulty == "refuse" or len(empty) == count):
            end = DROP_THEM if self.faulty == "refuse" else NONE_LEFT
            raise InputError(f"{no_text(self.columns.text, self._places(unit, empty))}{end}")
        if other:
            raise other_type(f"data.text={self.columns.text}", self._places(unit, other), example)
        if chats:
            raise no_chats(self.columns.text, self._places(unit, chats))

    def _places(self, unit: str, numbers: Sequence[int], count: int | None = None) -> str:
        return f"{self.source.name}, {numbered(unit, numbers, count)}"

    def unpredicted(self, done: Done) -> str:
        """Where texts are that have no token to predict, in words."""
        return self._places(done.unit, done.some_unpredicted, done.unpredicted)

    def _texts(self, block: Table) -> tuple[Sequence, Sequence | None]:
        """The texts of a block, and the second text of each pair. They are missing in a block that lacks the column."""
        missing = [None] * len(block)
        texts = block.columns.get(self.columns.text, missing)
        pair = self.columns.text_pair
        return texts, None if pair is None else block.columns.get(pair, missing)

    # -- tokens --------------------------------------------------------------------------------------------------------

    def made(self) -> Kept:
        """The tokens, made now as far as they are not kept. Another process that makes them is waited for.

        Raises:
            InputError: they cannot be made, or not be written. What is done by then is kept.
        """
        self.check()
        self.tokenising.checked()  # also for tokens that are kept: packed rows may have another length now
        done = self._done()
        if done is None or not done.complete:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                with FileLock(self.path / "lock"):
                    done = self._finish(self._done() or Done())
            except OSError as error:
                raise self._not_kept(error) from error
        return self._mapped(done)

    def _not_kept(self, error: OSError) -> InputError:
        done = self._done()
        kept = f"; those of {done.rows:,} rows are kept, and are not made again" if done and done.rows else ""
        return InputError(
            f"data.folder={self.folder.parent}: the tokens of {self.source.key} cannot be written "
            f"({error.strerror or error}){kept}. Free some space, or name another folder: data.folder=FOLDER; texts "
            "that fit into memory need none: data.in_memory=true"
        )

    def _done(self) -> Done | None:
        """What is done; None if nothing is, or if the arrays are shorter than they should be."""
        try:
            noted = json.loads((self.path / _NOTED).read_text(encoding="utf-8"))
            if noted.pop("tokens_of") != self._described:
                return None
            done = Done(**noted)
            sizes = {name: (self.path / name).stat().st_size for name in ARRAYS}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        wanted = done.sizes()
        fits = sizes == wanted if done.complete else all(sizes[name] >= wanted[name] for name in ARRAYS)
        return done if fits else None

    def _finish(self, done: Done) -> Done:
        """Make the tokens of all rows that are not done."""
        if done.complete:  # another process has made them
            return done
        with contextlib.ExitStack() as stack:
            files = {
                name: stack.enter_context(FileIO(os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o666), "r+"))
                for name in ARRAYS
            }
            _cut(files, done)  # what was written after the last note is made again
            noted = told = time.monotonic()
            seen = 0
            try:
                for block in self.source.blocks():
                    begin, seen = seen, seen + len(block)
                    if seen <= done.rows:
                        continue
                    done = self._add(files, done, some_rows(block, max(done.rows - begin, 0)))
                    if time.monotonic() - noted >= _SECONDS:
                        self._note(files, done)
                        noted = time.monotonic()
                    if time.monotonic() - told >= _TOLD:
                        print(f"{self.source.key}: {done.rows:,} rows are tokenised", file=sys.stderr, flush=True)
                        told = time.monotonic()
                complete = replace(done, complete=True)
                self._note(files, complete)
            except BaseException:  # an interrupted process, a full disk: whole blocks are kept
                with contextlib.suppress(OSError):
                    _cut(files, done)
                    self._note(files, done)
                raise
        return complete

    def _add(self, files: Mapping[str, FileIO], done: Done, block: Table) -> Done:
        """Append the tokens of a block. Returns what is done then."""
        texts, pairs = self._texts(block)
        empty = {*without_text(texts, pairs)}
        used = [row for row in range(len(block)) if row not in empty]
        then = replace(done, rows=done.rows + len(block), dropped=done.dropped + len(empty), unit=block.unit)
        if used:
            found = replace(self.tokenising, first=done.texts).made(*self._as_text(used, texts, pairs))
            labels = labels_of(found)
            predicted = predicted_counts(labels)
            arrays = {
                "ids": found.ids.values,
                "counts": some(found.types).values,
                "ends": found.ids.ends + done.tokens,
                "predicted": predicted,
            }
            for name, kind in ARRAYS.items():
                _write(files[name], arrays[name].numpy().astype(kind, copy=False))
            without = (predicted == 0).nonzero().flatten().tolist()
            room = max(NAMED - len(done.some_unpredicted), 0)
            then = replace(
                then,
                tokens=done.tokens + len(found.ids.values),
                texts=done.texts + len(found),
                cut=done.cut + found.cut,
                unpredicted=done.unpredicted + len(without),
                some_unpredicted=[*done.some_unpredicted, *(int(block.numbers[used[row]]) for row in without[:room])],
                pad=found.pad,
                vocabulary=found.vocabulary,
            )
        return then

    def _as_text(
        self, used: Sequence[int], texts: Sequence, pairs: Sequence | None
    ) -> tuple[list[str], list[str] | None]:
        """The given rows as they are tokenised."""
        if self.tokenising.form == "messages":
            return [str(chat_of(texts[row])) for row in used], None
        return [str(texts[row]) for row in used], None if pairs is None else [str(pairs[row]) for row in used]

    def _note(self, files: Mapping[str, FileIO], done: Done) -> None:
        """Write down what is done, after that is on the disk."""
        for file in files.values():
            os.fsync(file.fileno())
        write_json(self.path / _NOTED, {"tokens_of": self._described, **asdict(done)})

    def _mapped(self, done: Done) -> Kept:
        ends = torch.from_numpy(np.fromfile(self.path / "ends", ARRAYS["ends"]))
        predicted = torch.from_numpy(np.fromfile(self.path / "predicted", ARRAYS["predicted"]))
        ids, counts = (
            Mapped(np.memmap(self.path / name, ARRAYS[name], "r") if done.tokens else np.empty(0, ARRAYS[name]), ends)
            for name in ("ids", "counts")
        )
        return Kept(Tokens(ids, counts, None, done.pad, done.vocabulary, done.cut), predicted, done)


def _cut(files: Mapping[str, FileIO], done: Done) -> None:
    """Leave what is done of the arrays."""
    for name, size in done.sizes().items():
        files[name].truncate(size)
        files[name].seek(size)


def _write(file: FileIO, values: np.ndarray) -> None:
    """Append values. Nothing is buffered, so an error leaves nothing that is written later."""
    rest = np.ascontiguousarray(values).data.cast("B")
    while rest:
        rest = rest[file.write(rest) :]
