"""Tokenizers of Hugging Face: found, identified by the content of their own files, and loaded when they are needed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from kdlab.errors import InputError, did_you_mean
from kdlab.models.gguf import gguf_tokenizer, gguf_tokenizer_content, is_gguf
from kdlab.models.hub_names import is_path, why_not_there

#: the files of a tokenizer. Weights of a model in the same folder are none of them
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
)
_NO_LIMIT = 10**6  # a greater model_max_length means that none is known


def tokenizer_content(folder: Path) -> str:
    """SHA-256 of a tokenizer's own files in a folder, or of what a GGUF file says of its tokenizer, for a run's
    identity."""
    if is_gguf(str(folder)):
        return gguf_tokenizer_content(str(folder))
    return _digest({name: folder / name for name in FILES if (folder / name).is_file()}, folder / "config.json")


def _digest(files: dict[str, Path], config: Path | None) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].read_bytes() + b"\0")
    if config is not None and config.is_file() and not _names_its_class(files.get("tokenizer_config.json")):
        # then the kind of the model decides the class of the tokenizer
        with contextlib.suppress(ValueError):
            digest.update(str(json.loads(config.read_text(encoding="utf-8")).get("model_type")).encode())
    return digest.hexdigest()


def _names_its_class(file: Path | None) -> bool:
    if file is None:
        return False
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("tokenizer_class"))
    except ValueError:
        return False


class Tokenizer:
    """A tokenizer by its name, loaded on first use. Kept tokens are read without it.

    Args:
        key: the option that names it, for messages.
        name: a folder with a saved tokenizer (or a model with one), or a name on the Hugging Face hub.
        revision: branch, tag or commit of the hub.
        pad_token: one of its tokens that fills up short texts; None: its own.
    """

    def __init__(self, key: str, name: str, revision: str | None = None, pad_token: str | None = None):
        self.key, self.name, self.revision, self.pad_token = key, name, revision, pad_token

    @property
    def identity(self) -> str:
        """SHA-256 of its files."""
        folder = Path(self.name)
        if folder.is_dir() or is_gguf(self.name):
            return tokenizer_content(folder)
        found = self._on_this_machine()
        if not found:
            _ = self.unpadded  # which downloads it
            found = self._on_this_machine()
        config = found.pop("config.json", None)
        return _digest(found, config)

    def _on_this_machine(self) -> dict[str, Path]:
        """The files of the tokenizer of a hub name that are downloaded already."""
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        found = {}
        for name in (*FILES, "config.json"):
            try:
                path = try_to_load_from_cache(self.name, name, revision=self.revision)
            except HFValidationError:
                return {}
            if isinstance(path, str):
                found[name] = Path(path)
        return found if set(found) - {"config.json"} else {}

    @cached_property
    def loaded(self) -> Any:
        """The tokenizer.

        Raises:
            InputError: it cannot be found, has no pad token, or is none that knows its words.
        """
        found = self.unpadded
        if self.pad_token is not None:
            if self.pad_token not in found.get_vocab():
                raise InputError(
                    f"data.pad_token={self.pad_token}: the tokenizer {self.name} has no such token"
                    f"{did_you_mean(self.pad_token, found.all_special_tokens)}"
                )
            found.pad_token = self.pad_token
        if found.pad_token_id is None:
            own = [token for token in found.all_special_tokens if token]
            example = f", for example 'data.pad_token=\"{own[-1]}\"'" if own else ""
            raise InputError(
                f"{self.key}={self.name}: the tokenizer has no pad token, which fills up short texts; data.pad_token="
                f"TOKEN names one of its tokens{example}"
            )
        return found

    @cached_property
    def unpadded(self) -> Any:
        """The tokenizer, which need not have a pad token.

        Raises:
            InputError: it cannot be found, or is none that knows its words.
        """
        from transformers import AutoTokenizer

        folder = Path(self.name)
        if is_gguf(self.name):
            return self._of_gguf()
        if folder.is_dir() and not any((folder / name).is_file() for name in FILES):
            raise InputError(
                f"{self.key}={self.name}: the folder holds no tokenizer; write one with "
                f"tokenizer.save_pretrained('{self.name}')"
            )
        if not folder.is_dir() and (why := why_not_there(self.name, self.revision, FILES)):
            raise self._not_found(why)
        try:
            with quiet():
                found = AutoTokenizer.from_pretrained(self.name, revision=self.revision, use_fast=True)
        except Exception as error:  # the library raises whatever its parsers raise
            raise self._not_loaded(error) from error
        if not getattr(found, "is_fast", False):
            raise InputError(
                f"{self.key}={self.name}: it has no fast version (tokenizer.json), which kdlab needs to find the words "
                "of tokens; save one with the library tokenizers"
            )
        return found

    def _of_gguf(self) -> Any:
        try:
            with quiet():
                return gguf_tokenizer(self.name)
        except ValueError as error:
            raise InputError(f"{self.key}={self.name}: {error}") from error

    def _not_loaded(self, error: Exception) -> InputError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if Path(self.name).is_dir():
            return InputError(f"{self.key}={self.name}: the tokenizer in this folder cannot be read ({reason})")
        return self._not_found(reason)

    def _not_found(self, reason: str) -> InputError:
        if is_path(self.name):
            return InputError(
                f"{self.key}={self.name}: {reason} (tokenizer.save_pretrained('{self.name}') writes one there)"
            )
        return InputError(
            f"{self.key}={self.name}: it is neither a folder with a tokenizer nor reachable on the Hugging Face hub "
            f"({reason}). Without a network, name a folder: {self.key}=FOLDER, written on another machine by "
            "tokenizer.save_pretrained('FOLDER')"
        )

    @property
    def longest(self) -> int | None:
        """The most tokens that it is made for; None if it states none."""
        limit = int(self.loaded.model_max_length)
        return limit if limit < _NO_LIMIT else None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without the special ones."""
        with quiet():
            return self.loaded.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def same_tokenizer(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the ``data`` of two configs have one tokenizer, by its name or by the content of its files. True where
    one of them has none, or can no longer be read.

    >>> same_tokenizer({"tokenizer": "bert"}, {"tokenizer": "bert", "tokenizer_revision": None})
    True
    """
    names = [(node.get("tokenizer"), node.get("tokenizer_revision")) for node in (one, other)]
    if names[0] == names[1] or not all(isinstance(name, str) for name, _ in names):
        return True
    try:
        found = [Tokenizer("data.tokenizer", str(name), revision).identity for name, revision in names]
    except (InputError, OSError):
        return True
    return found[0] == found[1]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences advice of the libraries; keeps the tokenizer in one thread, unless TOKENIZERS_PARALLELISM is set: a
    process that forks after its threads have worked gets a warning."""
    from transformers.utils import logging

    before, parallel = logging.get_verbosity(), os.environ.get("TOKENIZERS_PARALLELISM")
    logging.set_verbosity_error()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if parallel is None:
            os.environ.pop("TOKENIZERS_PARALLELISM", None)
