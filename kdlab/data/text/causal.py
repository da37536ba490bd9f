"""Texts for causal language models: plain texts, prompts with answers, and chats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kdlab.counter import counter_bits
from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED, answer_begins
from kdlab.tasks.facts import DataFacts

from .causal_tokens import CausalTokenising, template_end
from .hub import HuggingFaceTexts
from .loader import TextLoader
from .local import TextFiles
from .packing import packed, places_with_padding
from .rows import Rows
from .stored import Texts
from .texts import TextData
from .tokenizers import Tokenizer
from .tokens import Ragged, Tokens

_VALIDATION = 33  # the stream of random numbers that holds out texts for validation before they are packed
#: arguments of labelled texts, which these data have not
_OTHERS = ("text_pair", "label", "label_kind", "class_names", "threshold", "labelled", "rest", "masking")


class CausalText(TextData):
    """Base of the texts whose next token is predicted (``task=causal_lm``). ``classes`` is the number of the
    tokenizer's tokens.

    Each token is the label of the position before it. The first token of a text, prompts and padding are no labels. The
    token that ends a text or an answer is one.

    Args:
        prompt, answer: the columns of prompts and answers. Each is tokenised by itself, so a space between the two
            belongs to one of them.
        messages: the column of chats: lists of ``{"role": …, "content": …}``. They are written by the tokenizer's
            template, and what the assistant says is predicted.
        packed: texts are put one after another into rows of ``length`` tokens. A text in a row is not seen from the
            next one. Longer texts are cut into several.
        end: the token that ends a text follows a text or an answer.
        options: those of :class:`TextData`, without those of labels. ``text`` is the column of plain texts.

    Raises:
        ValueError: an argument is out of its range, or texts are described in two ways.
    """

    INPUTS: tuple[str, ...] = ("input_ids",)
    USUAL_STUDENT = "llama"

    def __init__(
        self,
        prompt: str | None = None,
        answer: str | None = None,
        messages: str | None = None,
        packed: bool = False,
        end: bool = True,
        **options: Any,
    ) -> None:
        if given := [name for name in _OTHERS if name in options]:
            raise ValueError(f"{given[0]}: texts whose next token is predicted have no labels; leave it out")
        if (prompt is None) != (answer is None):
            raise ValueError("prompt and answer belong together: name the columns of both")
        if prompt is not None and messages is not None:
            raise ValueError("give either prompt and answer, or messages")
        self.form = "answer" if prompt is not None else "messages" if messages is not None else "text"
        text = prompt or messages or options.pop("text", "text")
        super().__init__(**{**options, "text": text, "text_pair": answer, "label": None})
        if packed and (self.pad_to != "longest" or self.buckets or self.teacher_pad_to == "length"):
            raise ValueError(
                "packed rows have one length: leave out pad_to, teacher_pad_to and buckets, or set packed=false"
            )
        if packed and self.teacher_tokenizer is not None:
            raise ValueError("packed rows need one tokenizer; set packed=false, or leave out teacher_tokenizer")
        self.packed, self.end = packed, end
        self._packing: dict[str, tuple[int, int]] = {}
        self._left_out: dict[str, int] = {}

    # -- tokens --------------------------------------------------------------------------------------------------------

    def _tokenising(self, tokenizer: Tokenizer) -> CausalTokenising:
        return CausalTokenising(tokenizer, self.length, form=self.form, end=self.end, whole=self.packed)

    def _texts_of(self, rows: Rows) -> tuple[Sequence, Sequence | None]:
        if self.form != "messages":
            return super()._texts_of(rows)
        chats = [_chat(value) for value in rows.texts]
        if wrong := [row for row, chat in enumerate(chats) if chat is None]:
            raise InputError(
                f"data.messages={self.text}: {rows.table.places(wrong)}: a chat is a list of messages with role and "
                "content, and one of them is the assistant's, for example "
                '[{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]'
            )
        return chats, None

    def _split_of(self, name: str) -> Texts:
        rows = self.rows[name]
        tokens = self._tokens(name, self.tokenizer)
        theirs = None if self.teacher_tokenizer is None else self._tokens(name, self.teacher_tokenizer)
        labels = _labels(tokens)
        predicted = _predicted(labels) > 0
        if not bool(predicted.all()) and self.faulty == "refuse":
            without = (~predicted).nonzero().flatten().tolist()
            raise InputError(
                f"{self.keys[name]}: {rows.table.places(without)}: no token is left to predict within data.length="
                f"{self.length}; give a greater data.length, or data.faulty=drop leaves out such rows"
            )
        if not bool(predicted.any()):
            raise InputError(f"{self.keys[name]}: no text has a token to predict within data.length={self.length}")
        self._left_out[name] = int((~predicted).sum())
        split = Texts(replace(tokens, types=None), torch.zeros(len(tokens)), theirs, labels)
        return split.take(predicted.nonzero().flatten())

    def read(self) -> tuple[Texts, Texts]:
        """The stored (train, test) texts, packed where the data ask for it. Validation is held out before that, so no
        text is in both."""
        train, test = super().read()
        if not self.packed:
            return self._with_target(train), self._with_target(test)
        number = len(train.target)
        if self._held_out_from is None:
            order = counter_bits(torch.arange(number), self.split_seed, _VALIDATION).argsort(stable=True)
            count = round(self.validation * number)
            held_out, rest = order[:count].sort().values, order[count:].sort().values
        else:
            rest, held_out = torch.arange(number).split([self._held_out_from, number - self._held_out_from])
        parts = [self._pack("train", train.take(rest)), self._pack("validation", train.take(held_out))]
        self._held_out_from = len(parts[0].target)
        return parts[0].joined(parts[1]), self._pack("test", test)

    def _pack(self, name: str, split: Texts) -> Texts:
        rows = packed(split.tokens.ids, _of(split.word_labels), self.length)
        self._packing[name] = len(split.target), len(rows.ids)
        return self._with_target(
            Texts(replace(split.tokens, ids=rows.ids), split.target[:0], None, rows.labels, rows.places)
        )

    def _with_target(self, split: Texts) -> Texts:
        labels = _of(split.word_labels)
        return replace(split, target=labels.padded(torch.arange(len(labels)), self.length, IGNORED))

    # -- what a run asks -----------------------------------------------------------------------------------------------

    @property
    def facts(self) -> DataFacts:
        """Also the tokens that end an answer, and how tokens become texts."""
        found, tokenizer = super().facts, self.tokenizer.loaded
        if self.form == "messages":  # a template ends what the assistant says
            end = template_end(tokenizer)
            ends = [] if end is None else [end, tokenizer.eos_token_id]
        else:
            ends = [tokenizer.eos_token_id] if self.end else []
        end_tokens = tuple(dict.fromkeys(token for token in ends if token is not None))
        return replace(found, end_tokens=end_tokens, decode=self.tokenizer.decode)

    @property
    def longest_prompt(self) -> int:
        """The most tokens before an answer, the last one of a text."""
        return max(int(answer_begins(split.target).max()) for split in self._both() if len(split.target))

    def share_samples(self, other: Any) -> None:
        """Also take over the numbers for notes."""
        super().share_samples(other)
        if self._stored is not None and self._stored is other._stored:
            self._left_out, self._packing = other._left_out, other._packing

    def notes(self) -> list[str]:
        """Also how texts were packed, and texts that were left out."""
        found = super().notes()
        for name, (texts, rows) in self._packing.items():
            found.append(f"data.packed: {name}: {texts:,} texts in {rows:,} rows of {self.length} tokens")
        for name, number in self._left_out.items():
            if number:
                found.append(
                    f"{self.keys[name]}: {number:,} texts are left out, since no token is left to predict within "
                    f"data.length={self.length} (data.faulty=drop)"
                )
        return found

    def batch_dependence(self) -> str:
        """Packed rows have one length, so every batch has it."""
        return "" if self.packed else super().batch_dependence()

    def loader(self, stored: Texts, **options: Any) -> CausalLoader:
        """A loader of tokens whose labels are the tokens themselves."""
        del options["augment"], options["seed"]
        return CausalLoader(stored.tokens, stored.target, places=stored.places, **self._batching(stored), **options)


class CausalTextFiles(CausalText, TextFiles):
    """Texts for causal language models in files (:class:`CausalText`, :class:`TextFiles`)."""

    def __init__(self, train: str, **options: Any) -> None:
        super().__init__(train=train, **options)


class HuggingFaceCausalTexts(CausalText, HuggingFaceTexts):
    """Texts for causal language models from a data set of Hugging Face (:class:`CausalText`,
    :class:`HuggingFaceTexts`)."""

    def __init__(self, dataset: str, **options: Any) -> None:
        super().__init__(dataset=dataset, **options)


class CausalLoader(TextLoader):
    """Batches of texts. Where a row holds several texts, ``inputs`` is ``{"input_ids", "position_ids"}``: the places
    begin again at 0 with each text, and a network must not let its tokens see those before.

    Args:
        places: of the tokens in their texts; None: a row is a text, and ``inputs`` has its ``attention_mask``.
        options: those of :class:`TextLoader`.
    """

    def __init__(self, tokens: Tokens, target: Tensor, *, places: Ragged | None = None, **options: Any):
        super().__init__(tokens, target, **options)
        self.places = places

    def inputs_of(self, rows: Tensor) -> dict[str, Tensor]:
        """What a network gets of samples."""
        inputs = super().inputs_of(rows)
        if self.places is None:
            return inputs
        ids = inputs["input_ids"]
        return {"input_ids": ids, "position_ids": places_with_padding(self.places, rows, ids.shape[1])}


def _labels(tokens: Tokens) -> Ragged:
    """The tokens that are to be predicted, and -100 in place of the others."""
    ids, counts = tokens.ids, _of(tokens.types)
    return Ragged(torch.where(counts.values > 0, ids.values.to(torch.int64), IGNORED), ids.ends)


def _predicted(labels: Ragged) -> Tensor:
    """How many tokens of each text are to be predicted, ``(N,)``. The first one cannot be."""
    counts = (labels.values != IGNORED).long()
    begins = (labels.ends - labels.lengths)[labels.lengths > 0]
    counts[begins] = 0
    before = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return before[labels.ends] - before[labels.ends - labels.lengths]


def _of(rows: Ragged | None) -> Ragged:
    if rows is None:
        raise RuntimeError("texts whose next token is predicted have labels of tokens")
    return rows


def _chat(value: Any) -> str | None:
    """A chat as JSON; None if it is none."""
    try:
        messages = json.loads(value) if isinstance(value, str) else list(value)
        found = [{"role": message["role"], "content": message["content"]} for message in messages]
    except (ValueError, TypeError, KeyError):
        return None
    texts = all(isinstance(text, str) for message in found for text in message.values())
    return json.dumps(found) if texts and any(one["role"] == "assistant" for one in found) else None
