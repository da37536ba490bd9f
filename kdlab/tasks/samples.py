"""What tasks share whose rows are samples."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.models.calling import answer_of
from kdlab.outputs import Outputs

from .base import Task


class Samples(Task):
    """Base of the tasks in which each sample is a row, and every row counts the same: the weights are None.

    Args:
        classes: the number of columns of a network's answers.
    """

    def __init__(self, classes: int):
        self.classes = classes

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.classes

    def network_outputs(self, network: nn.Module, batch: Batch, view: int = 0) -> Outputs:
        """Answers ``(B, C)``, from a network that returns a tensor or an object with ``logits``. Answers ``(B,)``
        become ``(B, 1)`` if there is one column.

        Raises:
            InputError: the network returns neither, or answers of another shape.
        """
        answer = answer_of(network, batch.view(view).inputs)
        if isinstance(answer, Tensor) and answer.dim() == 1 and self.classes == 1:
            answer = answer[:, None]
        if not isinstance(answer, Tensor) or answer.dim() != 2:
            raise InputError(
                f"{type(network).__name__} must answer with a tensor of shape (samples, {self.report.answers}), got "
                f"{tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__}"
            )
        return Outputs(answer)

    def align(self, outputs: Outputs, batch: Batch) -> Outputs:
        """The Outputs as they are: each sample is a row."""
        return outputs

    def align_batch(self, batch: Batch) -> Batch:
        """The batch as it is: each sample is a row."""
        return batch

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """See :class:`Task`."""


class SampleColumns(Samples):
    """Base of the tasks in which a sample's target has as many columns as a network's answer."""

    def align_batch(self, batch: Batch) -> Batch:
        """The batch with targets ``(B, C)`` as floating-point numbers.

        Raises:
            InputError: the targets are not of this shape.
        """
        target = batch.labels
        if target.dim() == 1 and self.classes == 1:
            target = target[:, None]
        if target.dim() != 2 or target.shape[1] != self.classes:
            raise InputError(
                f"task={self.name} needs targets of shape (samples, {self.classes}), and the data have "
                f"{tuple(target.shape)}"
            )
        return super().align_batch(batch).replace(target=target.to(torch.get_default_dtype()))
