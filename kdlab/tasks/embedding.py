"""Embedding: a vector for each sample, learned from a teacher without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional.kernels import unit
from kdlab.measure.embeddings import CosineToTeacher, RetrievalAgreement, SimilarityCorrelation
from kdlab.outputs import Outputs

from .chance import ChanceTest
from .metric import EMBEDDING
from .samples import Samples


class Embedding(Samples):
    """A vector for each sample, ``(B, D)``: rows are samples. No label is read. All metrics compare a student with its
    one frozen teacher, which is asked on validation and test, too.

    Args:
        classes: D, the width of the teacher's vectors. The student's vectors have the same width.
        measured: metrics that come first, the headline at their head: ``similarity_correlation``,
            ``cosine_to_teacher``, ``retrieval_agreement`` (on test only, so it cannot be the headline).

    Raises:
        InputError: there is no such metric, or the headline is measured on test only.
    """

    report = EMBEDDING
    compared_with: ClassVar[str] = "teacher"
    text_heads: ClassVar[tuple[str, ...]] = ("embedding",)

    def __init__(self, classes: int, measured: Sequence[str] = ()):
        super().__init__(classes)
        self.report = self.report.measuring(measured)
        if self.headline.name not in (known := self._measured()):
            raise InputError(
                f"task.measured: {self.headline.name} is measured on test only, and the first metric chooses the best "
                f"checkpoint on validation; put {' or '.join(known)} first"
            )

    def metrics(self) -> MetricCollection:
        """``similarity_correlation`` (:class:`kdlab.measure.embeddings.SimilarityCorrelation`), and
        ``cosine_to_teacher``, the mean cosine of the student's vectors with the teacher's."""
        return MetricCollection(self._measured(), compute_groups=False)

    def test_metrics(self) -> MetricCollection:
        """Those of validation and ``retrieval_agreement``: the share of the teacher's 10 nearest neighbours that are
        among the student's, in the first 10,000 samples of the split."""
        return MetricCollection({**self._measured(), "retrieval_agreement": RetrievalAgreement()}, compute_groups=False)

    def _measured(self) -> dict[str, Metric | MetricCollection]:
        return {"similarity_correlation": SimilarityCorrelation(self.classes), "cosine_to_teacher": CosineToTeacher()}

    def counting(self, outputs: Outputs, rows: Batch) -> tuple[Tensor, Tensor]:
        """The vectors, and the numbers of the samples in place of labels."""
        return outputs.logits.float(), rows.index

    def predictions(self, outputs: Outputs, rows: Batch) -> dict[str, Tensor]:
        """The vectors, the samples' numbers, and their labels if the data have some."""
        labels = {} if rows.target is None else {"target": rows.target}
        return {"logits": outputs.logits.float(), **labels, "index": rows.index}

    def chance(self) -> DifferentVectors:
        """A test of whether the vectors of different samples differ."""
        return DifferentVectors()


class DifferentVectors(ChanceTest):
    """Whether a network's vectors depend on its inputs: vectors have no level of chance, but a network that gives the
    same vector for every sample, or numbers that are not finite, teaches nothing.

    The mean cosine over all pairs of two samples follows from the sum of the unit vectors.

    >>> test = DifferentVectors()
    >>> test.update(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.arange(2))
    >>> test.p_value(), test.summary
    (0.0, 'vectors of 2 numbers, mean cosine of two samples 0.0000')
    """

    failure = "gives the same vector for every sample of validation, or numbers that are not finite"

    def __init__(self) -> None:
        super().__init__()
        self.total, self.own, self.width = torch.zeros(()), 0.0, 0

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Add the unit vectors."""
        vectors = unit(logits.double())
        self.total, self.width = self.total + vectors.sum(0), logits.shape[-1]
        self.own += float(vectors.square().sum())

    @property
    def mean_cosine(self) -> float:
        """Over all pairs of two samples; NaN with fewer than two."""
        pairs = self.rows * (self.rows - 1)
        return (float(self.total.square().sum()) - self.own) / pairs if pairs else torch.nan

    @property
    def summary(self) -> str:
        """The width and the mean cosine."""
        return f"vectors of {self.width} numbers, mean cosine of two samples {self.mean_cosine:.4f}"

    def p_value(self) -> float:
        """0 if they differ by more than rounding; 1 if not."""
        return 0.0 if self.own > 0 and self.mean_cosine < 1 - 1e-5 else 1.0

    def least_p_value(self) -> float:
        """0, with two samples or more."""
        return 0.0 if self.rows > 1 else 1.0
