"""Losses that treat the label's class and the other classes separately: module form of
:mod:`kdlab.functional.decoupled`."""

from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, Probe, not_negative, positive


class DKD(Loss):
    """Decoupled distillation: :func:`kdlab.functional.dkd`."""

    function = staticmethod(functional.dkd)
    needs_target = True

    def __init__(
        self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0, temperature_squared: bool = True
    ):
        super().__init__()
        self.alpha, self.beta = not_negative("alpha", alpha), not_negative("beta", beta)
        self.temperature = positive("temperature", temperature)
        self.temperature_squared = temperature_squared

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: alpha times the term of the label's class plus beta times the term of the other
        classes."""
        return functional.dkd(
            student.logits,
            teacher.logits,
            batch.labels,
            self.alpha,
            self.beta,
            self.temperature,
            temperature_squared=self.temperature_squared,
        )


class NKD(Loss):
    """Normalised distillation: :func:`kdlab.functional.nkd`."""

    function = staticmethod(functional.nkd)
    needs_target = True

    def __init__(self, temperature: float = 1.0, gamma: float = 1.5):
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.gamma = not_negative("gamma", gamma)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the term of the label's class plus gamma times the term of the other classes."""
        return functional.nkd(student.logits, teacher.logits, batch.labels, self.temperature, self.gamma)


class USKD(Loss):
    """Universal self-distillation, without a teacher: :func:`kdlab.functional.uskd`. It owns the weak classifier: a
    linear map of an intermediate feature that is averaged over its positions.

    Args:
        student_tap: the feature, ``(N, D)``, ``(N, T, D)`` or ``(N, C, H, W)``.
        alpha, beta, mu: weights of the three terms: the label's class, the other classes, and the weak classifier.
        rank_by_logarithm: rank the other classes as the authors' code does.
    """

    function = staticmethod(functional.uskd)
    needs_teacher = False
    needs_target = True
    #: built by :meth:`prepare`
    linear: nn.Linear

    def __init__(
        self,
        student_tap: str = "stage2",
        alpha: float = 1.0,
        beta: float = 0.1,
        mu: float = 0.005,
        rank_by_logarithm: bool = False,
    ):
        super().__init__()
        self.student_taps = (student_tap,)
        self.alpha, self.beta, self.mu = (
            not_negative("alpha", alpha),
            not_negative("beta", beta),
            not_negative("mu", mu),
        )
        self.rank_by_logarithm = rank_by_logarithm

    def prepare(self, probe: Probe) -> None:
        """Builds the weak classifier, a linear layer from the pooled feature to the classes."""
        self.linear = nn.Linear(self._pooled(probe.student).shape[1], probe.classes)

    def _pooled(self, student: Outputs) -> Tensor:
        feature = student.features[self.student_taps[0]]
        return feature.flatten(2).mean(2) if feature.dim() == 4 else feature.mean(1) if feature.dim() == 3 else feature

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``. The soft label of a row depends on all rows with a weight above 0."""
        return functional.uskd(
            student.logits,
            self.linear(self._pooled(student)),
            batch.labels,
            self.alpha,
            self.beta,
            self.mu,
            rank_by_logarithm=self.rank_by_logarithm,
            mask=batch.weights,
        )


class WSLD(Loss):
    """Weighted soft labels: :func:`kdlab.functional.wsld`."""

    function = staticmethod(functional.wsld)
    needs_target = True

    def __init__(self, temperature: float = 2.0):
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the cross-entropy to the soft targets, times the row's weight."""
        return functional.wsld(student.logits, teacher.logits, batch.labels, self.temperature)
