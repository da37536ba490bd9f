"""OFD: module form of :mod:`kdlab.functional.ofd`, with its connectors and the teacher's margins."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.maps import averaged
from kdlab.functional.rows import added
from kdlab.models.connectors import pointwise, same_kind
from kdlab.models.norms import BATCH_NORMS, BatchNorm, preceding_batch_norm
from kdlab.outputs import Outputs

from .base import Probe
from .pairs import PREACTIVATIONS, Pairs, taps


class OverhaulDistillation(Pairs):
    """The overhaul of feature distillation (OFD): :func:`kdlab.functional.partial_l2` over pairs of pre-activations.
    The last pair has weight 1, and each earlier pair has half the weight of the next. A 1 x 1 convolution and BatchNorm
    connect a pair. If the teacher's map has another size, it is averaged to the student's size. The margins are
    computed once, from the teacher's BatchNorms.

    The teacher stays in evaluation mode. In the authors' code, and in mdistiller's, its BatchNorms are in training
    mode.

    Args:
        student_taps, teacher_taps: pairs of pre-activations.
        teacher_norms: paths of the teacher's BatchNorms, one per pair; None: found from the taps
            (:func:`kdlab.models.norms.preceding_batch_norm`).
    """

    function = staticmethod(functional.partial_l2)

    def __init__(
        self,
        student_taps: str | Sequence[str] = PREACTIVATIONS,
        teacher_taps: str | Sequence[str] = PREACTIVATIONS,
        teacher_norms: str | Sequence[str] | None = None,
    ):
        super().__init__(student_taps, teacher_taps)
        self.teacher_norms = None if teacher_norms is None else taps("teacher_norms", teacher_norms)
        if self.teacher_norms is not None and len(self.teacher_norms) != len(self.teacher_taps):
            raise ValueError(
                f"teacher_norms must name {len(self.teacher_taps)} BatchNorms, one per pair of taps, got "
                f"{list(self.teacher_norms)}"
            )
        self.connectors = nn.ModuleList()

    def prepare(self, probe: Probe) -> None:
        """Builds a connector for each pair and computes the margins from the teacher's BatchNorms.

        Raises:
            ValueError: the teacher is not one network, a pair is neither two maps nor two vectors, or the BatchNorm of
                a tap is missing or has another width.
        """
        if probe.teacher_network is None:
            raise ValueError("the margins are read from the BatchNorms of a single teacher network; this is not one")
        for number, ((mine, theirs), norm) in enumerate(
            zip(self.shapes(probe), self._norms(probe.teacher_network, probe))
        ):
            same_kind(mine, theirs)
            if norm.num_features != theirs[0]:
                raise ValueError(
                    f"the BatchNorm before the teacher's '{self.teacher_taps[number]}' has {norm.num_features} "
                    f"channels and the tap {tuple(theirs)}; name the BatchNorms with teacher_norms"
                )
            self.connectors.append(pointwise(mine, theirs))
            margin = functional.normal_margin(norm.weight.detach(), norm.bias.detach()).float()
            self.register_buffer(f"margin{number}", margin.cpu())

    def _norms(self, network: nn.Module, probe: Probe) -> list[BatchNorm]:
        if self.teacher_norms is None:
            return [preceding_batch_norm(network, tap, probe.teacher_aliases) for tap in self.teacher_taps]
        modules, norms = dict(network.named_modules()), []
        for name in self.teacher_norms:
            norm = modules.get(name)
            if not isinstance(norm, BATCH_NORMS):
                raise ValueError(f"teacher_norms: the teacher has no BatchNorm '{name}'")
            norms.append(norm)
        return norms

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the weighted sum over the pairs."""
        values = []
        for number, ((mine, theirs), weight) in enumerate(zip(self.pairs(student, teacher), self.halving())):
            mine = self.connectors[number](mine)
            if mine.dim() == 4:
                theirs = averaged(theirs, mine.shape[2:])
            values.append(weight * functional.partial_l2(mine, theirs, getattr(self, f"margin{number}")))
        return added(values, "ofd")
