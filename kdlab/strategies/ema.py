"""Mean teacher: the student learns from an average of its own weights."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional.rows import one_of
from kdlab.functional.sources import Paper, method
from kdlab.models.taps import Taps
from kdlab.outputs import Outputs
from kdlab.teachers.average import Average

from .base import Step
from .self_taught import SelfTaught


@method(
    "strategy",
    Paper("Tarvainen and Valpola", 2017, "Mean teachers are better role models", "https://arxiv.org/abs/1703.01780"),
)
class MeanTeacher(SelfTaught):
    r"""The teacher is an exponential moving average of the student's weights, :math:`\theta' \leftarrow d\,\theta' + (1
    - d)\,\theta` after every optimiser step, and the student learns :math:`L = L_{labels}(f_\theta(x)) +
    L_{taught}(f_\theta(x), f_{\theta'}(x'))`, with x' another augmentation of x, or x itself. Tarvainen and Valpola
    (2017), "Mean teachers are better role models", https://arxiv.org/abs/1703.01780

    Any loss works, also on features. The strategy cannot be combined with another teacher, and ``views=different``
    cannot be combined with a loss that compares two views.

    Args:
        decay: d, see :class:`kdlab.teachers.average.Average`; 0.999 in the paper, for far longer trainings than one on
            digits.
        views: whether student and average see the ``same`` augmentation of a batch, or each a ``different`` one, as in
            the paper.
        keep: the network that the run keeps: ``student``, ``average``, or ``validation`` for the better one on
            validation. Both are reported.
        base: as for :class:`Strategy`.

    Raises:
        InputError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        decay: float = 0.99,
        views: Literal["same", "different"] = "different",
        keep: Literal["student", "average", "validation"] = "student",
        **base: Any,
    ):
        super().__init__(**base)
        self._view = 1 if one_of("views", views, ("same", "different")) == "different" else 0
        if self._view and self.objective.views > 1:
            raise InputError(
                "strategy.views=different: a term of the loss compares two views of its own, so both networks must see "
                "the same; strategy.views=same"
            )
        self.views = max(self.views, 1 + self._view)
        self.keep = one_of("keep", keep, ("student", "average", "validation"))
        self.average = Average(self.student, decay)
        self._average_taps = Taps(self.average.network, self.objective.teacher_taps, self.aliases)

    def networks(self) -> dict[str, nn.Module]:
        """The student and the average of its weights."""
        return {"student": self.student, "average": self.average.network}

    def on_train_epoch_start(self) -> None:
        """Keeps the average in evaluation mode; the base class sets all networks to training mode."""
        super().on_train_epoch_start()
        self.average.eval()

    def taught_by(self, batch: Batch) -> Outputs:
        """The average's Outputs, without gradient; on the second view with ``views=different``."""
        with torch.no_grad():
            return self.outputs_of(self.average.network, self._average_taps, batch, self._view)

    def distill(self, batch: Batch) -> Step:
        """The loss of the student, with the average as its teacher."""
        student, teacher = self.observe(batch), self.teach(batch)
        return Step(self.compare(student, teacher, batch), {"student": student})

    def after_step(self, step: Step, batch: Batch) -> None:
        """Moves the average towards the student after each step of the optimiser."""
        if self.stepped:
            self.average.follow(self.student)
