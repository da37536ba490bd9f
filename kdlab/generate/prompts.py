"""Prompts: read from a file, written as chats where that is asked for, identified by their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kdlab.data.text.causal_tokens import begin_tokens
from kdlab.data.text.files import Reading, Table, read_table
from kdlab.data.text.tokenizers import Tokenizer, quiet
from kdlab.errors import InputError

#: the columns of the answers that kdlab writes itself
OWN = ("index", "sample", "prompt", "messages", "answer", "tokens", "finish")


@dataclass(frozen=True)
class Prompts:
    """Prompts in the order of their file.

    Args:
        table: what they were read from.
        texts: each prompt; None where they are chats.
        chats: the messages of each chat; None where they are texts.
        kept: further columns, by name.
        left_out: the rows of the table that are left out.
    """

    table: Table
    texts: Sequence[str] | None
    chats: Sequence[list[dict[str, str]]] | None
    kept: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.texts if self.texts is not None else self.chats or ())

    @property
    def rows(self) -> list[int]:
        """The rows that are answered."""
        return [row for row in range(len(self)) if row not in self.left_out]

    @property
    def identity(self) -> str:
        """SHA-256 of the prompts in their order."""
        content = json.dumps([self.texts, self.chats], ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def without(self, rows: Collection[int]) -> Prompts:
        """The same prompts, with further rows left out."""
        return replace(self, left_out=self.left_out | frozenset(rows))

    def row(self, index: int, chat: bool) -> dict[str, Any]:
        """The columns of an answer that come from its prompt.

        Args:
            chat: whether it was written as a chat.
        """
        found: dict[str, Any] = {} if self.texts is None else {"prompt": self.texts[index]}
        if chat:
            found["messages"] = self.messages(index)
        return {**found, **{name: values[index] for name, values in self.kept.items()}}

    def messages(self, index: int) -> list[dict[str, str]]:
        """A prompt as a chat."""
        if self.chats is not None:
            return self.chats[index]
        assert self.texts is not None
        return [{"role": "user", "content": self.texts[index]}]


def read_prompts(data: Mapping[str, Any]) -> Prompts:
    """The prompts that the node ``data`` of a config describes.

    Raises:
        InputError: the file cannot be read, a column is missing, a prompt is empty or no chat, or a value that the
            answers keep cannot be written as JSON.
    """
    reading = Reading(
        data["encoding"], data["errors"], data["columns"], data["quotes"], text=data["messages"] or data["prompt"]
    )
    table = read_table("data.prompts", data["prompts"], reading)
    limit = data["limit"]
    if limit is not None and not (isinstance(limit, int) and limit >= 1):
        raise InputError(f"data.limit must be a whole number of at least 1, or null (all prompts), got {limit!r}")
    if data["faulty"] not in ("refuse", "drop"):
        raise InputError(f"data.faulty must be refuse or drop, got {data['faulty']!r}")
    number = len(table) if limit is None else min(limit, len(table))
    if not isinstance(data["keep"], (list, tuple)):
        raise InputError(f"data.keep must be a list of columns, got {data['keep']!r}; data.keep=[{data['keep']}]")
    if clash := [name for name in data["keep"] if name in OWN]:
        raise InputError(f"data.keep={clash[0]}: kdlab writes a column of this name itself; leave it out")
    kept = {name: table.column("data.keep", name)[:number] for name in data["keep"]}
    if data["messages"] is not None:
        values = table.column("data.messages", data["messages"])[:number]
        chats = [_chat(value) for value in values]
        wrong = [row for row, chat in enumerate(chats) if not chat]
        reason = "a chat is a list of messages with role and content, and the last one is not the assistant's"
        key = f"data.messages={data['messages']}"
        found = Prompts(table, None, chats, kept)
    else:
        values = table.column("data.prompt", data["prompt"])[:number]
        if others := [row for row, value in enumerate(values) if value is not None and not isinstance(value, str)]:
            raise InputError(f"data.prompt={data['prompt']}: {table.places(others)}: a prompt must be a text")
        texts = [value if value and _written(value) else "" for value in values]
        wrong = [row for row, text in enumerate(texts) if not text.strip()]
        reason = "the prompt is empty"
        if any(values[row] and values[row].strip() for row in wrong):
            reason = "the prompt is empty, or holds half of a surrogate pair, which is no text"
        key = f"data.prompt={data['prompt']}"
        found = Prompts(table, texts, None, kept)
    found = found.without(_faulty(table, key, wrong, reason, data["faulty"], number))
    for name, column in kept.items():
        if wrong := [row for row in found.rows if not _written(column[row])]:
            raise InputError(
                f"data.keep={name}: {table.places(wrong)}: {str(column[wrong[0]])[:60]!r} cannot be written as JSON; "
                "make it a text, or leave the column out of data.keep"
            )
    return found


def _written(value: Any) -> bool:
    """Whether a value can be written as JSON in UTF-8: no date, no bytes, no NaN, no half of a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _faulty(table: Table, key: str, wrong: Sequence[int], reason: str, faulty: str, number: int) -> list[int]:
    """The rows of the first ``number`` that are left out; refuses them where ``faulty`` says so, or where nothing would
    be left."""
    if wrong and faulty == "refuse":
        raise InputError(f"{key}: {table.places(wrong)}: {reason}; data.faulty=drop leaves such rows out")
    if len(wrong) == number:
        raise InputError(f"{key}: {table.source} has no prompt that can be answered: {reason}")
    return list(wrong)


def _chat(value: Any) -> list[dict[str, str]]:
    """The messages of a chat that waits for an answer; empty if it is none."""
    try:
        messages = json.loads(value) if isinstance(value, str) else list(value)
        found = [{"role": one["role"], "content": one["content"]} for one in messages]
    except (ValueError, TypeError, KeyError):
        return []
    right = all(isinstance(text, str) for one in found for text in one.values())
    return found if found and right and found[-1]["role"] != "assistant" and _written(found) else []


def tokens_of(prompts: Prompts, tokenizer: Tokenizer, chat: bool) -> list[list[int]]:
    """The tokens of each prompt: those that ``data=causal_text`` puts before an answer.

    Args:
        chat: whether a prompt is written by the tokenizer's template, with the beginning of an answer.

    Raises:
        InputError: the tokenizer has no template for chats.
    """
    loaded = tokenizer.unpadded
    with quiet():
        if not chat:
            assert prompts.texts is not None
            begin = begin_tokens(loaded)
            return [begin + ids for ids in loaded(list(prompts.texts), add_special_tokens=False)["input_ids"]]
        if not loaded.chat_template:
            raise InputError(
                f"data.chat: the tokenizer {tokenizer.name} has no template for chats (chat_template); take that of a "
                "model that was trained on chats: data.tokenizer=FOLDER, or give plain prompts: data.chat=false"
            )
        texts = [
            loaded.apply_chat_template(prompts.messages(row), tokenize=False, add_generation_prompt=True)
            if row not in prompts.left_out
            else ""
            for row in range(len(prompts))
        ]
        return list(loaded(texts, add_special_tokens=False)["input_ids"])


def without_too_long(
    prompts: Prompts, tokens: Sequence[Sequence[int]], positions: int | None, most: int, faulty: str
) -> Prompts:
    """The prompts without those that the model cannot answer whole.

    Args:
        positions: of the model; None: it has no limit.
        most: tokens of an answer.

    Raises:
        InputError: some are too long and ``faulty`` refuses them, or all are.
    """
    if positions is None:
        return prompts
    longest = max((len(tokens[row]) for row in prompts.rows), default=0)
    wrong = [row for row in prompts.rows if len(tokens[row]) + most > positions]
    if not wrong:
        return prompts
    room = positions - longest
    cure = f"sampling.max_tokens={room} leaves room for all, " if room >= 1 else ""
    if faulty == "refuse" or len(wrong) == len(prompts.rows):
        raise InputError(
            f"data.prompts: {prompts.table.places(wrong)}: the prompt and sampling.max_tokens={most} tokens of an "
            f"answer are more than the {positions} tokens that the model can read (the longest prompt has {longest}); "
            f"{cure}data.faulty=drop leaves such rows out"
        )
    return prompts.without(wrong)
