"""Task: what a label means: how outputs become rows, and what is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torchmetrics import MetricCollection

from kdlab.batch import Batch
from kdlab.outputs import Outputs


class Task(ABC):
    """Base of the tasks.

    ``align`` and ``align_batch`` make *rows*: logits ``(N, C)``, targets ``(N,)``, weights ``(N,)``. A classifier's
    rows are its samples; a causal language model's are its shifted, unmasked tokens. Losses see rows only, so none
    knows of masks or shifts.
    """

    #: the validation metric that chooses the best checkpoint, and whether more is better
    monitor: str
    higher_is_better: bool

    @abstractmethod
    def network_outputs(self, network: nn.Module, batch: Batch, view: int = 0) -> Outputs:
        """Run ``network`` on a view of the batch (without features: the caller holds the taps)."""

    @abstractmethod
    def align(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Outputs whose logits are rows. ``batch`` is the batch as it came from the data."""

    @abstractmethod
    def align_batch(self, batch: Batch) -> Batch:
        """The batch whose target, index and weights are rows."""

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """What is measured at validation, fed with (logits, target) rows."""

    @abstractmethod
    def score(self, logits: Tensor, target: Tensor) -> dict[str, float]:
        """What is reported of a whole split's predictions."""

    @abstractmethod
    def chance(self, logits: Tensor, target: Tensor) -> float:
        """How probable predictions as good as these are for one that knows nothing of the inputs."""
