"""CachedRows: a frozen language model that reads its answers from a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED
from kdlab.models.head import LanguageHead
from kdlab.outputs import LazyLogits, Outputs
from kdlab.tasks.tokens import Tokens
from kdlab.teachers import Frozen

from .cached import _OPEN, LOGITS, Cached
from .refusals import CannotKeep, Damaged
from .rows import RowCodec, Spread, Stored, row_codec, spans
from .store import Store

HEAD = "head"  # the slot of the head's weights
#: how many tokens a sample has, and the position of each: stored with what the codec keeps
ROWS, POSITION = "rows", "position"


@dataclass(frozen=True)
class Kept:
    """What is to be stored of a slot.

    Args:
        index: the samples' numbers ``(N,)``, ascending.
        stored: by name.
        tokens: how many rows that are.
        error: their mean error, in nats.
    """

    index: Tensor
    stored: Stored
    tokens: int
    error: float


class CachedRows(Cached):
    """A frozen teacher of tokens whose answers are read from a store, at the tokens that are predicted.

    An answer is found by its sample's number and its position. Where the store has none of a split, or not those of a
    batch's tokens, the network is asked, and its answer is changed as the codec changes it.

    Args:
        make: loads the live teacher.
        store: of its answers; its contents name the codec.
        fixed: each training sample has one answer in all epochs and views.
        task: says which tokens are predicted.
    """

    def __init__(self, make: Callable[[], Frozen], store: Store, fixed: bool, task: Tokens):
        super().__init__(make, store, fixed)
        self.task = task
        assert store.contents is not None and store.contents.codec is not None
        self.rows: RowCodec = row_codec(store.contents.codec, store.contents.dtype)
        self._head: LanguageHead | None = None
        self._prepared: dict[str, Stored] = {}

    # -- its answers ---------------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """``logits`` alone."""
        return (LOGITS,)

    def watch(self, taps: Collection[str]) -> None:
        """Raises InputError if there are any: no features are kept."""
        if taps:
            raise InputError(
                f"teacher.cache_codec={self.rows.name} keeps the answers at tokens, and no features ("
                f"{', '.join(sorted(taps))}); leave out the terms that read them, or teacher.cache=live"
            )

    def slot_of(self, batch: Batch) -> str | None:
        """The slot with a batch's answers; None where none are kept of its split."""
        return super().slot_of(batch) if batch.split in self.rows.splits else None

    def teach(self, batch: Batch) -> Outputs:
        """The Outputs on the batch, detached: from the store, or from the network where the store has none. Those of a
        split that is not kept are the network's own."""
        stored = self._stored(batch)
        if stored is not None:
            return stored
        with torch.autocast(batch.index.device.type, enabled=False):  # as the answers that are kept
            outputs = self.live.teach(batch)
            if self.slot_of(batch) is None:
                return outputs
            return self._decoded(self._encoded(outputs, batch)[0], batch)

    def _labelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The place in the batch and the position of each row, in the order in which the task aligns rows."""
        places = (self.task.answered(batch.labels) != IGNORED).nonzero()
        return places[:, 0], places[:, 1]

    def _encoded(self, outputs: Outputs, batch: Batch) -> tuple[Stored, Tensor]:
        """What is stored of the rows of a batch, and the error of each.

        Raises:
            CannotKeep: the answers are no logits.
            InputError: the network has another vocabulary than the data; what is stored of a part would not show it.
        """
        if outputs.sparse is not None or outputs.by_term:
            raise CannotKeep("teacher.cache: this teacher's answers are no logits; teacher.cache=live")
        answer = self.task.align(outputs, batch).answer
        assert isinstance(answer, Tensor | LazyLogits)
        width = (answer.head(answer.hidden[:1]) if isinstance(answer, LazyLogits) else answer).shape[-1]
        if width != (classes := self.task.classes):
            what = self.task.report.answers
            raise InputError(
                f"teacher: the network answers with {width} {what}, but the data have {classes}; set "
                f"teacher.vocabulary (or the argument of that network that gives its number of {what}) to {classes}, "
                "or take a teacher of the data's tokenizer"
            )
        sample, position = self._labelled(batch)
        return self.rows.encode(answer, batch.index[sample], position)

    def _decoded(self, stored: Stored, batch: Batch) -> Outputs:
        shape, (sample, position) = batch.labels.shape, self._labelled(batch)

        def spread(values: Tensor) -> Tensor:
            every = values.new_zeros(*shape, *values.shape[1:])
            every[sample, position] = values
            return every

        return Outputs(self._answer(stored, spread, batch), mask=batch.mask).detach()

    def _answer(self, stored: Stored, spread: Spread, batch: Batch) -> Any:
        head = self.head(batch.index.device).forward if self.rows.name == "hidden" else _no_head
        return self.rows.decode(stored, spread, head, self.task.classes)

    def _stored(self, batch: Batch) -> Outputs | None:
        slot = self.slot_of(batch)
        opened = None if slot is None else self._opened(slot)
        if slot is None or opened is None:
            return None
        index, stored = opened[0], self._prepared_for(slot, opened[1][LOGITS])
        wanted = batch.index.cpu()
        samples = torch.searchsorted(index, wanted).clamp_(max=len(index) - 1)
        sample, position = (one.cpu() for one in self._labelled(batch))
        count = stored[ROWS][samples]
        rows = spans(stored["starts"][samples], count)
        if (
            not torch.equal(index[samples], wanted)
            or not torch.equal(count, torch.bincount(sample, minlength=len(wanted)))
            or not torch.equal(stored[POSITION][rows].long(), position)
        ):
            self._warn(f"it has no answers to some tokens of {slot}")
            return None
        kept = {name: value for name, value in stored.items() if name not in (ROWS, POSITION, "starts")}
        found = self.rows.take(kept, rows)
        return self._decoded({name: value.to(batch.index.device) for name, value in found.items()}, batch)

    def _prepared_for(self, slot: str, stored: Stored) -> Stored:
        """What is read of a slot, with the places that are computed once."""
        if slot not in self._prepared:
            count = stored[ROWS].long()
            if len(self._prepared) >= _OPEN:
                self._prepared.clear()
            self._prepared[slot] = {**self.rows.opened(stored), ROWS: count, "starts": count.cumsum(0) - count}
        return self._prepared[slot]

    # -- the head ------------------------------------------------------------------------------------------------------

    def head(self, device: torch.device) -> LanguageHead:
        """The head alone: of the network where that is loaded, otherwise from the store.

        Raises:
            CannotKeep: the network's head is not known.
        """
        if self._head is None:
            self._head = self._kept_head() or self._own_head()
        return self._head.to(device)

    def _kept_head(self) -> LanguageHead | None:
        """The head in the store; None where it is not there, or the network is in memory."""
        facts = dict(self.store.facts.get(HEAD) or {})
        if self.is_loaded or not facts:
            return None
        try:
            found = [self.store.read(HEAD, name) for name in facts.pop("parameters")]
        except Damaged as error:
            self._warn(str(error))
            return None
        if None in found:
            return None
        weight, bias = (*(one[1] for one in found if one is not None), None)[:2]
        return None if weight is None else LanguageHead(weight, bias, **facts)

    def _own_head(self) -> LanguageHead:
        alone: LanguageHead | None = getattr(self.live.network, "head_alone", lambda: None)()
        if alone is None or self.live.class_order is not None:
            raise CannotKeep(
                "teacher.cache_codec=hidden: the head of this network is more than a linear layer, so it is not known "
                "apart from it; teacher.cache_codec=top_k keeps its most probable tokens"
            )
        return alone

    # -- filling -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def asked(self, loader: Iterable[Batch], view: int, device: torch.device | str) -> Kept:
        """The live teacher's answers to a split."""
        index: list[Tensor] = []
        counts: list[Tensor] = []
        positions: list[Tensor] = []
        parts: list[Stored] = []
        errors: list[Tensor] = []
        for batch in loader:
            batch = batch.to(device).view(view)
            stored, error = self._encoded(self.live.teach(batch), batch)
            sample, position = self._labelled(batch)
            index.append(batch.index.cpu())
            counts.append(torch.bincount(sample, minlength=len(batch)).cpu())
            positions.append(position.cpu())
            errors.append(error.cpu())
            parts.append({name: value.cpu() for name, value in stored.items()})
        every, count = torch.cat(index), torch.cat(counts)
        order = every.argsort(stable=True)
        first = torch.ones(len(every), dtype=torch.bool)
        first[1:] = every[order][1:] != every[order][:-1]  # the last batch is filled up with samples that came before
        chosen = order[first]
        rows = spans((count.cumsum(0) - count)[chosen], count[chosen])
        kept = self.rows.take(self.rows.joined(parts), rows)
        kept.pop("ends", None)
        facts = {ROWS: count[chosen].to(torch.int32), POSITION: torch.cat(positions)[rows].to(torch.int32)}
        error = torch.cat(errors)[rows]
        return Kept(every[chosen], {**facts, **kept}, len(rows), float(error.mean()) if len(rows) else 0.0)

    @torch.no_grad()
    def write(self, slot: str, kept: Kept, facts: Mapping[str, Any]) -> int:
        """Write a slot, and note what was measured of it. Returns the bytes of its file.

        Raises:
            OSError: it cannot be written.
        """
        if self.rows.name == "hidden":
            alone = self._own_head()
            parameters = dict(alone.named_parameters())
            facts = {
                **facts,
                HEAD: {"parameters": list(parameters), "vocabulary": alone.vocabulary, **alone.scaling},
            }
            with self.store.lock(HEAD):
                for name, value in parameters.items():
                    if self.store.missing(HEAD, [name]):
                        stored = {"values": value.detach().cpu()}
                        self.store.write_stored(HEAD, name, torch.arange(len(value)), stored)
        self.store.begin(facts)
        size = self.store.write_stored(slot, LOGITS, kept.index, kept.stored).stat().st_size
        self.store.measure(slot, {"tokens": kept.tokens, "bytes": size, "error": kept.error, "of": self.rows.error})
        return size

    @torch.no_grad()
    def bytes_a_row(self, batch: Batch) -> float:
        """Of what is stored of a batch, for each row."""
        stored, _ = self._encoded(self.live.teach(batch), batch)
        size = sum(value.numel() * value.element_size() for value in stored.values())
        return size / max(len(self._labelled(batch)[0]), 1) + 4

    @torch.no_grad()
    def distance(self, batch: Batch) -> float:
        """How far the stored answers to a batch are from the live teacher's at most; infinite where there are none."""
        slot = self.slot_of(batch)
        opened = None if slot is None else self._opened(slot)
        if slot is None or opened is None:
            return float("inf")
        live = self._decoded(self._encoded(self.live.teach(batch), batch)[0], batch)
        kept = self._stored(batch)
        if kept is None:
            return float("inf")
        mine, theirs = (self._compared(one, batch) for one in (kept, live))
        gap = (mine - theirs).abs() - self.rows.inner.place * theirs.abs()
        return float(gap.masked_fill(mine == theirs, 0.0).clamp(min=0).max())

    def _compared(self, outputs: Outputs, batch: Batch) -> Tensor:
        sample, position = self._labelled(batch)
        if outputs.sparse is not None:
            values: Tensor = getattr(outputs.sparse, self.rows.compared)
            return values[sample, position]
        answer = outputs.answer
        return (answer.hidden if isinstance(answer, LazyLogits) else outputs.logits)[sample, position]


def _no_head(hidden: Tensor) -> Tensor:
    raise RuntimeError("this codec keeps no hidden states")
