"""Losses on standardised logits, or with a learned temperature: module form of :mod:`kdlab.functional.temperature`."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.outputs import Outputs

from .base import Loss, Probe, not_negative, positive


class Standardised(Loss):
    """Any other loss, on logits whose rows are standardised: :func:`kdlab.functional.standardise`.

    Args:
        loss: the inner loss. This loss has its needs and taps.
        epsilon: added to each row's standard deviation.
    """

    function = staticmethod(functional.standardise)

    def __init__(self, loss: Loss, epsilon: float = 1e-7):
        super().__init__()
        if not isinstance(loss, Loss):
            raise ValueError(f"loss must be another loss (a node with its _target_), got {loss!r}")
        self.loss = loss
        self.epsilon = positive("epsilon", epsilon)
        # adding a constant to the logits leaves standardised ones unchanged, whatever the inner loss reads
        self.declare(replace(loss.needs.inside("loss"), reads_logits=False))

    @property
    def answers(self) -> tuple[str, ...]:
        """Those of the inner loss."""
        return self.loss.answers

    @property
    def by_rows(self) -> bool:
        """That of the inner loss."""
        return self.loss.by_rows

    def prepare(self, probe: Probe) -> None:
        """Prepares the inner loss."""
        self.loss.prepare(probe)

    def readings(self) -> dict[str, float]:
        """The readings of the inner loss."""
        return self.loss.readings()

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """The value of the inner loss on standardised logits, including those of the second view."""
        return self.loss(self._standardised(student), None if teacher is None else self._standardised(teacher), batch)

    def _standardised(self, outputs: Outputs) -> Outputs:
        return outputs.map(lambda one: one.replace(answer=functional.standardise(one.logits, self.epsilon)))


class CTKD(Loss):
    """Soft targets at a temperature that is trained to raise the loss: :func:`kdlab.functional.ctkd`.

    The temperature is ``start + span * sigmoid(theta)``. It is one number for all samples, with theta starting at 1.
    With ``per_sample``, a small network computes theta for each sample from the logits of both sides, which are
    detached so that the student learns from the loss alone. The authors published code for the first form only; the
    architecture of the small network is kdlab's. The logs show ``temperature``, the mean over the last batch.

    Args:
        start: the lowest temperature.
        span: how much higher the temperature can get.
        reversal: the factor on the temperature's reversed gradient. The authors raise it from 0 to 1 over the first 10
            epochs.
        per_sample: whether every sample has its own temperature.
        width: hidden units of the small network, used with ``per_sample``.
    """

    function = staticmethod(functional.ctkd)
    #: built by :meth:`prepare` with ``per_sample``: computes theta for each sample
    network: nn.Sequential

    def __init__(
        self, start: float = 1.0, span: float = 20.0, reversal: float = 1.0, per_sample: bool = False, width: int = 64
    ):
        super().__init__()
        self.start, self.span = positive("start", start), positive("span", span)
        self.reversal = not_negative("reversal", reversal)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.width = width
        self.theta = None if per_sample else nn.Parameter(torch.ones(()))
        self.temperature: Tensor | None = None

    def prepare(self, probe: Probe) -> None:
        """Builds the small network with ``per_sample``; builds nothing otherwise."""
        if self.theta is None:
            last = nn.Linear(self.width, 1)
            self.network = nn.Sequential(nn.Linear(2 * probe.classes, self.width), nn.ReLU(), last)
            # every sample starts at the temperature at which a common temperature would start
            nn.init.zeros_(last.weight)
            nn.init.ones_(last.bias)

    def readings(self) -> dict[str, float]:
        """``temperature``, the mean over the last batch; empty before the first batch."""
        return {} if self.temperature is None else {"temperature": self.temperature.item()}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value per row, ``(N,)``: T^2 times the KL divergence at the learned temperature T. The gradient of T is
        reversed."""
        theta = self.theta
        if theta is None:
            both = torch.cat([student.logits.detach(), teacher.logits], dim=-1)
            theta = self.network(both.to(next(self.network.parameters()).dtype)).squeeze(-1)
        temperature = functional.learned_temperature(theta, self.start, self.span)
        self.temperature = temperature.detach().mean()
        return functional.ctkd(student.logits, teacher.logits, temperature, self.reversal)
