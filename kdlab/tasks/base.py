"""Task: what a label means: how outputs become rows, and what is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torchmetrics import MetricCollection

from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .chance import ChanceTest
from .metric import Metric, Report


def of_samples(outputs: Outputs) -> dict[str, Mapping[str, Tensor]]:
    """A keyword for the ``update`` of a task's metrics, where samples were measured; torchmetrics gives it to those
    metrics that have it."""
    return {"samples": outputs.samples} if outputs.samples else {}


class Task(ABC):
    """Base of the tasks.

    ``align`` and ``align_batch`` make *rows*: logits ``(N, C)``, targets ``(N, ...)``, weights ``(N,)``. A classifier's
    rows are its samples; a causal language model's are its shifted, unmasked tokens. Losses see rows only, so none
    knows of masks or shifts.

    Whole splits are evaluated batch by batch (:mod:`kdlab.training.evaluation`): the metrics take rows as they come,
    and :meth:`predictions` decides what is stored.
    """

    #: what is reported, as run.json keeps it. It also says what the columns of the answers are: ``classes`` (logits of
    #: a softmax), ``labels`` (logits of a sigmoid each), ``values``, or ``vectors``
    report: Report

    #: what the metrics compare a network's answers with: the ``labels``, or the answers of the ``teacher``. With
    #: ``teacher``, labels are not read, the run needs one frozen teacher, and ``data.classes`` is the width of its
    #: answers
    compared_with: ClassVar[str] = "labels"

    #: the heads (``student.head``) with which a text encoder has outputs of the task; the usual one first. Without any,
    #: the task is for causal language models
    text_heads: ClassVar[tuple[str, ...]] = ("classification", "embedding")

    #: whether the logits of a whole split are kept: in memory while it is evaluated, and in a run's predictions
    keeps_logits: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The task's name."""
        return self.report.task

    @property
    def average(self) -> str:
        """How the answers of several networks are averaged: ``probabilities`` of classes, otherwise the answers
        themselves (``logits``)."""
        return "probabilities" if self.report.answers == "classes" else "logits"

    @property
    def headline(self) -> Metric:
        """The metric that chooses the best checkpoint, on validation."""
        return self.report.headline

    @property
    def width(self) -> int | None:
        """How many columns a network's answers must have; None if any number will do."""
        return None

    @abstractmethod
    def network_outputs(self, network: nn.Module, batch: Batch, view: int = 0) -> Outputs:
        """Run ``network`` on a view of the batch (without features: the caller holds the taps)."""

    @abstractmethod
    def align(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Outputs whose logits are rows. ``batch`` is the batch as it came from the data."""

    @abstractmethod
    def align_batch(self, batch: Batch) -> Batch:
        """The batch whose target, index and weights are rows."""

    def check_labels(self, target: Tensor) -> None:
        """Raises InputError for labels that are not of this task. Called with the labels of a stored split or of a
        batch on the CPU, and not in a step: a GPU would have to wait for the answer. By default, every label is right.
        """
        return None

    def row_counts(self, target: Tensor) -> Tensor | None:
        """How many rows that count each stored sample has, ``(samples,)``; None: one each. The loader makes the
        normaliser of them.

        Args:
            target: the labels of the stored split.
        """
        return None

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """What is measured at validation, fed with (logits, target) rows; with ``compared_with="teacher"`` the
        teacher's answers take the place of the target."""

    def test_metrics(self) -> MetricCollection:
        """What is measured on test, fed with (logits, target) rows: by default, what is measured at validation."""
        return self.metrics()

    def fidelity(self) -> MetricCollection:
        """How close a student is to its teacher, fed with (student, teacher) rows of logits: by default, nothing."""
        return MetricCollection({})

    def predictions(self, outputs: Outputs, rows: Batch) -> dict[str, Tensor]:
        """What is stored of one batch's predictions, one entry a row: the logits (if :attr:`keeps_logits`), the target
        and the sample index. A task with many rows or columns stores less.

        Args:
            outputs, rows: aligned.
        """
        logits = {"logits": outputs.logits.float()} if self.keeps_logits else {}
        return {**logits, "target": rows.labels, "index": rows.index}

    def counting(self, outputs: Outputs, rows: Batch) -> tuple[Tensor, Tensor]:
        """Logits and targets of the rows that count (whose weight is not 0), for metrics.

        Args:
            outputs, rows: aligned.
        """
        logits, target = outputs.logits.float(), rows.labels
        counts = None if rows.weights is None else rows.weights != 0
        return (logits, target) if counts is None or bool(counts.all()) else (logits[counts], target[counts])

    def score(self, logits: Tensor, target: Tensor) -> dict[str, float]:
        """What is reported of a whole split's rows that are in memory."""
        metrics = self.test_metrics()
        metrics.update(logits.float(), target)
        return self.computed(metrics)

    def computed(self, metrics: MetricCollection) -> dict[str, float]:
        """The values of a collection, in the order of the report."""
        values = {name: float(value) for name, value in metrics.compute().items()}
        order = [metric.name for metric in self.report.metrics if metric.name in values]
        return {name: values[name] for name in dict.fromkeys([*order, *values])}

    @abstractmethod
    def chance(self) -> ChanceTest:
        """A new test of whether predictions are better than those of a network that ignores its inputs."""

    def not_logits(self, logits: Tensor, trained: bool) -> str | None:
        """``softmax`` or ``sigmoid`` if a network's answers look as if it ended in one of these and the losses need
        logits; None if they do not. By default, None.

        Args:
            trained: whether the network is trained.
        """
        return None
