"""Terms: what a method of several terms returns, so that a strategy can weigh, reduce and log each by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .rows import reduce


@dataclass(frozen=True)
class Terms:
    """The named terms of one loss.

    Args:
        parts: name -> one value a row ``(N,)``, or a scalar, before its weight and with its gradient.
        weights: name -> the factor of that term in the total.

    >>> import torch
    >>> terms = Terms({"ce": torch.tensor([1.0, 3.0]), "kl": torch.tensor([2.0, 6.0])}, {"ce": 1.0, "kl": 0.5})
    >>> terms.total()
    tensor(4.)
    >>> terms.total(torch.tensor([1.0, 0.0]))
    tensor(2.)
    """

    parts: Mapping[str, Tensor]
    weights: Mapping[str, float]

    def total(self, rows: Tensor | None = None, normaliser: float | None = None) -> Tensor:
        """The weighted sum of the terms, each reduced by :func:`kdlab.functional.reduce`: by default the mean over its rows.

        Args:
            rows: how much each row counts, ``(N,)``.
            normaliser: what a sum over rows is divided by, see :class:`kdlab.Batch`.
        """
        return sum(self.weights[name] * reduce(part, rows, normaliser) for name, part in self.parts.items())

    def sum_of(self, prefix: str, rows: Tensor | None = None, normaliser: float | None = None) -> Tensor:
        """The sum, without weights, of the reduced terms whose names begin with ``prefix``: one line in a log for all branches."""
        return sum(reduce(part, rows, normaliser) for name, part in self.parts.items() if name.startswith(prefix))
