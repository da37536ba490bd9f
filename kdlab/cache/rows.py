r"""Codecs of language models: what is kept of the answer at each token that is predicted.

| ``teacher.cache_codec`` | keeps of a token | for |
| --- | --- | --- |
| ``dense`` | all logits | small vocabularies |
| ``hidden`` | the last hidden state; the head is applied again | every loss; exact |
| ``top_k`` | the k largest log-probabilities, and the mass of the others | divergences (:attr:`Loss.sparse`) |
| ``sampled`` | classes that were drawn, with their weights, and the entropy | the forward KL |

What is stored of many rows is a dict of tensors. A row is found by its sample and its position in it, never by the step
in which it was seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from kdlab.counter import counter_bits, counter_uniform
from kdlab.outputs import LazyLogits, Sampled, SparseTarget, TopK

from .codec import CODECS, VALUES
from .refusals import CannotKeep

Stored = dict[str, Tensor]
Answer = Tensor | LazyLogits | SparseTarget
#: from values of rows ``(n, ...)`` to those of all positions of a batch ``(B, T, ...)``, 0 where there is no row
Spread = Callable[[Tensor], Tensor]

_LOGITS_AT_ONCE = 2**22  # numbers; so many are in memory beyond the hidden states
_DRAWS = 41  # the stream of random numbers of samples


class RowCodec(ABC):
    """Turns the answers at rows (tokens that are predicted) into tensors with one entry a row, and back.

    Args:
        dtype: in which floating-point values are stored: ``float32``, or a type to which they are rounded.
    """

    name: ClassVar[str]
    #: the splits whose answers are kept. Metrics of validation and test need all logits
    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")
    #: what ``error`` measures
    error: ClassVar[str] = "KL(live || kept)"

    def __init__(self, dtype: str = "float32"):
        self.inner = CODECS[dtype]

    @abstractmethod
    def encode(self, answer: Tensor | LazyLogits, index: Tensor, position: Tensor) -> tuple[Stored, Tensor]:
        """What is stored of rows, and the error of each, in nats ``(N,)``.

        Args:
            answer: logits of the rows ``(N, V)``.
            index, position: the sample of each row, and its place in the sample ``(N,)``.

        Raises:
            CannotKeep: it cannot hold them.
        """

    @abstractmethod
    def decode(self, stored: Stored, spread: Spread, head: Callable[[Tensor], Tensor], classes: int) -> Answer:
        """The answer to a batch from what is stored of its rows.

        Args:
            head: from hidden states to logits.
            classes: size of the vocabulary.
        """

    #: the tensor that is compared with a live teacher's
    compared: ClassVar[str] = VALUES

    def opened(self, stored: Stored) -> Stored:
        """What is read from a file, with what :meth:`take` needs to know of it as a whole."""
        return stored

    def take(self, stored: Stored, rows: Tensor) -> Stored:
        """What is stored of some rows."""
        return {name: value[rows] for name, value in stored.items()}

    def joined(self, parts: Sequence[Stored]) -> Stored:
        """What is stored of several lots of rows together."""
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _rounded(self, values: Tensor) -> Tensor:
        return self.inner.encode(values)[VALUES]

    def _read(self, stored: Tensor) -> Tensor:
        return self.inner.decode({VALUES: stored})


class Dense(RowCodec):
    """All logits of a row."""

    name = "dense"

    def encode(self, answer: Tensor | LazyLogits, index: Tensor, position: Tensor) -> tuple[Stored, Tensor]:
        """The logits."""
        kept, errors = [], []
        for logits, _ in _logits(answer):
            kept.append(self._rounded(logits))
            errors.append(_divergence(logits, self._read(kept[-1])))
        return {VALUES: torch.cat(kept)}, torch.cat(errors)

    def decode(self, stored: Stored, spread: Spread, head: Callable[[Tensor], Tensor], classes: int) -> Answer:
        """Logits ``(B, T, V)``."""
        return spread(self._read(stored[VALUES]))


class Hidden(RowCodec):
    """The last hidden state of a row."""

    name = "hidden"

    def encode(self, answer: Tensor | LazyLogits, index: Tensor, position: Tensor) -> tuple[Stored, Tensor]:
        """The hidden states.

        Raises:
            CannotKeep: the network answers with logits, so its head is not known.
        """
        if not isinstance(answer, LazyLogits):
            raise CannotKeep(
                "teacher.cache_codec=hidden: the teacher answers with logits, and its hidden states and head are not "
                "known; teacher.cache_codec=top_k keeps its most probable tokens"
            )
        kept = self._rounded(answer.hidden)
        if self.inner.exact:
            return {VALUES: kept}, torch.zeros(len(kept))
        read = self._read(kept)
        return {VALUES: kept}, torch.cat(
            [_divergence(logits, answer.head(read[part])) for logits, part in _logits(answer)]
        )

    def decode(self, stored: Stored, spread: Spread, head: Callable[[Tensor], Tensor], classes: int) -> Answer:
        """Logits that are computed when they are read."""
        return LazyLogits(spread(self._read(stored[VALUES])), head)


class Largest(RowCodec):
    """The k largest log-probabilities of a row, and the mass of all other classes.

    Args:
        k: how many; all of a smaller vocabulary.
        temperature: of the softmax.
    """

    name, splits, compared = "top_k", ("train",), "log_probabilities"

    def __init__(self, dtype: str = "float32", k: int = 64, temperature: float = 1.0):
        super().__init__(dtype)
        self.k, self.temperature = k, temperature

    def encode(self, answer: Tensor | LazyLogits, index: Tensor, position: Tensor) -> tuple[Stored, Tensor]:
        """Their numbers, their log-probabilities and the logarithm of the others' mass. The error is that of the
        distribution that shares this mass equally between the others."""
        parts, errors = [], []
        for logits, _ in _logits(answer):
            log_p = (logits / self.temperature).log_softmax(-1)
            k = min(self.k, log_p.shape[-1])
            kept = log_p.topk(k, -1)
            others = log_p.scatter(1, kept.indices, -torch.inf)
            log_tail = others.logsumexp(-1)
            parts.append(
                {
                    "ids": narrow(kept.indices, log_p.shape[-1]),
                    "log_probabilities": self._rounded(kept.values),
                    "log_tail": log_tail,
                }
            )
            share = log_tail - _log(log_p.shape[-1] - k)
            errors.append(_sum_of(others.exp(), others - share[:, None]))
        return self.joined(parts), torch.cat(errors).clamp(min=0)

    def decode(self, stored: Stored, spread: Spread, head: Callable[[Tensor], Tensor], classes: int) -> Answer:
        """The target; rounded log-probabilities are normalised."""
        log_p, log_tail = self._read(stored["log_probabilities"]), stored["log_tail"]
        if not self.inner.exact:
            every = torch.cat([log_p, log_tail[:, None]], 1).log_softmax(-1)
            log_p, log_tail = every[:, :-1], every[:, -1]
        return TopK(
            ids=spread(widened(stored["ids"])),
            classes=classes,
            temperature=self.temperature,
            log_probabilities=spread(log_p),
            log_tail=spread(log_tail),
        )


class Drawn(RowCodec):
    r"""Classes drawn from :math:`\pi \propto p^t`, each with the weight :math:`\frac{n_i}{n} \frac{p_i}{\pi_i}` for
    :math:`n_i` of n draws, whose mean is p. The draws are a function of the sample's number and the position alone.

    Args:
        samples: n.
        exponent: t; at 1 the classes are drawn from p itself.
        temperature: of p.
    """

    name, splits, compared, error = "sampled", ("train",), "entropy", "KL(kept || live)"

    def __init__(self, dtype: str = "float32", samples: int = 50, exponent: float = 1.0, temperature: float = 1.0):
        super().__init__(dtype)
        self.samples, self.exponent, self.temperature = samples, exponent, temperature

    def encode(self, answer: Tensor | LazyLogits, index: Tensor, position: Tensor) -> tuple[Stored, Tensor]:
        """The classes, their weights, how many there are in a row, and the entropy of p."""
        parts, errors = [], []
        for logits, part in _logits(answer):
            log_p = (logits / self.temperature).log_softmax(-1)
            log_pi = log_p if self.exponent == 1 else (log_p * self.exponent).log_softmax(-1)
            drawn = self._draws(log_pi, index[part], position[part])
            first = torch.ones_like(drawn, dtype=torch.bool)
            first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
            place = first.cumsum(1) - 1
            ids = torch.zeros_like(drawn).scatter_(1, place, drawn)
            times = torch.zeros(drawn.shape, dtype=log_p.dtype, device=log_p.device)
            times.scatter_add_(1, place, torch.ones_like(times))
            mine = log_p.gather(1, ids)
            weights = times / self.samples * (mine - log_pi.gather(1, ids)).exp()
            kept = weights / weights.sum(1, keepdim=True)
            errors.append(_sum_of(kept, kept.log() - mine))
            named = times > 0
            parts.append(
                {
                    "ids": narrow(ids[named], log_p.shape[-1]),
                    "weights": self._rounded(weights[named]),
                    "count": named.sum(1).to(torch.int16),
                    "entropy": -_sum_of(log_p.exp(), log_p),
                }
            )
        return self.joined(parts), torch.cat(errors).clamp(min=0)

    def _draws(self, log_pi: Tensor, index: Tensor, position: Tensor) -> Tensor:
        """Class numbers ``(N, n)``, ascending."""
        rows = counter_bits(counter_bits(index, _DRAWS) + position, 0)
        numbers = counter_uniform(rows[:, None] + torch.arange(self.samples, device=rows.device), 1)
        below = log_pi.double().exp().cumsum(-1)
        found = torch.searchsorted(below, numbers * below[:, -1:], right=True)
        return found.clamp(max=log_pi.shape[-1] - 1).sort(1).values

    def opened(self, stored: Stored) -> Stored:
        """With the place after each row's last class."""
        return {**stored, "ends": stored["count"].long().cumsum(0)}

    def take(self, stored: Stored, rows: Tensor) -> Stored:
        """What is stored of some rows, whose classes are one after another."""
        ends = stored["ends"] if "ends" in stored else stored["count"].long().cumsum(0)
        count = stored["count"][rows]
        places = spans(ends[rows] - count.long(), count.long())
        return {
            "ids": stored["ids"][places],
            "weights": stored["weights"][places],
            "count": count,
            "entropy": stored["entropy"][rows],
        }

    def decode(self, stored: Stored, spread: Spread, head: Callable[[Tensor], Tensor], classes: int) -> Answer:
        """The target. Rows of fewer classes are filled up with weights of 0."""
        count = stored["count"].long()
        width = int(count.max()) if len(count) else 1
        named = torch.arange(width, device=count.device) < count[:, None]
        ids = torch.zeros(named.shape, dtype=torch.long, device=count.device)
        weights = torch.zeros(named.shape, device=count.device)
        ids[named] = widened(stored["ids"])
        weights[named] = self._read(stored["weights"])
        return Sampled(
            ids=spread(ids),
            classes=classes,
            temperature=self.temperature,
            weights=spread(weights),
            entropy=spread(stored["entropy"]),
        )


_CODECS: dict[str, type[RowCodec]] = {one.name: one for one in (Dense, Hidden, Largest, Drawn)}


def row_codec(record: Mapping[str, Any], dtype: str) -> RowCodec:
    """The codec of a cache's contents: its ``name`` and its options.

    >>> row_codec({"name": "top_k", "k": 8}, "float32").k
    8
    """
    options = {name: value for name, value in record.items() if name != "name"}
    return _CODECS[record["name"]](dtype, **options)


def spans(starts: Tensor, counts: Tensor) -> Tensor:
    """The numbers ``start``, ``start`` + 1, … of several spans, one after another.

    >>> spans(torch.tensor([5, 0, 9]), torch.tensor([2, 3, 0])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = counts.cumsum(0) - counts
    total = int(counts.sum())
    return torch.arange(total, device=counts.device) + (starts - before).repeat_interleave(counts)


def narrow(ids: Tensor, classes: int) -> Tensor:
    """Class numbers in two bytes where these suffice, in four otherwise.

    >>> narrow(torch.tensor([0, 49151]), 49152), widened(narrow(torch.tensor([0, 49151]), 49152)).tolist()
    (tensor([-32768,  16383], dtype=torch.int16), [0, 49151])
    """
    return (ids - 2**15).to(torch.int16) if classes <= 2**16 else ids.to(torch.int32)


def widened(ids: Tensor) -> Tensor:
    """The class numbers of :func:`narrow`."""
    return ids.long() + 2**15 if ids.dtype == torch.int16 else ids.long()


def _logits(answer: Tensor | LazyLogits) -> Iterator[tuple[Tensor, slice]]:
    """Logits in float32 of a part of the rows at a time, and which rows they are."""
    source = answer.hidden if isinstance(answer, LazyLogits) else answer
    width = answer.head(source[:1]).shape[-1] if isinstance(answer, LazyLogits) else source.shape[-1]
    rows = max(_LOGITS_AT_ONCE // width, 1)
    for start in range(0, max(len(source), 1), rows):
        part = slice(start, start + rows)
        yield (answer.head(source[part]) if isinstance(answer, LazyLogits) else source[part]).float(), part


def _divergence(live: Tensor, kept: Tensor) -> Tensor:
    if live is kept:
        return torch.zeros(len(live), device=live.device)
    log_p = live.log_softmax(-1)
    return _sum_of(log_p.exp(), log_p - kept.float().log_softmax(-1)).clamp(min=0)


def _sum_of(weights: Tensor, values: Tensor) -> Tensor:
    """The sum of products in each row, where 0 times anything is 0."""
    return (weights * values.masked_fill(weights == 0, 0.0)).sum(-1)


def _log(number: int) -> float:
    return float(torch.tensor(float(max(number, 1))).log())
