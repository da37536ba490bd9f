"""Loss terms on the logits of a large vocabulary, a part of the rows at a time: head and terms inside each part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kdlab.outputs import LazyLogits, without_autocast_cache

#: from the first and the last row (exclusive) and their logits to the values of the sums and of the parts
Values = Callable[[int, int, Tensor], tuple[Tensor, Tensor]]
#: from the first and the last row (exclusive) of a part to the values of rows within it
ValuesOf = Callable[[int, int], Values]
#: device -> how many logits are compared at a time: on a CPU what its cache holds
BLOCK = {"cpu": 2**20, "other": 2**26}


def summed(
    values_of: ValuesOf, lazy: LazyLogits, learned: Sequence[Tensor], sums: int, parts: int
) -> tuple[Tensor, Tensor]:
    r"""The sums over all rows of what ``values`` returns for ``lazy.rows_at_once`` of them at a time. The gradients are
    those of the sums, for any gradient that arrives.

    Nothing of the size rows x vocabulary is kept: the gradient of each part is computed in the forward pass, as soon as
    its values are known, and the logits are forgotten. Gradients of the parameters are added up in float32, those of a
    linear head in place. If several sums are later given different factors, the parts are computed once more in the
    backward pass.

    Matrix products are fastest with many rows, all else with as many as the processor's cache holds. So the values of a
    part are computed for smaller blocks of its rows, and the gradient of the logits takes the place of the logits.

    Args:
        values_of: called with the first and the last row (exclusive) of each part; it may compute what all its rows
            need (the teacher's logits). It returns what gives the values of rows within the part: their ``(sums,)``,
            and detached numbers for the logs ``(parts,)``. That may read nothing that needs a gradient but its logits
            and what is ``learned``.
        lazy: the hidden states of all rows ``(N, H)``, and the head.
        learned: further parameters that the values depend on.

    >>> weight = torch.ones(4, 3, requires_grad=True)
    >>> def values(start, stop, logits):
    ...     total = logits.square().sum()
    ...     return total[None], total.detach()[None]
    >>> lazy = LazyLogits(torch.ones(5, 3, requires_grad=True), lambda states: states @ weight.T, (weight,), 2)
    >>> total, parts = summed(lambda start, stop: values, lazy, [], sums=1, parts=1)
    >>> total.sum().backward()
    >>> total.tolist(), parts.tolist(), lazy.hidden.grad[0].tolist(), weight.grad[0].tolist()
    ([180.0], [180.0], [24.0, 24.0, 24.0], [30.0, 30.0, 30.0])
    """
    needs = [one for one in (lazy.hidden, *lazy.parameters, *learned) if one.requires_grad]
    if torch.is_grad_enabled() and needs:
        found: tuple[Tensor, Tensor] = _Summed.apply(
            values_of, lazy, (sums, parts), lazy.hidden, *lazy.parameters, *learned
        )
        return found
    total, readings = _empty(lazy.hidden, sums, parts)
    for start, stop in _parts(lazy):
        values, logits = values_of(start, stop), lazy.head(lazy.hidden[start:stop])
        for first, last in _blocks(logits):
            part, reading = values(start + first, start + last, logits[first:last])
            total, readings = total + part, readings + reading
    return total, readings


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_of: ValuesOf, lazy: LazyLogits, sizes: tuple[int, int], *inputs: Tensor) -> Any:
        ctx.values_of, ctx.lazy = values_of, lazy
        ones = torch.ones(sizes[0], dtype=_accumulated(lazy.hidden), device=lazy.hidden.device)
        sums, readings, gradients = _with_gradients(values_of, lazy, sizes[1], inputs, ctx.needs_input_grad[3:], ones)
        ctx.gradients = gradients
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(readings)
        return sums, readings

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, arrived: Tensor, _: Tensor) -> Any:
        inputs, found, ctx.gradients = ctx.saved_tensors, ctx.gradients, None
        if found is None:
            raise RuntimeError("the gradient of a loss that is computed a part of the rows at a time is taken once")
        if bool((arrived == arrived[0]).all()):
            if bool(arrived[0] != 1):
                found = [None if one is None else one.mul_(arrived[0].to(one.dtype)) for one in found]
        else:
            found = _with_gradients(ctx.values_of, ctx.lazy, 0, inputs, ctx.needs_input_grad[3:], arrived)[2]
        return None, None, None, *(None if one is None else one.to(own.dtype) for own, one in zip(inputs, found))


def _with_gradients(
    values_of: ValuesOf,
    lazy: LazyLogits,
    parts: int,
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    factors: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The sums, the readings, and the gradients of the sums times ``factors`` to hidden states, head and what is
    learned; None where none is needed."""
    hidden, head = inputs[0], inputs[1 : 1 + len(lazy.parameters)]
    sums, readings = _empty(hidden, len(factors), parts)
    totals: list[Tensor | None] = [
        torch.zeros_like(one, dtype=one.dtype if number == 0 else _accumulated(one)) if need else None
        for number, (one, need) in enumerate(zip(inputs, needed))
    ]
    own = [number for number, need in enumerate(needed) if need and number > len(head)]
    for start, stop in _parts(lazy):
        states, values = hidden[start:stop].detach(), values_of(start, stop)
        with torch.set_grad_enabled(not lazy.linear), without_autocast_cache(hidden.device):
            answer = lazy.head(states.requires_grad_(needed[0] and not lazy.linear))
        of_answer = answer.detach() if lazy.linear else torch.empty_like(answer)
        for first, last in _blocks(answer):
            with torch.enable_grad():
                logits = answer.detach()[first:last].requires_grad_()
                part, reading = values(start + first, start + last, logits)
                total = (part * factors.to(part.dtype)).sum()
                of_logits, *rest = torch.autograd.grad(
                    total, [logits, *(inputs[one] for one in own)], allow_unused=True
                )
            of_answer[first:last] = 0.0 if of_logits is None else of_logits
            sums += part.detach()
            if parts:
                readings += reading
            _add(totals, own, rest)
        if lazy.linear:
            _add_linear(totals, start, stop, states, head, of_answer)
        elif answer.requires_grad:
            asked = [number for number in range(len(head) + 1) if needed[number]]
            leaves = [states if number == 0 else inputs[number] for number in asked]
            of_states = None if totals[0] is None else totals[0][start:stop]
            _add([of_states, *totals[1:]], asked, torch.autograd.grad(answer, leaves, of_answer, allow_unused=True))
    return sums, readings, totals


def _add(totals: Sequence[Tensor | None], places: Sequence[int], found: Sequence[Tensor | None]) -> None:
    for place, one in zip(places, found):
        total = totals[place]
        if total is not None and one is not None:
            total += one


def _add_linear(
    totals: list[Tensor | None], start: int, stop: int, states: Tensor, head: Sequence[Tensor], given: Tensor
) -> None:
    """Adds the gradients of ``states @ weight.T + bias``, from that of the result."""
    weight = head[0].detach()
    if totals[0] is not None:
        totals[0][start:stop] = given @ weight.to(given.dtype)
    if (total := totals[1]) is not None:
        if total.dtype == given.dtype == states.dtype:
            total.addmm_(given.T, states)
        else:
            total += given.T @ states.to(given.dtype)
    if len(head) > 1 and (total := totals[2]) is not None:
        total += given.sum(0)


def _empty(hidden: Tensor, sums: int, parts: int) -> tuple[Tensor, Tensor]:
    kind = _accumulated(hidden)
    return torch.zeros(sums, dtype=kind, device=hidden.device), torch.zeros(parts, dtype=kind, device=hidden.device)


def _accumulated(one: Tensor) -> torch.dtype:
    return torch.float64 if one.dtype == torch.float64 else torch.float32


def _parts(lazy: LazyLogits) -> list[tuple[int, int]]:
    return _ranges(len(lazy.hidden), lazy.rows_at_once or max(len(lazy.hidden), 1))


def _blocks(logits: Tensor) -> list[tuple[int, int]]:
    size = BLOCK.get(logits.device.type, BLOCK["other"])
    return _ranges(len(logits), max(size // logits.shape[-1], 1))


def _ranges(number: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, number)) for start in range(0, number, size)]
