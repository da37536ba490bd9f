"""Losses on logits: module form of :mod:`kdlab.functional.logits`."""

from typing import Literal

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.rows import one_of
from kdlab.outputs import Outputs

from .base import Loss, fraction, positive
from .divergences import divergence_of_sparse


class CrossEntropy(Loss):
    r"""Cross-entropy to the labels: :func:`kdlab.functional.cross_entropy`.

    For a mixed image (:mod:`kdlab.data.images.mixing`) it is
    :math:`\lambda\,\mathrm{CE}(y) + (1 - \lambda)\,\mathrm{CE}(y')`, with :math:`\lambda` the share of the sample's own
    image and :math:`y'` the partner's label.

    Args:
        label_smoothing: epsilon, in [0, 1].
        smoothing_over: ``all``: all classes share epsilon; ``others``: all classes but the label's share it.
        both_views: whether to sum over both views of a batch, for methods with two views (multi-level distillation).
    """

    function = staticmethod(functional.cross_entropy)
    needs_teacher = False
    needs_target = True
    mixed_labels = True

    def __init__(
        self, label_smoothing: float = 0.0, smoothing_over: Literal["all", "others"] = "all", both_views: bool = False
    ):
        super().__init__()
        self.label_smoothing = fraction("label_smoothing", label_smoothing)
        self.smoothing_over = one_of("smoothing_over", smoothing_over, ("all", "others"))
        self.views = 2 if both_views else 1

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``, in nats; with ``both_views`` the sum over the two views."""
        values = self._values(student.logits, batch)
        return values if self.views == 1 else values + self._values(student.second_view.logits, batch)

    def _values(self, logits: Tensor, batch: Batch) -> Tensor:
        return batch.over_labels(
            lambda target: functional.cross_entropy(
                logits, target, self.label_smoothing, smoothing_over=self.smoothing_over
            )
        )


class HintonKD(Loss):
    """Soft targets at a temperature: :func:`kdlab.functional.hinton_kd`."""

    function = staticmethod(functional.hinton_kd)
    sparse: tuple[str, ...] = ("top_k", "sampled")

    def __init__(self, temperature: float = 4.0, temperature_squared: bool = True):
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.temperature_squared = temperature_squared

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``, from both distributions at temperature T; times T^2 with
        ``temperature_squared``."""
        if self.sparse and (target := self.sparse_target(teacher)) is not None:
            values = divergence_of_sparse(functional.forward_kl, student.logits, target, self.temperature)
            return values * self.temperature**2 if self.temperature_squared else values
        return type(self).function(student.logits, teacher.logits, self.temperature, self.temperature_squared)


class SoftCrossEntropy(HintonKD):
    """Cross-entropy to the teacher's soft targets: :func:`kdlab.functional.soft_cross_entropy`."""

    function = staticmethod(functional.soft_cross_entropy)
    sparse = ()

    def __init__(self, temperature: float = 1.0, temperature_squared: bool = False):
        super().__init__(temperature, temperature_squared)


class HardLabel(Loss):
    """Cross-entropy to the teacher's most probable class: :func:`kdlab.functional.hard_label`."""

    function = staticmethod(functional.hard_label)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the negative log-probability of the teacher's most probable class."""
        return functional.hard_label(student.logits, teacher.logits)


class LogitMSE(Loss):
    """Squared difference of logits: :func:`kdlab.functional.logit_mse`."""

    function = staticmethod(functional.logit_mse)
    reads_logits = True

    def __init__(self, temperature: float = 1.0, mean_over_classes: bool = True):
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.mean_over_classes = mean_over_classes

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the mean of the squared differences over the classes, or their sum."""
        return functional.logit_mse(
            student.logits, teacher.logits, self.temperature, mean_over_classes=self.mean_over_classes
        )


class VirtualTeacher(Loss):
    """Regularisation by a hand-designed teacher: :func:`kdlab.functional.virtual_teacher`."""

    function = staticmethod(functional.virtual_teacher)
    needs_teacher = False
    needs_target = True

    def __init__(
        self,
        correct_probability: float = 0.99,
        temperature: float = 40.0,
        student_temperature: float = 1.0,
        softened: Literal["probabilities", "logarithms"] = "probabilities",
    ):
        super().__init__()
        if not 0 < correct_probability < 1:
            raise ValueError(f"correct_probability must be greater than 0 and less than 1, got {correct_probability}")
        self.correct_probability = float(correct_probability)
        self.temperature = positive("temperature", temperature)
        self.student_temperature = positive("student_temperature", student_temperature)
        self.softened = one_of("softened", softened, ("probabilities", "logarithms"))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: the KL divergence from the hand-designed distribution for the row's label."""
        return functional.virtual_teacher(
            student.logits,
            batch.labels,
            self.correct_probability,
            self.temperature,
            student_temperature=self.student_temperature,
            softened=self.softened,
        )
