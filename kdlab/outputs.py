"""Outputs: the outputs of one network for one batch. A loss sees nothing else of a network in a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


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
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]
    parameters: tuple[Tensor, ...] = ()
    rows_at_once: int | None = None

    def dense(self) -> Tensor:
        """The dense logits ``(..., C)``: the head applied to the hidden states."""
        return self.head(self.hidden)

    def detach(self) -> LazyLogits:
        """Without gradient to the hidden states, and to the head when it is applied later."""
        return replace(self, hidden=self.hidden.detach(), head=torch.no_grad()(self.head), parameters=())


@dataclass
class Outputs:
    """The outputs of one network for one batch.

    Args:
        answer: dense logits ``(B, C)`` (``(B, T, V)`` for sequences, ``(N, C)`` once aligned), or :class:`LazyLogits`.
        features: tap name -> tensor, only for the taps that the objective reads.
        mask: the positions that count, for sequences.
        second: the same network's Outputs for the batch's second view, if a loss compares two views.
        by_term: loss term -> Outputs, for terms with their own teacher. The other terms learn from these Outputs
            themselves.
        samples: what was measured of each sample beside its rows, ``(B,)`` each, for the task's metrics.

    >>> import torch
    >>> lazy = Outputs(LazyLogits(torch.ones(2, 3), torch.nn.Linear(3, 5)))
    >>> lazy.is_lazy, lazy.logits.shape, lazy.is_lazy
    (True, torch.Size([2, 5]), False)
    """

    answer: Tensor | LazyLogits
    features: dict[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    second: Outputs | None = None
    by_term: dict[str, Outputs] = field(default_factory=dict)
    samples: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_lazy(self) -> bool:
        """Whether the dense logits do not exist yet."""
        return isinstance(self.answer, LazyLogits)

    @property
    def logits(self) -> Tensor:
        """The dense logits; computed now if they were lazy."""
        if isinstance(self.answer, LazyLogits):
            self.answer = self.answer.dense()
        return self.answer

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
