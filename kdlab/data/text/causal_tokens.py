"""Tokens for causal language models: of plain texts, of prompts with answers, and of chats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED

from .tokenizers import quiet
from .tokens import Ragged, Tokenising, Tokens, ragged
from .views import Labels, View

FORMS = ("text", "answer", "messages")


@dataclass(frozen=True)
class CausalTokenising(Tokenising):
    """How texts become tokens that a causal language model predicts. ``types`` of the tokens are 1 where a token is to
    be predicted, and 0 in a prompt.

    A text begins with the tokens that the tokenizer puts there (for Llama, one that begins a text). Prompt and answer
    are tokenised each by itself and put one after the other: so an answer's first token is what a model generates after
    the prompt. A chat is written by the tokenizer's template.

    Args:
        form: ``text``, ``answer`` (the second text of a pair) or ``messages`` (what the assistant says; a chat is a
            list of ``{"role", "content"}`` as JSON).
        end: whether the token that ends a text is put after a text or an answer, and is to be predicted.
        whole: texts are not cut.
        first: how many chats are before these, for messages.
    """

    form: str = "text"
    end: bool = True
    whole: bool = False
    first: int = 0

    def further(self) -> dict[str, Any]:
        """The form, the end, and the template of a chat."""
        found: dict[str, Any] = {"form": self.form, "end": self.end, "whole": self.whole}
        return {**found, "template": self.tokenizer.loaded.chat_template} if self.form == "messages" else found

    def made(self, texts: Sequence, pairs: Sequence | None = None) -> Tokens:
        """The tokens of texts, made now. What is longer than the length is cut at its end.

        Raises:
            InputError: the tokenizer cannot be used, has no token that ends a text, or no template for chats.
        """
        tokenizer = self.checked()
        if self.end and self.form != "messages" and tokenizer.eos_token_id is None:
            raise InputError(
                f"data.end=true: the tokenizer {self.tokenizer.name} has no token that ends a text (eos_token); "
                "data.end=false leaves it out"
            )
        with quiet():
            if self.form == "messages":
                found = [self._of_chat(tokenizer, json.loads(text), row) for row, text in enumerate(texts)]
            else:
                found = self._of_texts(tokenizer, texts, pairs)
        most = None if self.whole else self.length
        cut = 0 if most is None else sum(len(ids) > most for ids, _ in found)
        return Tokens(
            ragged([ids[:most] for ids, _ in found], torch.int32),
            ragged([counts[:most] for _, counts in found], torch.int8),
            None,
            int(tokenizer.pad_token_id),
            len(tokenizer),
            cut,
        )

    def _of_texts(self, tokenizer: Any, texts: Sequence, pairs: Sequence | None) -> list[tuple[list[int], list[int]]]:
        """Tokens, and which of them are predicted, of each text or pair."""
        begin = begin_tokens(tokenizer)
        end = [tokenizer.eos_token_id] if self.end else []
        first = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        if pairs is None:
            return [(begin + ids + end, [0] * len(begin) + [1] * len(ids + end)) for ids in first]
        second = tokenizer(list(pairs), add_special_tokens=False)["input_ids"]
        return [
            (begin + prompt + answer + end, [0] * len(begin + prompt) + [1] * len(answer + end))
            for prompt, answer in zip(first, second)
        ]

    def _of_chat(self, tokenizer: Any, messages: list[dict[str, str]], row: int) -> tuple[list[int], list[int]]:
        """Tokens of a chat, and which of them the assistant says.

        They are those by which the chat up to an answer is longer than the chat before it, with the beginning of an
        answer that the template writes for generation.
        """
        if not tokenizer.chat_template:
            raise InputError(
                f"data.messages: the tokenizer {self.tokenizer.name} has no template for chats (chat_template); take "
                "the tokenizer of a model that was trained on chats, or data.prompt and data.answer"
            )
        ids: list[int] = []
        counts: list[int] = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = _templated(tokenizer, messages[:number], True)
            after = _templated(tokenizer, messages[: number + 1], False)
            if after[: len(before)] != before or before[: len(ids)] != ids:
                raise InputError(
                    f"data.messages: the template of {self.tokenizer.name} changes what it wrote before when a message "
                    f"is added (chat {self.first + row + 1}, message {number + 1}), so the tokens of an answer cannot "
                    "be found; give each answer as a chat of its own, without the answers before it"
                )
            counts += [0] * (len(before) - len(ids)) + [1] * (len(after) - len(before))
            ids = after
        return ids, counts


def begin_tokens(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts before a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    place = next((one for one in range(len(whole)) if whole[one : one + len(plain)] == plain), 0)
    return whole[:place]


def template_end(tokenizer: Any) -> int | None:
    """The first special token that the template of a tokenizer writes after an answer; None if it writes none. It need
    not be the tokenizer's own ending token, and other text may follow it."""
    if not tokenizer.chat_template:
        return None
    answer = "answer"
    try:
        text = _written(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}], False)
    except TemplateError:  # tokens of chats are refused by their own message
        return None
    special = {*tokenizer.all_special_ids}
    special |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    after = tokenizer(text.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
    return next((token for token in after if token in special), None)


def _templated(tokenizer: Any, messages: list[dict[str, str]], generation: bool) -> list[int]:
    return tokenizer(_written(tokenizer, messages, generation), add_special_tokens=False)["input_ids"]


def _written(tokenizer: Any, messages: list[dict[str, str]], generation: bool) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)


def labels_of(tokens: Tokens) -> Ragged:
    """The tokens that are to be predicted, and -100 in place of the others."""
    ids, counts = tokens.ids, some(tokens.types)
    if isinstance(ids, View) and isinstance(counts, View):
        return Labels(ids, counts)
    return Ragged(torch.where(counts.values > 0, ids.values.to(torch.int64), IGNORED), ids.ends)


def predicted_counts(labels: Ragged) -> Tensor:
    """How many tokens of each text are to be predicted, ``(N,)``. The first one cannot be.

    >>> predicted_counts(Ragged(torch.tensor([5, 7, -100, 4, 2]), torch.tensor([2, 5]))).tolist()
    [1, 2]
    """
    counts = (labels.values != IGNORED).long()
    begins = (labels.ends - labels.lengths)[labels.lengths > 0]
    counts[begins] = 0
    before = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return before[labels.ends] - before[labels.ends - labels.lengths]


def some(rows: Ragged | None) -> Ragged:
    """The rows, which texts whose next token is predicted have."""
    if rows is None:
        raise RuntimeError("texts whose next token is predicted have labels of tokens")
    return rows


def chat_of(value: Any) -> str | None:
    """A chat as JSON; None if it is none."""
    try:
        messages = json.loads(value) if isinstance(value, str) else list(value)
        found = [{"role": message["role"], "content": message["content"]} for message in messages]
    except (ValueError, TypeError, KeyError):
        return None
    texts = all(isinstance(text, str) for message in found for text in message.values())
    return json.dumps(found) if texts and any(one["role"] == "assistant" for one in found) else None


def no_chats(column: str, places: str) -> InputError:
    """The error for values that are no chats.

    Args:
        column: the column that holds them.
        places: where they are, in words.
    """
    return InputError(
        f"data.messages={column}: {places}: a chat is a list of messages with role and content, and one of them is the "
        'assistant\'s, for example [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]'
    )
