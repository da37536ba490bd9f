"""Losses that are a divergence between the student's and the teacher's distribution: module form of
:mod:`kdlab.functional.divergences`.

The temperature is 1 by default, as for language models.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, cast

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs, Sampled, SparseTarget, TopK

from .base import Loss, fraction, positive


def divergence_of_sparse(
    function: Callable[..., Tensor],
    student: Tensor,
    target: SparseTarget,
    temperature: float,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Tensor:
    """A divergence to a sparse target that was computed at the temperature, one value a row.

    Args:
        function: the divergence of logits; with samples it is :func:`kdlab.functional.forward_kl`.
        student: logits ``(N, C)``.
        options: of the function.
    """
    if isinstance(target, Sampled):
        return functional.sampled_forward_kl(student, target.ids, target.weights, target.entropy, temperature)
    target = cast(TopK, target)
    log_q, log_p = functional.tail_bucket(student, target.ids, target.log_probabilities, target.log_tail, temperature)
    return function(log_q, log_p, **options)


class Divergence(Loss):
    """Base of these losses: the divergence of a subclass, times T^2 with ``temperature_squared``.

    Args:
        temperature: T, positive; both sides' logits are divided by it.
        temperature_squared: whether the factor T^2 is applied.
    """

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, temperature: float = 1.0, temperature_squared: bool = True):
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.temperature_squared = temperature_squared

    def options(self) -> dict[str, float]:
        """The divergence's own parameters."""
        return {}

    def values(self, student: Outputs, teacher: Outputs) -> Tensor:
        """The divergence of each row, ``(N,)``: from the teacher's logits, or from its most probable classes and the
        mass of all others (:func:`kdlab.functional.tail_bucket`), or from samples
        (:func:`kdlab.functional.sampled_forward_kl`)."""
        target = self.sparse_target(teacher) if self.sparse else None
        if target is None:
            return type(self).function(student.logits, teacher.logits, self.temperature, **self.options())
        return divergence_of_sparse(type(self).function, student.logits, target, self.temperature, self.options())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the divergence at the temperature, times T^2 with ``temperature_squared``."""
        values = self.values(student, teacher)
        return values * self.temperature**2 if self.temperature_squared else values


class ForwardKL(Divergence):
    """:func:`kdlab.functional.forward_kl`; with ``temperature_squared`` it equals Hinton's distillation."""

    function = staticmethod(functional.forward_kl)
    sparse = ("top_k", "sampled")


class ReverseKL(Divergence):
    """:func:`kdlab.functional.reverse_kl`."""

    function = staticmethod(functional.reverse_kl)
    sparse = ("top_k",)


class TotalVariation(Divergence):
    """:func:`kdlab.functional.total_variation`."""

    function = staticmethod(functional.total_variation)
    sparse = ("top_k",)


class SymmetricKL(Divergence):
    """:func:`kdlab.functional.symmetric_kl`."""

    function = staticmethod(functional.symmetric_kl)
    sparse = ("top_k",)

    def __init__(self, temperature: float = 1.0, reverse_weight: float = 0.5, temperature_squared: bool = True):
        super().__init__(temperature, temperature_squared)
        self.reverse_weight = fraction("reverse_weight", reverse_weight)

    def options(self) -> dict[str, float]:
        """``reverse_weight``, the weight of the reverse KL divergence."""
        return {"reverse_weight": self.reverse_weight}


class JensenShannon(Divergence):
    """:func:`kdlab.functional.jensen_shannon`."""

    function = staticmethod(functional.jensen_shannon)
    sparse = ("top_k",)

    def __init__(
        self,
        temperature: float = 1.0,
        teacher_weight: float = 0.5,
        scaled: bool = False,
        temperature_squared: bool = True,
    ):
        super().__init__(temperature, temperature_squared)
        self.teacher_weight = fraction("teacher_weight", teacher_weight)
        self.scaled = scaled

    def options(self) -> dict[str, float]:
        """``teacher_weight``, the teacher's share of the mixture, and ``scaled``."""
        return {"teacher_weight": self.teacher_weight, "scaled": self.scaled}


class SkewForwardKL(Divergence):
    """:func:`kdlab.functional.skew_forward_kl`."""

    function = staticmethod(functional.skew_forward_kl)
    sparse = ("top_k",)

    def __init__(self, temperature: float = 1.0, teacher_weight: float = 0.1, temperature_squared: bool = True):
        super().__init__(temperature, temperature_squared)
        self.teacher_weight = fraction("teacher_weight", teacher_weight)

    def options(self) -> dict[str, float]:
        """``teacher_weight``, the teacher's share of the mixture."""
        return {"teacher_weight": self.teacher_weight}


class SkewReverseKL(Divergence):
    """:func:`kdlab.functional.skew_reverse_kl`."""

    function = staticmethod(functional.skew_reverse_kl)
    sparse = ("top_k",)

    def __init__(
        self,
        temperature: float = 1.0,
        student_weight: float = 0.1,
        detach_mixture: bool = False,
        temperature_squared: bool = True,
    ):
        super().__init__(temperature, temperature_squared)
        self.student_weight = fraction("student_weight", student_weight)
        self.detach_mixture = detach_mixture

    def options(self) -> dict[str, float]:
        """``student_weight``, the student's share of the mixture, and ``detach_mixture``."""
        return {"student_weight": self.student_weight, "detach_mixture": self.detach_mixture}


class AlphaBeta(Divergence):
    """:func:`kdlab.functional.alpha_beta`."""

    function = staticmethod(functional.alpha_beta)

    def __init__(
        self, temperature: float = 1.0, alpha: float = 0.2, beta: float = 0.7, temperature_squared: bool = True
    ):
        super().__init__(temperature, temperature_squared)
        self.alpha, self.beta = float(alpha), float(beta)

    def options(self) -> dict[str, float]:
        """``alpha`` and ``beta``, any real numbers."""
        return {"alpha": self.alpha, "beta": self.beta}


class AdaptiveKL(Divergence):
    """:func:`kdlab.functional.adaptive_kl`."""

    function = staticmethod(functional.adaptive_kl)

    def __init__(self, temperature: float = 1.0, tail_mass: float = 0.5, temperature_squared: bool = True):
        super().__init__(temperature, temperature_squared)
        self.tail_mass = fraction("tail_mass", tail_mass)

    def options(self) -> dict[str, float]:
        """``tail_mass``, the upper bound of the teacher's total probability in the tail."""
        return {"tail_mass": self.tail_mass}
