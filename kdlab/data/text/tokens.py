"""Tokens of texts: made once, kept in a file, verified when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlab.errors import InputError
from kdlab.runs.files import write_atomically

from .tokenizers import Tokenizer, quiet

_FORMAT = 1  # of the file
_AT_ONCE = 1000  # texts that are tokenised in one call
_FACTS = ("pad", "vocabulary", "cut")  # of tokens, beside the tensors


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length in one tensor.

    Args:
        values: all rows, one after another.
        ends: where each row ends, ``(N,)``, int64.

    >>> rows = Ragged(torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([2, 3, 6]))
    >>> rows.padded(torch.tensor([2, 1]), 3, fill=0).tolist()
    [[4, 5, 6], [3, 0, 0]]
    >>> rows.take(torch.tensor([2, 0])).values.tolist()
    [4, 5, 6, 1, 2]
    """

    values: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def lengths(self) -> Tensor:
        """Of each row, ``(N,)``."""
        return self.ends.diff(prepend=self.ends.new_zeros(1))

    def _places(self, rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Where the values of rows are, ``(B, width)``, and which of these places are filled."""
        lengths = self.lengths[rows]
        steps = torch.arange(width)
        filled = steps < lengths[:, None]
        return ((self.ends[rows] - lengths)[:, None] + steps).masked_fill(~filled, 0), filled

    def padded(self, rows: Tensor, width: int, fill: int) -> Tensor:
        """Rows as a matrix ``(B, width)``, int64, filled up on the right."""
        if not len(self.values):
            return torch.full((len(rows), width), fill, dtype=torch.int64)
        places, filled = self._places(rows, width)
        return self.values[places].to(torch.int64).masked_fill(~filled, fill)

    def take(self, rows: Tensor) -> Ragged:
        """The given rows, in this order."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum(0)
        begins = (self.ends[rows] - lengths).repeat_interleave(lengths)
        steps = torch.arange(int(lengths.sum())) - (ends - lengths).repeat_interleave(lengths)
        return Ragged(self.values[begins + steps], ends)

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    def blocks(self) -> Iterator[Tensor]:
        """The values of all rows, one after another, in parts."""
        yield self.values

    def joined(self, other: Ragged) -> Ragged:
        """These rows, and those of another after them."""
        return Ragged(torch.cat([self.values, other.values]), torch.cat([self.ends, other.ends + len(self.values)]))


@dataclass(frozen=True)
class Tokens:
    """The tokens of texts.

    Args:
        ids: of each text, int32.
        types: 0 for the first text of a pair, 1 for the second, int8; None if the tokenizer makes none.
        words: the number of the word that each token is a part of, -1 for special tokens, int32; None if the texts were
            no lists of words.
        pad: the number of the pad token.
        vocabulary: how many tokens the tokenizer has.
        cut: how many texts were longer than the length, and were cut.
    """

    ids: Ragged
    types: Ragged | None
    words: Ragged | None
    pad: int
    vocabulary: int
    cut: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> Tokens:
        """Those of the given texts."""
        return self._map(lambda one: one.take(rows))

    def joined(self, other: Tokens) -> Tokens:
        """These, and those of other texts after them."""
        return replace(
            self,
            ids=self.ids.joined(other.ids),
            types=None if self.types is None or other.types is None else self.types.joined(other.types),
            words=None if self.words is None or other.words is None else self.words.joined(other.words),
            cut=self.cut + other.cut,
        )

    def _map(self, change: Callable[[Ragged], Ragged]) -> Tokens:
        types, words = (None if one is None else change(one) for one in (self.types, self.words))
        return replace(self, ids=change(self.ids), types=types, words=words)

    def inputs(self, rows: Tensor, width: int) -> dict[str, Tensor]:
        """What a network gets of texts, filled up on the right to ``width`` tokens: ``input_ids``, ``attention_mask``
        and, where the tokenizer makes them, ``token_type_ids``; each ``(B, width)``, int64."""
        steps = torch.arange(width)
        found = {
            "input_ids": self.ids.padded(rows, width, self.pad),
            "attention_mask": (steps < self.ids.lengths[rows][:, None]).to(torch.int64),
        }
        if self.types is not None:
            found["token_type_ids"] = self.types.padded(rows, width, 0)
        return found


@dataclass(frozen=True)
class Tokenising:
    """How texts become tokens.

    Args:
        tokenizer: see :class:`Tokenizer`.
        length: the most tokens of a text, with the special ones.
        words: the texts are lists of words.
    """

    tokenizer: Tokenizer
    length: int
    words: bool = False

    def kept(self, folder: Path, texts: Sequence, pairs: Sequence | None) -> tuple[Tokens, str | None]:
        """The tokens of texts, from a file in ``folder`` if they were made before.

        Returns:
            The tokens; and why they could not be written, if so.

        Raises:
            InputError: the tokenizer cannot be used.
        """
        description = self._description(texts, pairs)
        key = hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
        path = folder / f"{key}.safetensors"
        found = _read(path, description)
        if found is not None:
            return found, None
        made = self.made(texts, pairs)
        try:
            write_atomically(path, lambda temporary: _write(temporary, made, description))
        except OSError as error:
            return made, f"{path}: {error.strerror or error}"
        return made, None

    def _description(self, texts: Sequence, pairs: Sequence | None) -> dict[str, Any]:
        """What decides the tokens. A file of tokens holds it."""
        digest = hashlib.sha256()
        for column in filter(None, (texts, pairs)):
            for text in column:
                encoded = ("\0".join(text) if self.words else text).encode("utf-8", "surrogatepass")
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return {
            **self.described(),
            "texts": digest.hexdigest(),
            "count": len(texts),
            "pairs": pairs is not None,
        }

    def described(self) -> dict[str, Any]:
        """What decides the tokens of a text."""
        return {
            **self.further(),
            "format": _FORMAT,
            "words": self.words,
            "length": self.length,
            "tokenizer": self.tokenizer.identity,
            "pad_token": self.tokenizer.pad_token,
            "libraries": [version("tokenizers"), version("transformers")],
        }

    def further(self) -> dict[str, Any]:
        """What else decides the tokens, of a subclass."""
        return {}

    def checked(self) -> Any:
        """The tokenizer. Raises InputError if it cannot be used, or is for shorter texts."""
        tokenizer, longest = self.tokenizer.loaded, self.tokenizer.longest
        if longest is not None and self.length > longest:
            raise InputError(
                f"data.length={self.length}: the tokenizer {self.tokenizer.name} is for at most {longest} tokens; "
                f"data.length={longest}"
            )
        return tokenizer

    def made(self, texts: Sequence, pairs: Sequence | None = None) -> Tokens:
        """The tokens of texts, made now.

        Raises:
            InputError: the tokenizer cannot be used, or is for shorter texts.
        """
        tokenizer = self.checked()
        special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
        if self.length <= special:
            raise InputError(
                f"data.length={self.length} leaves no room for text: the tokenizer adds {special} special tokens; for "
                "example data.length=128"
            )
        ids: list[list[int]] = []
        types: list[list[int]] = []
        words: list[list[int]] = []
        cut = 0
        with_types = "token_type_ids" in tokenizer.model_input_names
        with quiet():
            for begin in range(0, len(texts), _AT_ONCE):
                part = [list(texts[begin : begin + _AT_ONCE])]
                if pairs is not None:
                    part.append(list(pairs[begin : begin + _AT_ONCE]))
                options = {
                    "is_split_into_words": self.words,
                    "return_attention_mask": False,
                    "return_token_type_ids": with_types,
                }
                whole = tokenizer(*part, truncation=False, **options)
                found = whole
                if longer := sum(len(one) > self.length for one in whole["input_ids"]):
                    cut += longer
                    found = tokenizer(*part, truncation=True, max_length=self.length, **options)
                ids += found["input_ids"]
                if with_types:
                    types += found["token_type_ids"]
                if self.words:
                    count = len(found["input_ids"])
                    words += [[-1 if one is None else one for one in found.word_ids(row)] for row in range(count)]
        return Tokens(
            ragged(ids, torch.int32),
            ragged(types, torch.int8) if with_types else None,
            ragged(words, torch.int32) if self.words else None,
            int(tokenizer.pad_token_id),
            len(tokenizer),
            cut,
        )


def ragged(rows: Sequence[Sequence[int]], dtype: torch.dtype) -> Ragged:
    """Lists of numbers as :class:`Ragged`."""
    ends = torch.tensor([len(row) for row in rows], dtype=torch.int64).cumsum(0)
    return Ragged(torch.tensor([value for row in rows for value in row], dtype=dtype), ends)


def _tensors(tokens: Tokens) -> dict[str, Tensor]:
    found = {"ids": tokens.ids.values, "ends": tokens.ids.ends}
    for name in ("types", "words"):
        one = getattr(tokens, name)
        if one is not None:
            found[name] = one.values
    return found


def _digest(tensors: dict[str, Tensor], facts: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([facts[name] for name in _FACTS]).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0")
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(path: Path, tokens: Tokens, description: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    tensors = _tensors(tokens)
    facts = {name: getattr(tokens, name) for name in _FACTS}
    described = {**description, **facts, "digest": _digest(tensors, facts)}
    save_file(tensors, path, {"kdlab": json.dumps(described)})


def _read(path: Path, description: dict[str, Any]) -> Tokens | None:
    """The tokens in a file; None if there is none, or if it is damaged: then they are made again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("kdlab", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # no mapping
    except (OSError, ValueError, SafetensorError):
        return None
    if any(facts.get(name) != value for name, value in description.items()) or not set(_FACTS) <= set(facts):
        return None
    if facts.get("digest") != _digest(tensors, facts):
        return None
    ends = tensors["ends"]
    parts = {name: Ragged(tensors[name], ends) if name in tensors else None for name in ("types", "words")}
    return Tokens(
        Ragged(tensors["ids"], ends), parts["types"], parts["words"], facts["pad"], facts["vocabulary"], facts["cut"]
    )
