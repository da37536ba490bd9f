"""Answers of several networks to rows of one batch, put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdlab.errors import InputError
from kdlab.outputs import LazyLogits, Outputs, SparseTarget
from kdlab.tasks.tokens import OnceAsked

#: the places of rows in a batch ``(K,)``, and what a network answered to them
Part = tuple[Tensor, Outputs]
#: the largest number of networks whose number a hidden state in half precision can hold
MOST = 256
#: what fills up the entries of a sparse target with fewer classes than another one: it names no class
_FILLS = {"ids": 0, "log_probabilities": -math.inf, "weights": 0.0}


def joined(parts: Sequence[Part], rows: int) -> Outputs:
    """The Outputs of a batch of which each row was answered by one network.

    Logits that are not computed yet stay so: the hidden states hold the number of their network in one more column, and
    the head applies to each row the head of its network.

    Args:
        parts: of each network. Together they have each row once.
        rows: of the batch.

    Raises:
        InputError: of some networks all logits are known, and of others a part.

    >>> one, other = Outputs(torch.ones(1, 2)), Outputs(torch.zeros(2, 2))
    >>> joined([(torch.tensor([1]), one), (torch.tensor([0, 2]), other)], 3).logits.tolist()
    [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    """
    answers = [one.answer for _, one in parts]
    answer: Tensor | LazyLogits | SparseTarget
    sparse = [(places, one.sparse) for places, one in parts if one.sparse is not None]
    if sparse:
        if len(sparse) < len(parts):
            raise InputError("teacher: of some members all logits are known, and of others a part")
        answer = _sparse(sparse, rows)
    elif all(isinstance(one, LazyLogits) for one in answers):
        answer = _lazy([(places, one.answer) for places, one in parts if isinstance(one.answer, LazyLogits)], rows)
    else:
        answer = _spread([(places, one.logits) for places, one in parts], rows)
    masks = [(places, one.mask) for places, one in parts if one.mask is not None]
    return Outputs(
        answer,
        {name: _spread([(places, one.features[name]) for places, one in parts], rows) for name in parts[0][1].features},
        _spread(masks, rows) if len(masks) == len(parts) else None,
        samples=_samples(parts, rows),
    )


def unlike(said: Mapping[str, Outputs]) -> list[str]:
    """Why answers of networks to the same samples cannot be rows of one batch; empty if they can.

    Args:
        said: by the key of the network.

    >>> unlike({"a": Outputs(torch.ones(1, 2), {"hidden1": torch.ones(1, 3)}),
    ...     "b": Outputs(torch.ones(1, 2), {"hidden1": torch.ones(1, 4)})})[0].partition(";")[0]
    "b: its 'hidden1' has the shape (4,), and that of a (3,)"
    """
    (first, one), *others = said.items()
    found = []
    for key, other in others:
        if _kind(one) != _kind(other):
            found.append(
                f"{key}: its answers are {_kind(other)}, and those of {first} are {_kind(one)}; all members must "
                "answer in one way: networks alone, or servers alone (teacher=served)"
            )
        for tap in one.features:
            mine, theirs = (
                tuple(each.features[tap].shape[1:]) if tap in each.features else () for each in (one, other)
            )
            if mine != theirs:
                found.append(
                    f"{key}: its '{tap}' has the shape {theirs}, and that of {first} {mine}; a loss on features needs "
                    "members of one width: leave the term out"
                )
    return found


def _kind(outputs: Outputs) -> str:
    target = outputs.sparse
    if target is None:
        return "all logits"
    what = "the most probable classes" if target.kind == "top_k" else "samples of classes"
    return f"{what} at temperature {target.temperature:g}"


def _spread(parts: Sequence[tuple[Tensor, Tensor]], rows: int) -> Tensor:
    """``(rows, …)`` of parts ``(K, …)``."""
    kind = _common(value for _, value in parts)
    first = parts[0][1]
    found = first.new_zeros((rows, *first.shape[1:]), dtype=kind)
    for places, value in parts:
        found[places] = value.to(kind)
    return found


def _common(values: Iterable[Tensor]) -> torch.dtype:
    return reduce(torch.promote_types, (value.dtype for value in values))


def _sparse(parts: Sequence[tuple[Tensor, SparseTarget]], rows: int) -> SparseTarget:
    first, most = parts[0][1], max(one.ids.shape[-1] for _, one in parts)

    def filled(name: str, value: Tensor) -> Tensor:
        return F.pad(value, (0, most - value.shape[-1]), value=_FILLS[name]) if name in _FILLS else value

    names = [name for name, value in vars(first).items() if isinstance(value, Tensor)]
    changed: dict[str, Any] = {
        name: _spread([(places, filled(name, getattr(one, name))) for places, one in parts], rows) for name in names
    }
    return replace(first, kept=any(one.kept for _, one in parts), **changed)


def _lazy(parts: Sequence[tuple[Tensor, LazyLogits]], rows: int) -> LazyLogits:
    first, width = parts[0][1].hidden, max(one.hidden.shape[-1] for _, one in parts)
    kind = _common([one.hidden for _, one in parts])
    hidden = first.new_zeros((rows, *first.shape[1:-1], width + 1), dtype=kind)
    heads = []
    for number, (places, one) in enumerate(parts):
        own = one.hidden.new_full((*one.hidden.shape[:-1], width + 1), number, dtype=kind)
        own[..., :-1] = F.pad(one.hidden, (0, width - one.hidden.shape[-1])).to(kind)
        hidden[places] = own
        heads.append(partial(_own_head, one.head, one.hidden.shape[-1], one.hidden.dtype))
    return LazyLogits(hidden, partial(_each_head, heads), rows_at_once=parts[0][1].rows_at_once)


def _own_head(head: Callable[[Tensor], Tensor], width: int, kind: torch.dtype, states: Tensor) -> Tensor:
    """A network's head on its own part of the columns."""
    return head(states[:, :width].to(kind))


def _each_head(heads: Sequence[Callable[[Tensor], Tensor]], hidden: Tensor) -> Tensor:
    """The logits ``(…, C)`` of hidden states ``(…, H + 1)`` whose last column is the number of their head."""
    flat = hidden.reshape(-1, hidden.shape[-1])
    numbers = flat[:, -1].round().long()
    parts = [((numbers == number).nonzero().flatten(), head) for number, head in enumerate(heads)]
    found = [(places, head(flat[places])) for places, head in parts if len(places) or not len(flat)]
    logits = _spread(found, len(flat))
    return logits.view(*hidden.shape[:-1], logits.shape[-1])


def _samples(parts: Sequence[Part], rows: int) -> Mapping[str, Tensor]:
    """What was measured of each sample, where it was of all. It is made when it is asked for."""
    # the names alone: to look for one would make the values
    held = [list(one.samples) for _, one in parts]
    names = [name for name in held[0] if all(name in others for others in held)]
    if not names:
        return {}
    return OnceAsked(
        names, lambda: {name: _spread([(places, one.samples[name]) for places, one in parts], rows) for name in names}
    )
