"""Losses on relations within a batch or between channels: module form of :mod:`kdlab.functional.relations` and
:mod:`kdlab.functional.grams`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.rows import added
from kdlab.outputs import Outputs

from .base import Probe, positive
from .pairs import Pairs, features


class Relation(Pairs):
    """Base of these losses: the function of a subclass for each pair of taps, summed over the pairs.

    Args:
        student_taps, teacher_taps: taps that are compared in pairs: one name or several, the same number on both sides.
    """

    per = "batch"
    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, student_taps: str | Sequence[str] = "embedding", teacher_taps: str | Sequence[str] = "embedding"
    ):
        super().__init__(student_taps, teacher_taps)

    def options(self) -> dict[str, Any]:
        """The function's own parameters."""
        return {}

    @torch.no_grad()
    def prepare(self, probe: Probe) -> None:
        """Computes the loss once, so that features that do not fit raise an error before training."""
        self.forward(probe.student, probe.teacher_outputs, None)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """The sum over the pairs: a scalar, or one value per sample ``(B,)`` if the function relates channels instead
        of samples."""
        pairs = self.pairs(student, teacher)
        return added(
            (type(self).function(mine, theirs, **self.options()) for mine, theirs in pairs), type(self).__name__
        )


class Consecutive(Relation):
    """Base of the losses on the relation of consecutive stages: the function for each pair of neighbours, summed.

    Args:
        student_taps, teacher_taps: two stages or more in the order from input to output, the same number on both sides.
    """

    per = "sample"

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        teacher_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
    ):
        super().__init__(student_taps, teacher_taps)
        if len(self.student_taps) < 2:
            raise ValueError(
                f"student_taps and teacher_taps must name two or more stages, got {list(self.student_taps)}"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """One value per sample, ``(B,)``: the sum over neighbouring stages."""
        mine, theirs = features(student, self.student_taps), features(teacher, self.teacher_taps)
        values = (
            type(self).function(*mine[n : n + 2], *theirs[n : n + 2], **self.options()) for n in range(len(mine) - 1)
        )
        return added(values, type(self).__name__)


class SP(Relation):
    """:func:`kdlab.functional.sp`."""

    function = staticmethod(functional.sp)

    def __init__(
        self,
        student_taps: str | Sequence[str] = "stage3",
        teacher_taps: str | Sequence[str] = "stage3",
        norm: float = 2.0,
    ):
        super().__init__(student_taps, teacher_taps)
        self.norm = positive("norm", norm)

    def options(self) -> dict[str, Any]:
        """``norm``, the order of the norm by which each row of the Gram matrices is divided."""
        return {"norm": self.norm}


class CC(Relation):
    """:func:`kdlab.functional.cc` of linear embeddings of both features. Both embeddings are trained, as in
    RepDistiller.

    Args:
        student_taps, teacher_taps: one tap each.
        dimension: width of the embeddings.
    """

    function = staticmethod(functional.cc)
    #: built by :meth:`prepare`
    student_embedding: nn.Linear
    teacher_embedding: nn.Linear

    def __init__(
        self,
        student_taps: str | Sequence[str] = "embedding",
        teacher_taps: str | Sequence[str] = "embedding",
        dimension: int = 128,
    ):
        super().__init__(student_taps, teacher_taps)
        if len(self.student_taps) > 1:
            raise ValueError(f"student_taps and teacher_taps must name one tap each, got {list(self.student_taps)}")
        self.dimension = int(positive("dimension", dimension))

    def prepare(self, probe: Probe) -> None:
        """Builds the two linear embeddings of the flattened features."""
        self.student_embedding, self.teacher_embedding = (
            nn.Linear(outputs.features[taps[0]][0].numel(), self.dimension)
            for outputs, taps in ((probe.student, self.student_taps), (probe.teacher_outputs, self.teacher_taps))
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch | None) -> Tensor:
        """A scalar: the mean over neighbouring samples of the batch."""
        return functional.cc(
            self.student_embedding(student.features[self.student_taps[0]].flatten(1)),
            self.teacher_embedding(teacher.features[self.teacher_taps[0]].flatten(1)),
        )


class CCKernel(Relation):
    """:func:`kdlab.functional.cc_kernel`."""

    function = staticmethod(functional.cc_kernel)

    def __init__(
        self,
        student_taps: str | Sequence[str] = "embedding",
        teacher_taps: str | Sequence[str] = "embedding",
        kernel: str = "gaussian",
        gamma: float = 0.4,
        order: int = 2,
        normalise: bool = True,
        squared: bool = True,
    ):
        super().__init__(student_taps, teacher_taps)
        if kernel not in ("gaussian", "bilinear"):
            raise ValueError(f"kernel must be gaussian or bilinear, got {kernel!r}")
        self.kernel, self.gamma, self.order = kernel, positive("gamma", gamma), int(positive("order", order))
        self.normalise, self.squared = normalise, squared

    def options(self) -> dict[str, Any]:
        """``kernel`` with ``gamma`` and ``order``, ``normalise`` and ``squared``."""
        return {
            "kernel": self.kernel,
            "gamma": self.gamma,
            "order": self.order,
            "normalise": self.normalise,
            "squared": self.squared,
        }


class RKD(Relation):
    """:func:`kdlab.functional.rkd`."""

    function = staticmethod(functional.rkd)

    def __init__(
        self,
        student_taps: str | Sequence[str] = "embedding",
        teacher_taps: str | Sequence[str] = "embedding",
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
    ):
        super().__init__(student_taps, teacher_taps)
        self.distance_weight, self.angle_weight = float(distance_weight), float(angle_weight)
        for name in ("distance_weight", "angle_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or greater, got {getattr(self, name)}")

    def options(self) -> dict[str, Any]:
        """``distance_weight`` and ``angle_weight``."""
        return {"distance_weight": self.distance_weight, "angle_weight": self.angle_weight}


class PKT(Relation):
    """:func:`kdlab.functional.pkt`."""

    function = staticmethod(functional.pkt)


class SimilarityKL(Relation):
    """:func:`kdlab.functional.similarity_kl`."""

    function = staticmethod(functional.similarity_kl)

    def __init__(
        self,
        student_taps: str | Sequence[str] = "embedding",
        teacher_taps: str | Sequence[str] = "embedding",
        temperature: float = 0.1,
    ):
        super().__init__(student_taps, teacher_taps)
        self.temperature = positive("temperature", temperature)

    def options(self) -> dict[str, Any]:
        """``temperature``, by which the cosines are divided."""
        return {"temperature": self.temperature}


class CKA(Relation):
    """:func:`kdlab.functional.cka`."""

    function = staticmethod(functional.cka)


class NST(Relation):
    """:func:`kdlab.functional.nst`, summed over the stages."""

    per = "sample"

    function = staticmethod(functional.nst)

    def __init__(
        self,
        student_taps: str | Sequence[str] = ("stage1", "stage2", "stage3"),
        teacher_taps: str | Sequence[str] = ("stage1", "stage2", "stage3"),
        degree: int = 2,
    ):
        super().__init__(student_taps, teacher_taps)
        self.degree = int(positive("degree", degree))

    def options(self) -> dict[str, Any]:
        """``degree`` of the polynomial kernel."""
        return {"degree": self.degree}


class FSP(Consecutive):
    """:func:`kdlab.functional.fsp` of consecutive stages. The student's stages must have as many channels as the
    teacher's."""

    function = staticmethod(functional.fsp)
    needs_equal_widths = True


class KDSVD(Consecutive):
    """:func:`kdlab.functional.kdsvd` of consecutive stages. The student's stages must have as many channels as the
    teacher's."""

    function = staticmethod(functional.kdsvd)
    needs_equal_widths = True

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        teacher_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        vectors: int = 1,
    ):
        super().__init__(student_taps, teacher_taps)
        self.vectors = int(positive("vectors", vectors))

    def options(self) -> dict[str, Any]:
        """``vectors``, the number of singular vectors that are compared."""
        return {"vectors": self.vectors}
