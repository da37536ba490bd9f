"""Factor transfer: module form of :func:`kdlab.functional.factor_transfer`, with paraphraser and translator."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.features import FORMS
from kdlab.functional.rows import one_of
from kdlab.models.connectors import same_kind
from kdlab.models.factors import Paraphraser, Translator
from kdlab.outputs import Outputs

from .base import Loss, Probe, positive, whole


class FactorTransfer(Loss):
    """A translator makes the student's factors, a paraphraser the teacher's: :func:`kdlab.functional.factor_transfer`.

    The authors train in two stages: first the paraphraser alone, as an autoencoder of the teacher's map, then the
    student with the paraphraser frozen. The default here is another procedure: the paraphraser learns to reconstruct
    the teacher's map *while* the student learns (``reconstruction_weight`` above 0). The student's term treats the
    factors as constants, but its targets move at first. For the authors' procedure use ``experiment=stages/ft``, or set
    ``paraphraser`` to the file of a trained one and ``reconstruction_weight`` to 0. With weight 0 and no file, the
    factors are random projections of the teacher's map.

    Args:
        student_tap, teacher_tap: the maps that are compared; by default the last ones.
        norm, form, power: see :func:`kdlab.functional.factor_transfer`.
        rate: the factors have ``rate`` times as many channels as the teacher's map.
        reconstruction_weight: weight of the paraphraser's own loss. The weight of this term multiplies it: with a
            weight of 200, 1/200 gives 1.
        paraphraser: a file with the state dict of a trained :class:`kdlab.models.factors.Paraphraser`; None builds a
            new one.
    """

    per = "sample"

    function = staticmethod(functional.factor_transfer)
    fixed = ("rate", "reconstruction_weight")
    #: built by :meth:`prepare`
    paraphraser: Paraphraser
    translator: Translator

    def __init__(
        self,
        student_tap: str = "embedding.input",
        teacher_tap: str = "embedding.input",
        norm: float = 1.0,
        form: str = "code",
        power: float = 2.0,
        rate: float = 0.5,
        reconstruction_weight: float = 0.005,
        paraphraser: str | None = None,
    ):
        super().__init__()
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.norm, self.form, self.power = positive("norm", norm), one_of("form", form, FORMS), whole("power", power)
        self.rate = positive("rate", rate)
        if not reconstruction_weight >= 0:
            raise ValueError(f"reconstruction_weight must be 0 or greater, got {reconstruction_weight}")
        self.reconstruction_weight, self.file = float(reconstruction_weight), paraphraser

    def prepare(self, probe: Probe) -> None:
        """Builds paraphraser and translator, and loads the paraphraser's weights if a file is named.

        Raises:
            ValueError: the features are not maps, the maps differ in size with ``form=paper``, ``rate`` is so small
                that no factor remains, or the file does not hold the state of this paraphraser.
        """
        mine, theirs = (
            probe.student.features[self.student_taps[0]].shape[1:],
            probe.teacher_outputs.features[self.teacher_taps[0]].shape[1:],
        )
        same_kind(mine, theirs, maps_only="factors are made by convolutions")
        if self.form == "paper" and mine[1:] != theirs[1:]:
            raise ValueError(
                f"form=paper compares factors position by position, and the maps {tuple(mine)} and {tuple(theirs)} "
                "differ in size; choose taps of equal size, or form=code"
            )
        self.paraphraser = Paraphraser(theirs[0], self.rate)
        self.translator = Translator(mine[0], theirs[0], self.rate)
        if self.file is not None:
            try:
                self.paraphraser.load_state_dict(torch.load(self.file, weights_only=True, map_location="cpu"))
            except (OSError, RuntimeError) as error:
                raise ValueError(
                    f"paraphraser: {self.file} does not hold the state of a paraphraser of {theirs[0]} channels: "
                    f"{error}"
                ) from error
        self.paraphraser.requires_grad_(self.reconstruction_weight > 0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per sample, ``(B,)``: the distance between the factors plus ``reconstruction_weight`` times the
        paraphraser's reconstruction error."""
        theirs = teacher.features[self.teacher_taps[0]]
        factors = self.paraphraser.factors(theirs)
        mine = self.translator(student.features[self.student_taps[0]])
        values = functional.factor_transfer(mine, factors.detach(), self.norm, self.form, self.power)
        if self.reconstruction_weight == 0:
            return values
        return values + self.reconstruction_weight * functional.hint(self.paraphraser.decoder(factors), theirs)
