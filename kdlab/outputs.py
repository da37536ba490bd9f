"""Outputs: the outputs of one network for one batch. A loss sees nothing else of a network in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from kdlab.errors import InputError

Sparse = TypeVar("Sparse", bound="SparseTarget")


@dataclass
class LazyLogits:
    """Logits that are not computed yet: the last hidden states ``(..., H)`` and the head that maps them to logits.

    The objective computes terms on logits ``rows_at_once`` rows at a time (:mod:`kdlab.chunks`), if that is a number.
    Anything else reads :attr:`Outputs.logits`, which computes the dense tensor on first use.

    Args:
        hidden: the last hidden states.
        head: maps them to logits.
        parameters: those of the head.
        rows_at_once: how many rows get logits at a time; None: all.
        linear: whether the head is :math:`h W^T + b` with the ``parameters`` W and, if there is one, b. Its gradients
            are then added up in place (:mod:`kdlab.chunks`).
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]
    parameters: tuple[Tensor, ...] = ()
    rows_at_once: int | None = None
    linear: bool = False

    def dense(self) -> Tensor:
        """The dense logits ``(..., C)``: the head applied to the hidden states."""
        return self.head(self.hidden)

    def detach(self) -> LazyLogits:
        """Without gradient to the hidden states, and to the head when it is applied later."""
        return replace(self, hidden=self.hidden.detach(), head=partial(_apart, self.head), parameters=(), linear=False)


@dataclass(kw_only=True)
class SparseTarget:
    """What is known of a teacher's distribution over ``classes``, where that is not all of it. It stands in the place
    of logits ``(..., C)``. It is detached.

    Args:
        ids: class numbers ``(..., k)``, each once in a row.
        classes: C, how many there are.
        temperature: at which the other numbers were computed. Values at another temperature cannot be
            computed from them.
        kept: whether a cache keeps no more of the teacher than this. False: the teacher itself, a server, gives no
            more.
    """

    #: ``top_k`` or ``sampled``; a loss names the kinds that it accepts
    kind: ClassVar[str]

    ids: Tensor
    classes: int
    temperature: float = 1.0
    kept: bool = True

    @property
    def all_known(self) -> str:
        """What to type for a teacher of whom all logits are known, for messages."""
        return "teacher.cache=live, or teacher.cache_codec=hidden" if self.kept else "teacher=causal"

    @property
    def shape(self) -> torch.Size:
        """That of the dense logits."""
        return torch.Size((*self.ids.shape[:-1], self.classes))

    @property
    def told(self) -> str:
        """What it is, for messages."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self: Sparse, rows: Any) -> Sparse:
        return self.change(lambda value: value[rows])

    def flatten(self: Sparse, start: int, end: int) -> Sparse:
        """With the dimensions from ``start`` to ``end`` as one, which must not be the last of the logits."""
        return self.change(lambda value: value.flatten(start, end))

    def detach(self: Sparse) -> Sparse:
        """Itself."""
        return self

    def without(self: Sparse, masked: Tensor) -> Sparse:
        """With zeros in the rows where ``masked`` ``(N,)`` is True."""
        return self.change(lambda value: value.masked_fill(masked.view(-1, *[1] * (value.dim() - 1)), 0))

    def change(self: Sparse, change: Callable[[Tensor], Tensor]) -> Sparse:
        """A copy with each tensor changed."""
        changed: dict[str, Any] = {name: change(one) for name, one in vars(self).items() if isinstance(one, Tensor)}
        return replace(self, **changed)


@dataclass(kw_only=True)
class TopK(SparseTarget):
    """A teacher's most probable classes, and the mass of all others (:func:`kdlab.functional.tail_bucket`).

    Args:
        log_probabilities: of ``ids``, ``(..., k)``, the largest first. -inf: the entry names no class.
        log_tail: logarithm of the mass of all other classes, ``(...,)``; -inf where no class is left.

    >>> import torch
    >>> ids = torch.tensor([[[4, 2]], [[1, 0]]])
    >>> one = TopK(ids=ids, classes=9, log_probabilities=torch.zeros(2, 1, 2), log_tail=torch.zeros(2, 1))
    >>> one.shape, one.flatten(0, 1)[torch.tensor([1])].ids.tolist()
    (torch.Size([2, 1, 9]), [[1, 0]])
    """

    kind: ClassVar[str] = "top_k"

    log_probabilities: Tensor
    log_tail: Tensor

    @property
    def told(self) -> str:
        """What it is, for messages."""
        return f"the teacher's {self.ids.shape[-1]} most probable classes and the mass of the others"


@dataclass(kw_only=True)
class Sampled(SparseTarget):
    """Classes drawn from a teacher's distribution p (:func:`kdlab.functional.sampled_forward_kl`).

    Args:
        weights: of ``ids``, ``(..., k)``; their mean over draws is p. 0: the entry names no class,
            except for the first of a row, which always does.
        entropy: of p, ``(...,)``.
    """

    kind: ClassVar[str] = "sampled"

    weights: Tensor
    entropy: Tensor

    @property
    def told(self) -> str:
        """What it is, for messages."""
        return "samples of the teacher's classes"


class NotDense(InputError):
    """Logits of all classes are asked for, and only a part of the distribution is known."""


def without_autocast_cache(device: torch.device) -> torch.autocast:
    """Autocast as it is now, but without its memory of weights in half precision. A weight that is cast where no
    gradients are recorded must not be used again where they are: it would get none."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, torch.get_autocast_dtype(device.type), enabled, cache_enabled=False)


def _apart(head: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    with torch.no_grad(), without_autocast_cache(hidden.device):
        return head(hidden)


@dataclass
class Outputs:
    """The outputs of one network for one batch.

    Args:
        answer: dense logits ``(B, C)`` (``(B, T, V)`` for sequences, ``(N, C)`` once aligned), or :class:`LazyLogits`,
            or of a teacher :class:`SparseTarget`.
        features: tap name -> tensor, only for the taps that the objective reads.
        mask: the positions that count, for sequences.
        second: the same network's Outputs for the batch's second view, if a loss compares two views.
        by_term: loss term -> Outputs, for terms with their own teacher. The other terms learn from these Outputs
            themselves.
        samples: what was measured of each sample in addition to its rows, ``(B,)`` each, for the task's metrics; of
            generated answers also their tokens, ``(seeds, B, T)``.

    >>> import torch
    >>> lazy = Outputs(LazyLogits(torch.ones(2, 3), torch.nn.Linear(3, 5)))
    >>> lazy.is_lazy, lazy.logits.shape, lazy.is_lazy
    (True, torch.Size([2, 5]), False)
    """

    answer: Tensor | LazyLogits | SparseTarget
    features: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    second: Outputs | None = None
    by_term: dict[str, Outputs] = field(default_factory=dict)
    samples: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def is_lazy(self) -> bool:
        """Whether the dense logits do not exist yet."""
        return isinstance(self.answer, LazyLogits)

    @property
    def logits(self) -> Tensor:
        """The dense logits; computed now if they were lazy. Raises NotDense if only a part of them is known."""
        if isinstance(self.answer, LazyLogits):
            self.answer = self.answer.dense()
        if isinstance(self.answer, SparseTarget):
            raise NotDense(
                f"teacher: logits of all classes are needed, and its answers are {self.answer.told}; leave out what "
                f"needs them, or take a teacher that gives them ({self.answer.all_known})"
            )
        return self.answer

    @property
    def sparse(self) -> SparseTarget | None:
        """The answer where only a part of the distribution is known; None where there are logits."""
        return self.answer if isinstance(self.answer, SparseTarget) else None

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.logits.shape[-1] if self.sparse is None else self.sparse.classes

    @property
    def second_view(self) -> Outputs:
        """``second``, for a loss that compares two views. Raises ValueError if there is none."""
        if self.second is None:
            raise ValueError("the loss compares two views of a batch, and there are outputs for one view only")
        return self.second

    def replace(self, **changes: Any) -> Outputs:
        """A copy with new values in the named fields; the other tensors are shared."""
        return replace(self, **changes)

    def with_second(self, second: Outputs) -> Outputs:
        """Attaches the second view's Outputs, also inside ``by_term``."""
        by_term = {name: said.replace(second=second.by_term[name]) for name, said in self.by_term.items()}
        return self.replace(second=second, by_term=by_term)

    def map(self, change: Callable[[Outputs], Outputs]) -> Outputs:
        """These Outputs changed, and in the same way those of the second view and of the terms' own teachers.

        Args:
            change: returns changed Outputs. It need not look at ``second`` and ``by_term``: they are replaced.

        >>> import torch
        >>> both = Outputs(torch.ones(1), second=Outputs(torch.zeros(1)))
        >>> doubled = both.map(lambda one: one.replace(answer=2 * one.logits + 1))
        >>> doubled.logits.item(), doubled.second.logits.item()
        (3.0, 1.0)
        """
        changed = change(self)
        if self.second is None and not self.by_term and changed.second is None and not changed.by_term:
            return changed
        second = None if self.second is None else self.second.map(change)
        by_term = {name: one.map(change) for name, one in self.by_term.items()}
        return changed.replace(second=second, by_term=by_term)

    def detach(self) -> Outputs:
        """The same, detached from the graph. Every teacher's Outputs are detached."""
        return self.map(_detached)


def _detached(one: Outputs) -> Outputs:
    if isinstance(one.answer, Tensor) and not any(
        value.requires_grad for value in (one.answer, *one.features.values())
    ):
        return one  # such as those of a frozen teacher
    features = {name: value.detach() for name, value in one.features.items()}
    return one.replace(answer=one.answer.detach(), features=features)
