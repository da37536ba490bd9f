"""A stored split of texts: its tokens and its labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.functional.tokens import IGNORED

from .tokens import Ragged, Tokens


@dataclass(frozen=True)
class Texts:
    """A stored split.

    Args:
        tokens: of each text.
        target: the labels: classes ``(N,)``, values ``(N, 1)``, or for each token ``(N, length)``.
        teacher_tokens: of the teacher's tokenizer, if it is another one.
        word_labels: the labels of the tokens, of which ``target`` is the padded form.
        places: of the tokens in their texts, where a row holds several texts.
        origins: of each sample the number of its table and of its row in it, ``(N, 2)``; None where a row holds several
            texts.
    """

    tokens: Tokens
    target: Tensor
    teacher_tokens: Tokens | None = None
    word_labels: Ragged | None = None
    places: Ragged | None = None
    origins: Tensor | None = None

    def take(self, rows: Tensor) -> Texts:
        """The given samples."""
        return Texts(
            self.tokens.take(rows),
            self.target[rows],
            None if self.teacher_tokens is None else self.teacher_tokens.take(rows),
            None if self.word_labels is None else self.word_labels.take(rows),
            None if self.places is None else self.places.take(rows),
            None if self.origins is None else self.origins[rows],
        )

    def joined(self, other: Texts) -> Texts:
        """These samples, and those of another split after them."""
        theirs, labels = other.teacher_tokens, other.word_labels
        return Texts(
            self.tokens.joined(other.tokens),
            torch.cat([self.target, other.target]),
            None if self.teacher_tokens is None or theirs is None else self.teacher_tokens.joined(theirs),
            None if self.word_labels is None or labels is None else self.word_labels.joined(labels),
            None if self.places is None or other.places is None else self.places.joined(other.places),
            None if self.origins is None or other.origins is None else torch.cat([self.origins, other.origins]),
        )


def origins_of(table: int, rows: int) -> Tensor:
    """The origins of the rows of one table, ``(rows, 2)``.

    >>> origins_of(1, 2).tolist()
    [[1, 0], [1, 1]]
    """
    return torch.stack([torch.full((rows,), table, dtype=torch.int32), torch.arange(rows, dtype=torch.int32)], 1)


def labels_of_tokens(tokens: Tokens, by_word: list[list[int]]) -> Ragged:
    """The labels of tokens: the first token of a word has the word's label, all others -100."""
    if tokens.words is None:
        raise RuntimeError("the tokens were made of texts that are no lists of words")
    words = tokens.words.values.to(torch.int64)
    before = torch.cat([torch.full((1,), -1), words[:-1]])
    begins = tokens.ids.ends - tokens.ids.lengths
    before[begins[tokens.ids.lengths > 0]] = -1
    first = (words >= 0) & (words != before)
    labels = torch.tensor([label for row in by_word for label in row], dtype=torch.int64)
    starts = torch.tensor([0, *(len(row) for row in by_word[:-1])]).cumsum(0)
    sample = torch.arange(len(tokens)).repeat_interleave(tokens.ids.lengths)
    found = labels[(starts[sample] + words).clamp(min=0, max=max(len(labels) - 1, 0))]
    return Ragged(torch.where(first, found, torch.full_like(found, IGNORED)), tokens.ids.ends)
