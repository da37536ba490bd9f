"""Texts for causal language models: plain texts, prompts with answers, and chats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kdlab.counter import counter_bits
from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED, answer_begins
from kdlab.tasks.facts import DataFacts

from .causal_tokens import CausalTokenising, chat_of, labels_of, no_chats, predicted_counts, some, template_end
from .hub import HuggingFaceTexts
from .loader import TextLoader
from .local import TextFiles
from .on_disk import Kept, TokensOnDisk
from .packing import packed, places_with_padding
from .rows import Columns, Rows
from .stored import Texts
from .texts import TOKENS, TextData
from .tokenizers import Tokenizer
from .tokens import Ragged, Tokens
from .views import View

_VALIDATION = 33  # the stream of random numbers that holds out texts for validation before they are packed
#: arguments of labelled texts, which these data have not
_OTHERS = ("text_pair", "label", "label_kind", "class_names", "threshold", "labelled", "rest", "masking")
#: texts of more bytes than this stay on disk, unless the data ask for another place
LARGE = 2**26
_AT_ONCE = 1000  # samples whose labels are read at a time


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
        in_memory: whether all texts and tokens are read into memory. False: texts are read and tokenised a block at a
            time, and tokens stay in files, of which a batch reads its own. The batches are the same. None: what is
            larger than 64 MB stays on disk.
        options: those of :class:`TextData`, without those of labels. ``text`` is the column of plain texts.

    Raises:
        ValueError: an argument is out of its range, or texts are described in two ways.
    """

    NOT_IDENTITY: tuple[str, ...] = (*TextData.NOT_IDENTITY, "in_memory")
    INPUTS: tuple[str, ...] = ("input_ids",)
    USUAL_STUDENT = "llama"

    def __init__(
        self,
        prompt: str | None = None,
        answer: str | None = None,
        messages: str | None = None,
        packed: bool = False,
        end: bool = True,
        in_memory: bool | None = None,
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
        if in_memory not in (None, True, False):
            raise ValueError(f"in_memory must be true, false or null (by the size of the texts), got {in_memory!r}")
        self.packed, self.end, self.in_memory = packed, end, in_memory
        self._on_disk: dict[tuple[str, str], Kept] = {}
        self._counted: tuple[Callable, Tensor | None] | None = None
        self._packing: dict[str, tuple[int, int]] = {}
        self._left_out: dict[str, int] = {}

    # -- tokens --------------------------------------------------------------------------------------------------------

    def _tokenising(self, tokenizer: Tokenizer) -> CausalTokenising:
        return CausalTokenising(tokenizer, self.length, form=self.form, end=self.end, whole=self.packed)

    def _texts_of(self, rows: Rows) -> tuple[Sequence, Sequence | None]:
        if self.form != "messages":
            return super()._texts_of(rows)
        chats = [chat_of(value) for value in rows.texts]
        if wrong := [row for row, chat in enumerate(chats) if chat is None]:
            raise no_chats(self.text, rows.table.places(wrong))
        return chats, None

    @cached_property
    def on_disk(self) -> bool:
        """Whether texts and tokens stay on disk.

        Raises:
            InputError: they should, and these data can only be read into memory.
        """
        if self.in_memory:
            return False
        sources = self.sources()
        if self.in_memory is None:
            return sum(source.size for source in sources.values()) > LARGE
        if not sources:
            raise InputError(f"data.in_memory=false: {type(self).__name__} can only be read into memory; leave it out")
        return True

    @cached_property
    def _made(self) -> dict[tuple[str, str], TokensOnDisk]:
        """What makes the tokens of each table on disk, for student and teacher. All rows are checked.

        Raises:
            InputError: rows cannot be read, or are refused; the problems of all tables are listed.
        """
        problems: list[str] = []
        found = {}
        columns = Columns(self.text, self.text_pair)
        for name, source in self.sources().items():
            made = [
                TokensOnDisk(self.folder / TOKENS, source, columns, self.faulty, self._tokenising(tokenizer))
                for tokenizer in filter(None, (self.tokenizer, self.teacher_tokenizer))
            ]
            try:
                made[0].check()
            except InputError as error:
                problems += error.problems
            for one in made:
                one.checked = True
                found[name, one.tokenising.tokenizer.key] = one
        if problems:
            raise InputError(*dict.fromkeys(problems))
        return found

    def _kept(self, name: str, tokenizer: Tokenizer) -> Kept:
        """The tokens of a table on disk."""
        key = name, tokenizer.key
        if key not in self._on_disk:
            self._on_disk[key] = self._made[key].made()
        return self._on_disk[key]

    def _names(self) -> Collection[str]:
        return {name for name, _ in self._made} if self.on_disk else super()._names()

    def _dropped(self) -> dict[str, tuple[int, int]]:
        if not self.on_disk:
            return super()._dropped()
        return {name: (kept.done.dropped, kept.done.rows) for (name, _), kept in self._on_disk.items()}

    def _tokens(self, name: str, tokenizer: Tokenizer) -> Tokens:
        if not self.on_disk:
            return super()._tokens(name, tokenizer)
        tokens = self._kept(name, tokenizer).tokens
        self._note_cut(name, tokenizer, tokens)
        return tokens

    def _split_of(self, name: str) -> Texts:
        tokens = self._tokens(name, self.tokenizer)
        theirs = None if self.teacher_tokenizer is None else self._tokens(name, self.teacher_tokenizer)
        labels = labels_of(tokens)
        predicted = (self._kept(name, self.tokenizer).predicted if self.on_disk else predicted_counts(labels)) > 0
        without = int((~predicted).sum())
        if without and self.faulty == "refuse":
            raise InputError(
                f"{self.keys[name]}: {self._unpredicted(name, predicted)}: no token is left to predict within "
                f"data.length={self.length}; give a greater data.length, or data.faulty=drop leaves out such rows"
            )
        if not bool(predicted.any()):
            raise InputError(f"{self.keys[name]}: no text has a token to predict within data.length={self.length}")
        self._left_out[name] = without
        bare, nothing = replace(tokens, types=None), torch.zeros(len(tokens))
        origins = None if self.on_disk else self._origins(name)
        split = Texts(bare, nothing, theirs, labels, origins=origins)
        return split.take(predicted.nonzero().flatten()) if without else split

    def _unpredicted(self, name: str, predicted: Tensor) -> str:
        """Where the texts of a table are that have no token to predict, in words."""
        if self.on_disk:
            return self._made[name, self.tokenizer.key].unpredicted(self._kept(name, self.tokenizer).done)
        return self.rows[name].table.places((~predicted).nonzero().flatten().tolist())

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
        rows = packed(split.tokens.ids, some(split.word_labels), self.length)
        self._packing[name] = len(split.target), len(rows.ids)
        return self._with_target(
            Texts(replace(split.tokens, ids=rows.ids), split.target[:0], None, rows.labels, rows.places)
        )

    def _with_target(self, split: Texts) -> Texts:
        labels = some(split.word_labels)
        if isinstance(labels, View):  # a matrix of all labels need not fit into memory
            return replace(split, target=torch.full((len(labels),), IGNORED))
        return replace(split, target=labels.padded(torch.arange(len(labels)), self.length, IGNORED))

    # -- what a run asks -----------------------------------------------------------------------------------------------

    def keep_column(self, key: str, name: str) -> None:
        """A further column is read.

        Raises:
            InputError: rows are packed, and the texts in a row may have several values; or texts stay on disk.
        """
        if self.on_disk:
            raise InputError(
                f"{key}={name}: a column is read into memory with its texts, and these texts stay on disk; "
                "data.in_memory=true"
            )
        if self.packed:
            raise InputError(
                f"{key}={name}: data.packed=true puts several texts into one row, and each has a value of its own; "
                "data.packed=false"
            )
        super().keep_column(key, name)

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
        blocks = (block for split in self._both() for block in self._blocks(split) if len(block))
        return max(int(answer_begins(block).max()) for block in blocks)

    def _blocks(self, split: Texts) -> Iterator[Tensor]:
        """The labels of a split as matrices, some samples at a time where they are not in memory."""
        labels = some(split.word_labels)
        if not isinstance(labels, View):
            yield split.target
            return
        for rows in torch.arange(len(labels)).split(_AT_ONCE):
            yield labels.padded(rows, self.length, IGNORED)

    def label_blocks(self) -> Iterator[Tensor]:
        """The labels of the stored training samples, some samples at a time."""
        return self._blocks(self._both()[0])

    def counted(self, count: Callable[[Tensor], Tensor | None]) -> Tensor | None:
        """What a function of labels counts in each stored training sample; None if it counts nothing. On disk, all
        labels are read once."""
        if not self.on_disk:
            return super().counted(count)
        if self._counted is None or self._counted[0] != count:
            self._counted = count, super().counted(count)
        return self._counted[1]

    def share_samples(self, other: Any) -> None:
        """Also take over the numbers for notes."""
        super().share_samples(other)
        if self._stored is not None and self._stored is other._stored:
            self._left_out, self._packing = other._left_out, other._packing
            self._on_disk, self._counted = other._on_disk, other._counted

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
