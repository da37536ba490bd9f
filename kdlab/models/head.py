"""The head of a language model, apart from the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def scaled_logits(outputs: Tensor, factor: float = 0.0, divisor: float = 0.0, cap: float = 0.0) -> Tensor:
    r"""Logits from the outputs of a head's linear layer: times ``factor``, divided by ``divisor``, and
    :math:`c \tanh(z / c)` with the cap c; each only where it is not 0.

    >>> scaled_logits(torch.tensor([10.0]), divisor=2.0, cap=5.0)
    tensor([3.8080])
    """
    if factor:
        outputs = outputs * factor
    if divisor:
        outputs = outputs / divisor
    return cap * torch.tanh(outputs / cap) if cap else outputs


class LanguageHead(nn.Module):
    """The map from last hidden states ``(…, D)`` to logits ``(…, vocabulary)``.

    Args:
        weight, bias: of the linear layer, ``(columns, D)`` and ``(columns,)`` or None.
        vocabulary: columns beyond it are left out.
        scaling: arguments of :func:`scaled_logits`.

    >>> LanguageHead(torch.eye(3), None, 2)(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 2.]])
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, vocabulary: int, **scaling: float):
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.vocabulary, self.scaling = vocabulary, scaling

    def forward(self, hidden: Tensor) -> Tensor:
        """The logits."""
        return scaled_logits(F.linear(hidden, self.weight, self.bias)[..., : self.vocabulary], **self.scaling)
