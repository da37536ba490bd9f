"""Losses with which networks learn from one another, in the form of the authors' code: module form of functions in
:mod:`kdlab.functional.peers` and :mod:`kdlab.functional.branches`. With epsilon 0, both are forward KL."""

from typing import Any

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, not_negative, positive


class _RegularisedKL(Loss):
    """The common part of both losses.

    Args:
        temperature: T.
        epsilon: keeps the divergence finite in the authors' code.
        temperature_squared: whether the factor T^2 is applied.
    """

    def __init__(self, temperature: float = 1.0, epsilon: float = 0.0, temperature_squared: bool = True):
        super().__init__()
        self.temperature, self.epsilon = positive("temperature", temperature), not_negative("epsilon", epsilon)
        self.temperature_squared = temperature_squared

    def options(self) -> dict[str, Any]:
        """The arguments of the function besides the logits."""
        return {
            "temperature": self.temperature,
            "epsilon": self.epsilon,
            "temperature_squared": self.temperature_squared,
        }


class MutualKL(_RegularisedKL):
    """:func:`kdlab.functional.mutual_kl` with one peer. With several peers, the strategy takes the mean or the sum.

    Args:
        temperature: T; 1 in the paper.
        epsilon: 1e-8 in the authors' code.
        temperature_squared: whether the factor T^2 is applied.
    """

    function = staticmethod(functional.mutual_kl)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the KL divergence from the peer at the temperature."""
        return functional.mutual_kl(student.logits, [teacher.logits], **self.options())


class OneKL(_RegularisedKL):
    """:func:`kdlab.functional.one_kl`.

    Args:
        temperature: T; 3 in the authors' code.
        epsilon: added to the ensemble's probabilities; 1e-7 in the authors' code.
        temperature_squared: whether the factor T^2 is applied.
    """

    function = staticmethod(functional.one_kl)

    def __init__(self, temperature: float = 3.0, epsilon: float = 0.0, temperature_squared: bool = True):
        super().__init__(temperature, epsilon, temperature_squared)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the KL divergence from the ensemble at the temperature."""
        return functional.one_kl(student.logits, teacher.logits, **self.options())
