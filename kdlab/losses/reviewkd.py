"""ReviewKD: module form of :mod:`kdlab.functional.reviewkd`, with its fusion."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.rows import added
from kdlab.models.fusion import Review, as_map
from kdlab.outputs import Outputs

from .base import Probe
from .pairs import Pairs

FEATURES = ("preact1", "preact2", "preact3", "embedding")


class ReviewKD(Pairs):
    """Knowledge review: the student's stages are fused from deep to shallow (:class:`kdlab.models.fusion.Review`). Each
    fused map is compared with the teacher's stage by :func:`kdlab.functional.hierarchical_context`. The values are
    summed over the stages.

    The authors raise the weight over the first 20 epochs; a schedule does this.

    Args:
        student_taps, teacher_taps: from shallow to deep. Vectors count as maps of one element. For networks without
            pre-activations, use stage1, ….
        sizes: the sizes to which the maps are averaged.
        most_channels: upper bound of the fused maps' channels, which are otherwise those of the deepest student
            feature.
    """

    function = staticmethod(functional.hierarchical_context)
    #: built by :meth:`prepare`
    review: Review

    def __init__(
        self,
        student_taps: str | Sequence[str] = FEATURES,
        teacher_taps: str | Sequence[str] = FEATURES,
        sizes: Sequence[int] = (4, 2, 1),
        most_channels: int = 512,
    ):
        super().__init__(student_taps, teacher_taps)
        if not all(isinstance(size, int) and size > 0 for size in sizes) or list(sizes) != sorted(
            set(sizes), reverse=True
        ):
            raise ValueError(f"sizes must be falling numbers of at least 1, for example [4, 2, 1], got {list(sizes)}")
        if most_channels < 1:
            raise ValueError(f"most_channels must be at least 1, got {most_channels}")
        self.sizes, self.most_channels = tuple(sizes), most_channels

    def prepare(self, probe: Probe) -> None:
        """Builds the fusion for the shapes of all pairs.

        Raises:
            ValueError: a feature is neither a map nor a vector.
        """
        pairs = self.shapes(probe)
        for mine, theirs in pairs:
            if len(mine) not in (1, 3) or len(theirs) not in (1, 3):
                raise ValueError(
                    f"the fusion needs maps (C, H, W) or vectors (C,), got a student feature of shape {tuple(mine)} "
                    f"and a teacher feature of shape {tuple(theirs)}; choose other taps"
                )
        self.review = Review([mine for mine, _ in pairs], [theirs for _, theirs in pairs], most=self.most_channels)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the sum over the stages."""
        pairs = self.pairs(student, teacher)
        fused = self.review([mine for mine, _ in pairs])
        values = (
            functional.hierarchical_context(mine, as_map(theirs), self.sizes) for mine, (_, theirs) in zip(fused, pairs)
        )
        return added(values, "reviewkd")
