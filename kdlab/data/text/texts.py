"""Texts with labels, as tokens: what data sets of files and of the Hugging Face hub share."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlab.counter import counter_bits
from kdlab.data.classification import ClassificationData
from kdlab.data.column import Column
from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED
from kdlab.tasks.facts import DataFacts

from .columns import column_of
from .files import Table
from .labelled import chosen_labels
from .labels import (
    KINDS,
    Meaning,
    meaning_of,
    numbers_of,
    target_of,
    word_labels,
    words_of,
)
from .loader import TextLoader
from .masking import Masking, MaskTokens
from .rows import FAULTY, Columns, Rows, check_texts, used_rows
from .sources import Source
from .stored import Texts, labels_of_tokens, origins_of
from .tokenizers import Tokenizer, tokenizer_content
from .tokens import Tokenising, Tokens

_TEST = 32  # the stream of random numbers that holds out a test split
REST = ("unlabelled", "dropped")
TOKENS = ".tokens"  # the folder of tokens, in that of the data


class TextData(ClassificationData[Texts]):
    """Base of the data sets of texts. A subclass gives :meth:`tables`.

    A label is one class a text, a number a text (``task=regression``), or a class for each word: then the first token
    of a word has its label, and all other tokens -100. Tokens are made once and kept in ``folder/.tokens``.

    Args:
        tokenizer: a folder with a tokenizer, or its name on the Hugging Face hub.
        tokenizer_revision: branch, tag or commit of the hub.
        pad_token: the token that fills up short texts; None: the tokenizer's own.
        teacher_tokenizer: of a frozen teacher that reads other tokens; None: the same.
        text, text_pair: the columns of the texts; with a pair, both are one sample.
        label: the column of the labels; None: the data have none. Then ``classes`` is the size of the vocabulary.
        label_kind: ``classes``, ``values``, ``tokens``, or ``auto``: numbers with a fractional part are values, lists
            are labels of words, anything else is a class.
        class_names: the classes in the order of their numbers; None: the names in train, sorted, or numbers.
        threshold: the label is a number, and greater than this is class 1.
        length: the most tokens of a text, with the special ones.
        truncate: longer texts are cut; False refuses them.
        faulty: rows without a text or a label: ``refuse``, or ``drop`` them.
        labelled: train on the labels of so many samples, the same share of each class, chosen by ``split_seed``. A
            smaller number is a subset of a larger one. None: all.
        rest: what becomes of the others: ``unlabelled``, or ``dropped``.
        test_fraction: the part of the training file that is test, if there is no test file, chosen by ``split_seed``.
        pad_to: T of a batch: ``longest`` text in it, ``length``, or a number: the next multiple of it.
        teacher_pad_to: T for a frozen teacher: the ``same``, or ``length``. Then its answer to a text does not depend
            on the other texts in the batch, not even in the last digits, so it can be kept (:mod:`kdlab.cache`).
        buckets: training batches hold texts of similar length (:func:`kdlab.data.text.loader.bucketed`).
        masking: a :class:`MaskTokens`: tokens are masked, and their originals are the labels (``task=masked_lm``); with
            ``label=None``.
        folder: where tokens are kept, in ``.tokens``.
        options: those of :class:`ClassificationData`.

    Raises:
        ValueError: an argument is out of its range.
    """

    NOT_IDENTITY: tuple[str, ...] = ("folder",)
    INPUTS: tuple[str, ...] = ("input_ids", "attention_mask")
    #: the choice of ``student=`` for a new network
    USUAL_STUDENT = "bert"
    CONTENT: dict[str, Any] = {"tokenizer": tokenizer_content, "teacher_tokenizer": tokenizer_content}

    def __init__(
        self,
        tokenizer: str,
        tokenizer_revision: str | None = None,
        pad_token: str | None = None,
        teacher_tokenizer: str | None = None,
        text: str = "text",
        text_pair: str | None = None,
        label: str | None = "label",
        label_kind: str = "auto",
        class_names: Sequence[str] | None = None,
        threshold: float | None = None,
        length: int = 128,
        truncate: bool = True,
        faulty: str = "refuse",
        labelled: int | None = None,
        rest: str = "unlabelled",
        test_fraction: float = 0.2,
        pad_to: str | int = "longest",
        teacher_pad_to: str = "same",
        buckets: bool = False,
        masking: MaskTokens | None = None,
        folder: str = "data",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        if label_kind not in KINDS:
            raise ValueError(f"label_kind must be one of {', '.join(KINDS)}, got {label_kind!r}")
        if faulty not in FAULTY:
            raise ValueError(f"faulty must be one of {', '.join(FAULTY)}, got {faulty!r}")
        if labelled is not None and labelled < 1:
            raise ValueError(f"labelled must be at least 1 (a number of samples) or null, got {labelled}")
        if rest not in REST:
            raise ValueError(f"rest must be one of {', '.join(REST)}, got {rest!r}")
        if labelled is not None and (label is None or label_kind == "tokens"):
            raise ValueError(f"labelled={labelled} needs texts with one label each")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must lie between 0 and 1 (a part of train), got {test_fraction}")
        if pad_to not in ("longest", "length") and (not isinstance(pad_to, int) or pad_to < 1):
            raise ValueError(f"pad_to must be longest, length or a number (the next multiple of it), got {pad_to!r}")
        if teacher_pad_to not in ("same", "length"):
            raise ValueError(f"teacher_pad_to must be same or length, got {teacher_pad_to!r}")
        if threshold is not None and label_kind not in ("auto", "classes"):
            raise ValueError(f"threshold={threshold} makes two classes of a number, and label_kind is {label_kind!r}")
        if class_names is not None and len(set(class_names)) < len(class_names):
            raise ValueError(f"class_names must differ, got {list(class_names)}")
        if threshold is not None and class_names is not None and len(class_names) != 2:
            raise ValueError(f"threshold={threshold} makes two classes, and class_names has {len(class_names)}")
        if text_pair is not None and label_kind == "tokens":
            raise ValueError(
                "text_pair cannot be combined with label_kind=tokens: a label belongs to a word of one text"
            )
        if masking is not None and (not isinstance(masking, MaskTokens) or label is not None or teacher_tokenizer):
            raise ValueError(
                "masking must be a kdlab.data.MaskTokens, for texts without labels (label=null) that student and "
                "teacher read with one tokenizer"
            )
        if self.augment is not None or self.mixing is not None:
            raise ValueError("augment and mixing are for images; leave them out")
        self.tokenizer = Tokenizer("data.tokenizer", tokenizer, tokenizer_revision, pad_token)
        self.teacher_tokenizer = (
            None if teacher_tokenizer is None else Tokenizer("data.teacher_tokenizer", teacher_tokenizer)
        )
        self.text, self.text_pair, self.label, self.label_kind = text, text_pair, label, label_kind
        self.given_names = None if class_names is None else tuple(map(str, class_names))
        self.threshold, self.length, self.truncate, self.faulty = threshold, length, truncate, faulty
        self.test_fraction, self.pad_to, self.buckets, self.folder = test_fraction, pad_to, buckets, Path(folder)
        self.teacher_pad_to = "same" if pad_to == "length" and teacher_tokenizer is None else teacher_pad_to
        self.label_count, self.rest, self.masking = labelled, rest, masking
        #: columns that are read beside texts and labels, each with the option that names it
        self.kept_columns: dict[str, str] = {}
        self._labelled_rows: Tensor | None = None
        self._unlabelled_from: int | None = None  # samples from here on have no label
        self._not_kept: str | None = None
        self._held_out_from: int | None = None  # samples from here on are of the validation file
        self._cut: dict[str, tuple[int, int]] = {}

    def _check_unlabelled(self, name: str, value: str | None) -> None:
        """Raises ValueError for samples without labels where no sample has one."""
        if value is not None and self.label is None:
            raise ValueError(f"{name} is for texts beside labelled ones; without labels, train holds all texts")

    @staticmethod
    def stated_vocabulary(node: Mapping[str, Any]) -> int | None:
        """The number of tokens of the tokenizer in the folder that a config's ``data`` names, for messages; None where
        it cannot be loaded. A check of a config asks no hub."""
        if not Path(str(node.get("tokenizer"))).is_dir():
            return None
        try:
            return len(Tokenizer("data.tokenizer", node["tokenizer"], node.get("tokenizer_revision")).loaded)
        except (InputError, KeyError):
            return None

    # -- what a subclass gives -----------------------------------------------------------------------------------------

    def tables(self) -> dict[str, Table]:
        """``train``, and where there are such ``validation``, ``test`` and ``unlabelled``. Raises InputError where they
        cannot be read."""
        raise self._undefined("tables()")

    def sources(self) -> dict[str, Source]:
        """The same tables, to be read a block at a time. Empty where they can only be read into memory."""
        return {}

    #: the option that names each of :meth:`tables`, for messages
    keys = {
        "train": "data.train",
        "validation": "data.validation_file",
        "test": "data.test",
        "unlabelled": "data.unlabelled",
    }

    # -- texts and labels ----------------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """The rows of each table that are used."""
        columns = Columns(self.text, self.text_pair, self.label)
        found = {
            name: used_rows(table, columns if name != "unlabelled" else replace(columns, label=None), self.faulty)
            for name, table in self.tables().items()
        }
        for column, key in self.kept_columns.items():
            for rows in found.values():
                rows.table.column(key, column)  # raises before tokens are made
        return found

    def _names(self) -> Collection[str]:
        """The names of the tables. Raises InputError if a table cannot be read, or has rows that are refused."""
        return self.rows

    def _dropped(self) -> dict[str, tuple[int, int]]:
        """How many rows of each table are left out, and how many there are."""
        return {name: (rows.dropped, rows.dropped + len(rows)) for name, rows in self.rows.items()}

    @cached_property
    def meaning(self) -> Meaning:
        """What a label is, as train has it."""
        train = self.rows["train"]
        if train.labels is None:
            return Meaning("classes")
        return meaning_of(
            f"data.label={self.label}", train.table, train.labels, self.label_kind, self.given_names, self.threshold
        )

    def _labelled(self, name: str) -> tuple[Tensor, list[list[int]] | None]:
        """The labels of a table's rows, ``(N, ...)``, or of each word."""
        rows, key = self.rows[name], f"data.label={self.label}"
        if rows.labels is None:
            return target_of(self.meaning, [math.nan] * len(rows)), None
        if self.meaning.kind == "tokens":
            return torch.empty(0), word_labels(key, rows.table, rows.texts, rows.labels, self.meaning)
        return target_of(self.meaning, numbers_of(key, rows.table, rows.labels, self.meaning)), None

    def keep_column(self, key: str, name: str) -> None:
        """A further column is read. Rows that were read without it are read again."""
        if name not in self.kept_columns:
            self.kept_columns[name] = key
            self.__dict__.pop("rows", None)

    def column(self, key: str, name: str) -> dict[str, Column]:
        """A column at the stored samples of ``train`` (with validation) and ``test``.

        Raises:
            InputError: a table has no such column.
        """
        self.keep_column(key, name)
        tables, found = [rows.table for rows in self.rows.values()], {}
        for split, stored in zip(("train", "test"), self._both()):
            if stored.origins is None:
                raise RuntimeError("a row holds several texts, so it has no value of a column")
            found[split] = column_of(key, name, tables, stored.origins)
        return found

    def _origins(self, name: str) -> Tensor:
        """Of each row of a table the number of the table and of the row, ``(N, 2)``."""
        return origins_of(list(self.rows).index(name), len(self.rows[name]))

    # -- tokens --------------------------------------------------------------------------------------------------------

    def _split_of(self, name: str) -> Texts:
        """One table as a stored split."""
        target, by_word = self._labelled(name)
        rows = self.rows[name]
        tokens = self._tokens(name, self.tokenizer)
        theirs = None if self.teacher_tokenizer is None else self._tokens(name, self.teacher_tokenizer)
        labels = None if by_word is None else labels_of_tokens(tokens, by_word)
        if labels is not None:
            target = labels.padded(torch.arange(len(rows)), self.length, IGNORED)
        return Texts(tokens, target, theirs, labels, origins=self._origins(name))

    def _tokens(self, name: str, tokenizer: Tokenizer) -> Tokens:
        texts, pairs = self._texts_of(self.rows[name])
        tokens, not_kept = self._tokenising(tokenizer).kept(self.folder / TOKENS, texts, pairs)
        self._not_kept = self._not_kept or not_kept
        self._note_cut(name, tokenizer, tokens)
        return tokens

    def _note_cut(self, name: str, tokenizer: Tokenizer, tokens: Tokens) -> None:
        """Notes how many texts were cut. Raises InputError where that is refused."""
        if tokens.cut and not self.truncate:
            raise InputError(
                f"data.length={self.length}: {tokens.cut:,} of {len(tokens):,} texts of {self.keys[name]} are longer "
                f"than {self.length} tokens; data.truncate=true cuts them, or give a greater data.length"
            )
        if tokenizer is self.tokenizer:
            self._cut[name] = tokens.cut, len(tokens)

    def _tokenising(self, tokenizer: Tokenizer) -> Tokenising:
        """How texts become tokens."""
        return Tokenising(tokenizer, self.length, self.meaning.kind == "tokens")

    def _texts_of(self, rows: Rows) -> tuple[Sequence, Sequence | None]:
        """The texts of rows as they are tokenised, and the second text of each pair."""
        words = self.meaning.kind == "tokens"
        for option, column, values in (("text", self.text, rows.texts), ("text_pair", self.text_pair, rows.pairs)):
            check_texts(f"data.{option}={column}", rows.table, values or (), words)
        texts: Sequence = [words_of(text) if words else str(text) for text in rows.texts]
        return texts, None if rows.pairs is None else [str(text) for text in rows.pairs]

    def read(self) -> tuple[Texts, Texts]:
        """The stored (train, test) texts. The samples of a validation file follow those of train.

        Raises:
            InputError: a file, the labels or the tokenizer are wrong; independent problems of the files are listed.
        """
        names = self._names()  # all files before any tokens
        if wrong := self.wrong_omissions():
            raise InputError(f"data.{wrong}")
        train = self._split_of("train")
        if "test" in names:
            test = self._split_of("test")
        else:
            train, test = self._test_held_out(train)
        if "validation" in names:
            self._held_out_from = len(train.target)
            train = train.joined(self._split_of("validation"))
        if "unlabelled" in names:
            if self.meaning.kind == "tokens":
                raise InputError(
                    f"{self.keys['unlabelled']}: samples without labels need texts with one label each, and "
                    "data.label_kind is tokens; leave it out"
                )
            self._unlabelled_from = len(train.target)
            train = train.joined(self._split_of("unlabelled"))
        return train, test

    def _split(self, target: Tensor) -> dict[str, Tensor]:
        """Also chooses the samples whose labels are trained on."""
        parts = super()._split(target)
        given = torch.arange(len(target)) < (len(target) if self._unlabelled_from is None else self._unlabelled_from)
        labelled = given
        if self.label_count is not None:
            rows, by_class = parts["train"][given[parts["train"]]], self.meaning.kind == "classes"
            labelled = chosen_labels(self.label_count, rows, target, self.split_seed, by_class)
            if self.rest == "dropped":
                parts["train"] = parts["train"][(labelled | ~given)[parts["train"]]]
                if len(parts["train"]) < 2 or (self.drop_last and len(parts["train"]) < self.batch_size):
                    raise InputError(
                        f"data.labelled={self.label_count} data.rest=dropped leaves {len(parts['train'])} training "
                        f"samples, fewer than 2 or than data.batch_size={self.batch_size}; set data.drop_last=false, "
                        "or make it larger"
                    )
        self._labelled_rows = None if bool(labelled[parts["train"]].all()) else labelled
        return parts

    def labelled_samples(self) -> Tensor | None:
        """Which stored training samples have a label that is trained on; None: all."""
        return self._labelled_rows

    def share_samples(self, other: Any) -> None:
        """Also take over which samples have labels."""
        super().share_samples(other)
        if self._stored is not None and self._stored is other._stored:
            self._labelled_rows, self._cut, self._not_kept = other._labelled_rows, other._cut, other._not_kept
            self._held_out_from, self._unlabelled_from = other._held_out_from, other._unlabelled_from
            self.tokenizer = other.tokenizer  # it may be loaded

    def _test_held_out(self, train: Texts) -> tuple[Texts, Texts]:
        """Train without a part of each class, and this part."""
        bits = counter_bits(torch.arange(len(train.target)), self.split_seed, _TEST)
        test = []
        for rows in self.strata(train.target):
            test.append(rows[bits[rows].argsort(stable=True)][: round(self.test_fraction * len(rows))])
        held_out = torch.cat(test).sort().values
        kept = torch.ones(len(train.target), dtype=torch.bool)
        kept[held_out] = False
        if not len(held_out) or not kept.any():
            raise InputError(
                f"data.test_fraction={self.test_fraction} of {len(train.target)} samples leaves no test or no training "
                "sample; name a file with data.test=FILE"
            )
        return train.take(kept.nonzero().flatten()), train.take(held_out)

    # -- what a run asks -----------------------------------------------------------------------------------------------

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by their numbers."""
        return self.meaning.names or tuple(map(str, range(self.classes)))

    @property
    def classes(self) -> int:
        """The number of classes; 1 for values; the size of the vocabulary for texts without labels. Reads the files."""
        return self.vocabulary if self.label is None else self.meaning.classes

    @property
    def shape(self) -> tuple[int, ...]:
        """(length,)."""
        return (self.length,)

    @cached_property
    def vocabulary(self) -> int:
        """How many tokens the tokenizer has."""
        if self._stored is not None:
            return self._stored[0].tokens.vocabulary
        return self._tokens("train", self.tokenizer).vocabulary

    @property
    def longest(self) -> int:
        """The most tokens of a text in a batch, with padding."""
        return self._longest([split.tokens for split in self._both()])

    @property
    def longest_for_teacher(self) -> int:
        """The same, as a frozen teacher reads the texts."""
        if self.teacher_pad_to == "length":
            return self.length
        return self._longest([split.teacher_tokens or split.tokens for split in self._both()])

    def _longest(self, splits: Sequence[Tokens]) -> int:
        if self.pad_to == "length":
            return self.length
        most = max(int(tokens.ids.lengths.max()) for tokens in splits if len(tokens))
        return min(-(-most // self.pad_to) * self.pad_to, self.length) if isinstance(self.pad_to, int) else most

    @property
    def facts(self) -> DataFacts:
        """Classes, shape and vocabulary."""
        return DataFacts(self.classes, self.shape, self.vocabulary)

    def strata(self, target: Tensor) -> list[Tensor]:
        """The samples of each class, and those without a label; one group where a sample has not one class."""
        if self.label is None or self.meaning.kind == "tokens":
            return [torch.arange(len(target))]
        unlabelled = target == IGNORED if self.meaning.kind == "classes" else target[:, 0].isnan()
        rest = [unlabelled.nonzero().flatten()] if unlabelled.any() else []
        return [
            *(super().strata(target) if self.meaning.kind == "classes" else [(~unlabelled).nonzero().flatten()]),
            *rest,
        ]

    def held_out(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """With a validation file, its samples are validation. Samples without a label are all trained on."""
        if self._unlabelled_from is not None and len(rows) and int(rows.min()) >= self._unlabelled_from:
            return rows[:0], rows
        if self._held_out_from is None:
            return super().held_out(rows)
        theirs = rows >= self._held_out_from
        return rows[theirs], rows[~theirs]

    def _check(self, stored: tuple[Texts, Texts]) -> None:
        """Labels are checked where they are read, by their lines."""

    def wrong_omissions(self) -> str | None:
        """What is wrong with ``omit_classes``; None if nothing is."""
        if self.omit_classes and self.meaning.kind != "classes":
            return f"omit_classes={list(self.omit_classes)} is for texts with one class each"
        return super().wrong_omissions() if self.label is not None else None

    def batch_dependence(self) -> str:
        """Padding changes the last digits of an answer, so they depend on the longest text in the batch."""
        if "length" in (self.pad_to, self.teacher_pad_to):
            return ""
        return (
            "a batch is as long as its longest text, and so the last digits of an answer depend on the other texts in "
            "the batch; data.teacher_pad_to=length gives the teacher one length (and data.pad_to=length the student, "
            "too)"
        )

    def position_counts(self) -> Tensor | None:
        """Tokens of each stored training sample."""
        return self._both()[0].tokens.ids.lengths

    def wrong_fact(self, key: str, stated: object, found: object) -> str:
        """Also where the surplus classes are, and that a number may be meant to be predicted."""
        message = super().wrong_fact(key, stated, found)
        if key != "classes" or self.label is None or not isinstance(stated, int):
            return message
        if stated == 1:
            return f"{message}; if the labels are numbers to predict, data.label_kind=values"
        if self.meaning.kind == "values":
            return (
                f"{message}: the labels are numbers to predict, for task=regression; data.threshold=0 makes two classes"
            )
        train = self.rows["train"]
        names = self.meaning.names
        if len(names) > stated and self.given_names is None and self.meaning.kind == "classes" and train.labels:
            surplus = set(names[stated:])
            rows = [
                row
                for row, label in enumerate(train.labels)
                if self.meaning.names[int(self.meaning.number(label) or 0)] in surplus
            ]
            what = f"{', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
            return f"{message}. They are {what}; the last {len(surplus)} of them: {train.table.places(rows)}"
        return message

    def notes(self) -> list[str]:
        """Texts that were cut, rows that were left out, classes without samples, and tokens that cannot be kept."""
        self.setup()
        found = super().notes() if self.label is not None and self.meaning.kind == "classes" else []
        for name, (cut, count) in self._cut.items():
            if cut:
                what = "text is" if cut == 1 else "texts are"
                found.append(
                    f"{self.keys[name]}: {cut:,} of {count:,} {what} longer than {self.length} tokens and "
                    f"{'was' if cut == 1 else 'were'} cut (data.length)"
                )
        for name, (dropped, count) in self._dropped().items():
            if dropped:
                found.append(
                    f"{self.keys[name]}: {dropped:,} of {count:,} rows are left out, since "
                    "they have no text or no label (data.faulty=drop)"
                )
        labelled = self.labelled_samples()
        if labelled is not None:
            train = self.part("train")
            found.append(f"data: {int(labelled[train].sum()):,} of {len(train):,} training samples have a label")
        if self._not_kept:
            found.append(f"data.folder: warning: the tokens cannot be kept for other runs ({self._not_kept})")
        return found

    @cached_property
    def _masks(self) -> Masking:
        """What masking needs of the tokenizer."""
        if self.masking is None:
            raise RuntimeError("the data mask nothing")
        return Masking.of(self.masking, self.tokenizer)

    @cached_property
    def _masked_counts(self) -> Tensor:
        """How many tokens of each stored training sample are masked."""
        return self._masks.counts(self._both()[0].tokens)

    @property
    def draws(self) -> bool:
        """Whether tokens are masked, which is drawn for each epoch."""
        return self.masking is not None

    def loader(self, stored: Texts, **options: Any) -> TextLoader:
        """A loader of tokens. The masks of validation and test are drawn once, by ``split_seed``."""
        seed = options.pop("seed")
        options.pop("augment")
        if self.masking is not None:
            if self.views > 1:
                raise InputError(
                    "data.masking: the strategy or a loss compares several views of a text, and each has other masked "
                    "tokens; choose one that reads one view"
                )
            options["masking"] = self._masks.seeded(seed if options["split"] == "train" else self.split_seed)
            if options.get("row_counts") is None and options["split"] == "train":
                options["row_counts"] = self._masked_counts
        return TextLoader(
            stored.tokens, stored.target, labels=self.label is not None, **self._batching(stored), **options
        )

    def _batching(self, stored: Texts) -> dict[str, Any]:
        """What decides the batches of a stored split, as a loader takes it."""
        return {
            "word_labels": stored.word_labels,
            "teacher_tokens": stored.teacher_tokens,
            "length": self.length,
            "pad_to": self.pad_to,
            "teacher_pad_to": self.teacher_pad_to,
            "buckets": self.buckets,
        }
