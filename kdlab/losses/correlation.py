"""Losses on relations within a batch of predictions: module form of :mod:`kdlab.functional.correlation`."""

from collections.abc import Sequence

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, not_negative, positive


class DIST(Loss):
    """Correlations of rows and columns: :func:`kdlab.functional.dist`."""

    per = "batch"

    function = staticmethod(functional.dist)

    def __init__(
        self,
        temperature: float = 1.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature_squared: bool = True,
        epsilon: float = 1e-8,
    ):
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.beta, self.gamma = not_negative("beta", beta), not_negative("gamma", gamma)
        self.temperature_squared = temperature_squared
        self.epsilon = positive("epsilon", epsilon)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """A scalar: one minus the mean correlation of rows and of columns, each with its weight. Rows of weight 0 are
        left out."""
        return functional.dist(
            student.logits,
            teacher.logits,
            self.temperature,
            self.beta,
            self.gamma,
            temperature_squared=self.temperature_squared,
            epsilon=self.epsilon,
            mask=batch.weights,
        )


class ClassCorrelation(Loss):
    """The class-level term of multi-level distillation alone: :func:`kdlab.functional.class_correlation`."""

    per = "batch"

    function = staticmethod(functional.class_correlation)

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """A scalar: the squared difference of the two Gram matrices of probabilities. Rows of weight 0 are left out."""
        return type(self).function(student.logits, teacher.logits, self.temperature, mask=batch.weights)


class BatchCorrelation(ClassCorrelation):
    """The batch-level term of multi-level distillation alone: :func:`kdlab.functional.batch_correlation`."""

    function = staticmethod(functional.batch_correlation)


class MultiLevel(Loss):
    """Multi-level distillation over two views, the first of them weakly augmented:
    :func:`kdlab.functional.multi_level`.

    The authors add the cross-entropy of both views: ``loss.ce.both_views=true``.
    """

    per = "batch"

    function = staticmethod(functional.multi_level)
    views = 2

    def __init__(
        self,
        temperatures: Sequence[float] = (4.0, 3.0, 5.0, 2.0, 6.0),
        instance_weight: float = 1.0,
        class_weight: float = 1.0,
        batch_weight: float = 1.0,
        mask_after_mean: bool = False,
        reuse_weak: bool = False,
        strong_correlations: bool = True,
        standardised: bool = False,
    ):
        super().__init__()
        if not temperatures:
            raise ValueError("temperatures must name at least one temperature")
        self.temperatures = tuple(positive("temperatures", temperature) for temperature in temperatures)
        self.instance_weight = not_negative("instance_weight", instance_weight)
        self.class_weight = not_negative("class_weight", class_weight)
        self.batch_weight = not_negative("batch_weight", batch_weight)
        self.switches = {
            "mask_after_mean": mask_after_mean,
            "reuse_weak": reuse_weak,
            "strong_correlations": strong_correlations,
            "standardised": standardised,
        }

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """A scalar: the sum over both views and all temperatures. Rows of weight 0 are left out."""
        return functional.multi_level(
            student.logits,
            teacher.logits,
            student.second_view.logits,
            teacher.second_view.logits,
            self.temperatures,
            instance_weight=self.instance_weight,
            class_weight=self.class_weight,
            batch_weight=self.batch_weight,
            **self.switches,
            mask=batch.weights,
        )
