"""The loader of texts: batches that are as long as their longest text, on request of texts of similar length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.counter import counter_order
from kdlab.data.loader import BatchLoader, EpochOrder
from kdlab.functional.tokens import IGNORED

from .masking import Masking
from .tokens import Ragged, Tokens

_BUCKETS = 51  # the stream of random numbers that orders the batches of a window
WINDOW = 50  # batches whose samples are sorted by length together


def bucketed(rows: Tensor, lengths: Tensor, batch_size: int, seed: int, epoch: int, window: int = WINDOW) -> Tensor:
    """An epoch's order with texts of similar length in each batch.

    Of each ``window`` batches of the shuffled order, the samples are sorted by length and cut into batches; then all
    batches are put in random order. It is a function of (seed, epoch). The samples after the last full batch stay where
    they are: so which samples are left out does not depend on their length.

    Args:
        rows: the shuffled order of the epoch, ``(N,)``.
        lengths: of the texts, by sample, in tokens.

    >>> order = bucketed(torch.arange(7), torch.tensor([9, 1, 8, 2, 7, 3, 5]), batch_size=2, seed=1, epoch=0)
    >>> sorted(sorted(batch) for batch in order[:6].view(3, 2).tolist()), order[6].item()
    ([[0, 2], [1, 3], [4, 5]], 6)
    """
    full = len(rows) // batch_size
    whole, tail = rows[: full * batch_size], rows[full * batch_size :]
    batches = []
    for part in whole.split(window * batch_size):
        batches.append(part[lengths[part].argsort(stable=True)].view(-1, batch_size))
    if not batches:
        return rows
    order = counter_order(torch.arange(full), seed, epoch, _BUCKETS)
    return torch.cat([torch.cat(batches)[order].flatten(), tail])


class TextLoader(BatchLoader):
    """Batches of tokens: ``inputs`` is ``{"input_ids", "attention_mask"[, "token_type_ids"]}``, each ``(B, T)`` int64,
    and ``mask`` the attention mask as float. T is the length of the longest text in the batch.

    Args:
        tokens: of the stored split.
        target: the labels, ``(N, ...)``; None: the data have none.
        word_labels: the label of each token, -100 where it has none, instead of ``target``.
        teacher_tokens: the same texts as the teacher's tokenizer reads them; None: as the student's.
        length: the most tokens of a text.
        pad_to: ``longest`` text in the batch, ``length``, or a number: the next multiple of it.
        teacher_pad_to: the same for a frozen teacher: ``same`` as the student, or ``length``.
        buckets: whether training batches hold texts of similar length.
        masking: masks tokens, whose originals are then the labels; None: the texts stay as they are.
        options: those of :class:`BatchLoader`.
    """

    def __init__(
        self,
        tokens: Tokens,
        target: Tensor,
        order: EpochOrder,
        batch_size: int,
        split: str,
        *,
        labels: bool = True,
        word_labels: Ragged | None = None,
        teacher_tokens: Tokens | None = None,
        length: int = 128,
        pad_to: str | int = "longest",
        teacher_pad_to: str = "same",
        buckets: bool = False,
        masking: Masking | None = None,
        **options: Any,
    ):
        super().__init__(target, order, batch_size, split, **options)
        self.tokens, self.labels, self.word_labels, self.teacher_tokens = tokens, labels, word_labels, teacher_tokens
        self.length, self.pad_to, self.teacher_pad_to, self.buckets = length, pad_to, teacher_pad_to, buckets
        self.masking = masking

    @property
    def inputs(self) -> dict[str, Tensor | Ragged]:
        """All tokens of the stored split, for a digest of what the network gets."""
        found: dict[str, Tensor | Ragged] = {"ids": self.tokens.ids, "ends": self.tokens.ids.ends}
        if self.teacher_tokens is not None:
            found["teacher_ids"] = self.teacher_tokens.ids
        return found

    def epoch_rows(self) -> Tensor:
        """The rows of the present epoch, in order; in buckets where the data ask for it and no strategy has an order of
        its own."""
        rows = super().epoch_rows()
        if not self.buckets or self.split != "train" or not self.sampler.shuffle or self.sampler.order is not None:
            return rows
        return bucketed(rows, self.tokens.ids.lengths, self.batch_size, self.sampler.seed, self.sampler.present)

    def width(self, tokens: Tokens, rows: Tensor) -> int:
        """T of a batch with the given samples."""
        if self.pad_to == "length":
            return self.length
        longest = max(int(tokens.ids.lengths[rows].max()), 1) if len(rows) else 1  # a process may have no sample
        if isinstance(self.pad_to, int):
            return min(-(-longest // self.pad_to) * self.pad_to, max(self.length, longest))
        return longest

    def filled(self, rows: Tensor, width: int) -> Tensor:
        """Which positions of a batch are tokens, not padding ``(B, width)``."""
        return torch.arange(width) < self.tokens.ids.lengths[rows][:, None]

    def inputs_of(self, rows: Tensor) -> dict[str, Tensor]:
        """What a network gets of samples."""
        return self.tokens.inputs(rows, self.width(self.tokens, rows))

    def views_of(self, rows: Tensor, epoch: int) -> list[dict[str, Tensor]]:
        """The tokens of the rows, once for each view: texts are not augmented. In training, other tokens are masked in
        each epoch and view."""
        return [inputs for inputs, _ in self._views(rows, epoch)]

    def _views(self, rows: Tensor, epoch: int) -> list[tuple[dict[str, Tensor], Tensor | None]]:
        """The tokens of each view, and the originals of those that are masked in it."""
        inputs = self.inputs_of(rows)
        if self.masking is None:
            return [(inputs, None)] * self.views
        return [self._masked(self.masking, inputs, rows, epoch, view) for view in range(self.views)]

    def _masked(
        self, masking: Masking, inputs: dict[str, Tensor], rows: Tensor, epoch: int, view: int = 0
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs with masks, and the labels; in evaluation the same in all epochs."""
        return masking(inputs, rows, *((epoch, view) if self.split == "train" else (0, 0)))

    def batch(self, rows: Tensor, epoch: int = 0, normalisers: Mapping[str, float] | None = None) -> Batch:
        """The batch of the given rows in ``epoch``. Of masked tokens, the labels are those of the first view."""
        views = self._views(rows, epoch)
        batch = self.made(rows, [inputs for inputs, _ in views], epoch, normalisers)
        return batch if self.masking is None else batch.replace(target=views[0][1])

    def made(self, rows: Tensor, views: list, epoch: int, normalisers: Mapping[str, float] | None) -> Batch:
        """The batch with its mask, the labels of its words, and the teacher's tokens."""
        batch = super().made(rows, views, epoch, normalisers)
        mask = self.filled(rows, batch.inputs["input_ids"].shape[1])
        target = batch.target if self.labels else None
        if self.word_labels is not None:
            target = self.word_labels.padded(rows, mask.shape[1], IGNORED)
        teacher, theirs = self.teacher_tokens, None
        if self.teacher_pad_to == "length":
            theirs = (teacher or self.tokens).inputs(rows, self.length)
            if self.masking is not None:
                theirs = self._masked(self.masking, theirs, rows, epoch)[0]
        elif teacher is not None:
            theirs = teacher.inputs(rows, self.width(teacher, rows))
        return batch.replace(mask=mask.float(), target=target, teacher_inputs=theirs)
