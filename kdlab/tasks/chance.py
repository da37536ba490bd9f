"""Tests of whether a network's predictions on validation are better than chance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from scipy.stats import binomtest, ttest_1samp
from torch import Tensor


class ChanceTest(ABC):
    """A one-sided test, fed batch by batch. The null hypothesis is a network that ignores its inputs."""

    #: what is wrong with a teacher that fails, after its name
    failure = "is no better than chance on validation"

    def __init__(self) -> None:
        self.rows = 0

    @property
    def summary(self) -> str | None:
        """What is shown of a teacher in place of its headline metric; None: that metric."""
        return None

    @property
    def tested(self) -> str | None:
        """The number that is tested, and that of chance; None: the test compares no two numbers."""
        return None

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add rows of logits ``(N, C)`` with their targets ``(N, ...)``."""
        self.rows += len(target)
        self.add(logits.float().cpu(), target.cpu())

    @abstractmethod
    def add(self, logits: Tensor, target: Tensor) -> None:
        """As :meth:`update`, on the CPU."""

    @abstractmethod
    def p_value(self) -> float:
        """How probable predictions as good as these are under the null hypothesis."""

    @abstractmethod
    def least_p_value(self) -> float:
        """The p value of perfect predictions: with few rows even these may be chance."""


class MostFrequentClass(ChanceTest):
    """A binomial test of the accuracy against always predicting the most frequent class.

    >>> test = MostFrequentClass()
    >>> test.update(torch.eye(2).repeat(5, 1), torch.tensor([0, 1]).repeat(5))
    >>> round(test.p_value(), 6), test.least_p_value() == test.p_value()      # 1 / 2 ** 10
    (0.000977, True)
    >>> test.tested
    'accuracy 1.0000, and 0.5000 for the most frequent class'
    """

    def __init__(self) -> None:
        super().__init__()
        self.right, self.counts = 0, torch.zeros(0, dtype=torch.int64)

    @property
    def tested(self) -> str:
        """The accuracy, and the share of the most frequent class."""
        return f"accuracy {self.right / self.rows:.4f}, and {self._share:.4f} for the most frequent class"

    @property
    def _share(self) -> float:
        return min(int(self.counts.max()) / self.rows, 1.0)

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Count the correct rows and the labels."""
        self.right += int((logits.argmax(-1) == target).sum())
        width = max(logits.shape[-1], len(self.counts))
        self.counts = torch.nn.functional.pad(self.counts, (0, width - len(self.counts)))
        self.counts += target.bincount(minlength=width)

    def p_value(self) -> float:
        """Of as many correct rows or more."""
        return self._p_value(self.right)

    def least_p_value(self) -> float:
        """Of all rows correct."""
        return self._p_value(self.rows)

    def _p_value(self, right: int) -> float:
        return float(binomtest(right, self.rows, self._share, alternative="greater").pvalue)


class PairedErrors(ChanceTest):
    """A paired t test: whether the errors of the predictions are smaller than those of the best constant prediction.

    Args:
        errors: from (logits, target) to one error a row, ``(N,)``.
        constant: from all targets to the errors of the best constant prediction, ``(N,)``.
    """

    def __init__(self, errors: Callable[[Tensor, Tensor], Tensor], constant: Callable[[Tensor], Tensor]):
        super().__init__()
        self.errors, self.constant = errors, constant
        self._errors: list[Tensor] = []
        self._targets: list[Tensor] = []

    @property
    def tested(self) -> str:
        """The mean error, and that of the best constant prediction."""
        mine, constant = torch.cat(self._errors).mean(), self.constant(torch.cat(self._targets)).double().mean()
        return f"mean error {mine:.4f}, and {constant:.4f} for the best constant prediction"

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Keep the targets and one error a row."""
        self._errors.append(self.errors(logits, target).double())
        self._targets.append(target)

    def p_value(self) -> float:
        """Of a mean gain as large as this or larger."""
        return self._p_value(torch.cat(self._errors))

    def least_p_value(self) -> float:
        """Of errors that are all 0."""
        return self._p_value(torch.zeros(self.rows, dtype=torch.float64))

    def _p_value(self, errors: Tensor) -> float:
        gains = self.constant(torch.cat(self._targets)).double() - errors
        if self.rows < 2 or not bool(gains.isfinite().all()):
            return 1.0
        if float(gains.std()) == 0:
            return 0.0 if float(gains.mean()) > 0 else 1.0
        return float(ttest_1samp(gains.numpy(), 0.0, alternative="greater").pvalue)
