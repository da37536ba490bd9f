"""Loss terms on the logits of a large vocabulary, a part of the rows at a time: head and terms inside each part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

#: from the first and the last row (exclusive) and their hidden states to the values of two sums and of the parts
Values = Callable[[int, int, Tensor], tuple[Tensor, Tensor]]


def summed(
    values: Values, hidden: Tensor, parameters: Sequence[Tensor], rows: int, parts: int
) -> tuple[Tensor, Tensor]:
    r"""The sums over all rows of what ``values`` returns for ``rows`` of them at a time. The gradients are those of the
    sums, for any gradient that arrives.

    Nothing of the size rows x vocabulary is kept: the gradient of each part is computed in the forward pass, as soon as
    its values are known, and the logits are forgotten. Gradients of the parameters are added up in float32. If the two
    sums are later given different factors, the parts are computed once more in the backward pass.

    Args:
        values: the sums of a part of the rows, ``(2,)``, and detached numbers for the logs, ``(parts,)``. It may read
            nothing that needs a gradient but its hidden states and the ``parameters``.
        hidden: the hidden states of all rows ``(N, H)``.
        parameters: those that the values depend on.
        rows: how many at a time.

    >>> weight = torch.ones(4, 3, requires_grad=True)
    >>> def values(start, stop, states):
    ...     total = (states @ weight.T).square().sum()
    ...     return torch.stack([total, 0 * total]), total.detach()[None]
    >>> hidden = torch.ones(5, 3, requires_grad=True)
    >>> sums, parts = summed(values, hidden, [weight], rows=2, parts=1)
    >>> sums.sum().backward(); sums.tolist(), parts.tolist(), hidden.grad[0].tolist(), weight.grad[0].tolist()
    ([180.0, 0.0], [180.0], [24.0, 24.0, 24.0], [30.0, 30.0, 30.0])
    """
    learned = [one for one in parameters if one.requires_grad]
    if not torch.is_grad_enabled() or not (hidden.requires_grad or learned):
        sums, readings = _empty(hidden, parts)
        for start, stop in _ranges(len(hidden), rows):
            part, reading = values(start, stop, hidden[start:stop])
            sums, readings = sums + part, readings + reading
        return sums, readings
    return _Summed.apply(values, rows, parts, hidden, *learned)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Values, rows: int, parts: int, hidden: Tensor, *parameters: Tensor) -> Any:
        ctx.values, ctx.rows = values, rows
        ones = torch.ones(2, dtype=_accumulated(hidden), device=hidden.device)
        sums, readings, gradients = _with_gradients(values, rows, parts, hidden, parameters, ones)
        ctx.save_for_backward(hidden, *parameters, *gradients)
        ctx.mark_non_differentiable(readings)
        return sums, readings

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, arrived: Tensor, _: Tensor) -> Any:
        number = len(ctx.saved_tensors) // 2
        inputs, gradients = ctx.saved_tensors[:number], ctx.saved_tensors[number:]
        if bool(arrived[0] == arrived[1]):
            found: list[Tensor] = [gradient * arrived[0].to(gradient.dtype) for gradient in gradients]
        else:
            found = _with_gradients(ctx.values, ctx.rows, 0, inputs[0], inputs[1:], arrived)[2]
        return None, None, None, *(gradient.to(one.dtype) for one, gradient in zip(inputs, found))


def _with_gradients(
    values: Values, rows: int, parts: int, hidden: Tensor, parameters: Sequence[Tensor], factors: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Both sums, the readings, and the gradients of hidden states and parameters of the sums times ``factors``."""
    sums, readings = _empty(hidden, parts)
    of_hidden = torch.zeros_like(hidden)
    of_parameters = [torch.zeros_like(one, dtype=_accumulated(one)) for one in parameters]
    for start, stop in _ranges(len(hidden), rows):
        with torch.enable_grad():
            states = hidden[start:stop].detach().requires_grad_()
            part, reading = values(start, stop, states)
            given = torch.autograd.grad((part * factors.to(part.dtype)).sum(), [states, *parameters], allow_unused=True)
        sums += part.detach()
        if parts:
            readings += reading
        if given[0] is not None:
            of_hidden[start:stop] = given[0]
        for total, one in zip(of_parameters, given[1:]):
            if one is not None:
                total += one
    return sums, readings, [of_hidden, *of_parameters]


def _empty(hidden: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    kind = _accumulated(hidden)
    return torch.zeros(2, dtype=kind, device=hidden.device), torch.zeros(parts, dtype=kind, device=hidden.device)


def _accumulated(one: Tensor) -> torch.dtype:
    return torch.float64 if one.dtype == torch.float64 else torch.float32


def _ranges(number: int, rows: int) -> list[tuple[int, int]]:
    return [(start, min(start + rows, number)) for start in range(0, number, rows)]
