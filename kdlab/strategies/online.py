"""Online distillation: networks that learn at the same time and teach one another."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from kdlab.batch import Batch
from kdlab.functional import mutual_kl
from kdlab.functional.rows import one_of
from kdlab.functional.sources import method
from kdlab.models.taps import Taps
from kdlab.objective import LossParts, anchor
from kdlab.outputs import Outputs
from kdlab.teachers.average import Average

from .base import Step, distributed
from .cohort import Cohort


@method("strategy", mutual_kl.method.paper, {"YingZhangDUT/Deep-Mutual-Learning": "dml_kl dml_total"})
class Online(Cohort):
    r"""Deep mutual learning: each network learns from the labels and from each of the K - 1 others,
    :math:`L_i = L_{labels} + \frac{1}{K - 1} \sum_{j \ne i} L_{taught}(z_i, z_j)`, all on the same batch. Zhang et al. (2018), "Deep Mutual
    Learning", https://arxiv.org/abs/1706.00384

    With ``decay``, the others teach by averages of their weights (co-distillation with an average of the peers). It cannot be combined with a
    teacher beside the networks.

    Args:
        teachers: ``mean`` over the others, as in the paper, or ``sum``, as in the authors' code.
        update: ``synchronous``: all learn from every batch, from the same outputs. ``alternating``: one after the other, each on a fresh batch, as
            the authors' code does: in step t network t mod K learns, and the others only teach.
        decay: of the averages that teach; None: the networks as they are.
        cohort: as for :class:`Cohort`.
    """

    def __init__(self, *, teachers: Literal["mean", "sum"] = "mean", update: Literal["synchronous", "alternating"] = "synchronous",
                 decay: float | None = None, **cohort):
        super().__init__(**cohort)
        self._factor = len(self.peers) if one_of("strategy.teachers", teachers, ("mean", "sum")) == "sum" else 1
        self._alternating = one_of("strategy.update", update, ("synchronous", "alternating")) == "alternating"
        self.averages = nn.ModuleDict()
        self._average_taps: dict[str, Taps] = {}
        for name, network in self.networks().items() if decay is not None else ():
            self.averages[name] = Average(network, decay)
            self._average_taps[name] = self.taps_of(name, self.averages[name].network)

    def distill(self, batch: Batch) -> Step:
        said = {name: self.aligned(outputs, batch) for name, outputs in self.observe_all(batch).items()}
        teaching = {name: self.aligned(outputs, batch) for name, outputs in self._averaged(batch).items()} or said
        rows, turn, loss = self.task.align_batch(batch), self._turn(), LossParts()
        for name, outputs in said.items():
            if turn in (None, name):
                others = [taught for other, taught in teaching.items() if other != name]
                loss = loss + self.loss_of(outputs, others, rows, self.objective_of(name)).scaled(taught=self._factor).named(name)
            elif distributed():
                loss = loss + LossParts(anchor(outputs))
        return Step(loss, said)

    def _turn(self) -> str | None:
        """Who learns in this step; None: all."""
        names = list(self.networks())
        return names[self.steps_done % len(names)] if self._alternating else None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Whoever's turn it is not stays as it is: gradients of 0, as DDP gives, would let momentum and weight decay move it."""
        for name, network in self.networks().items():
            if self._turn() not in (None, name):
                for module in (network, self.objective_of(name)):
                    module.zero_grad(set_to_none=True)

    def _averaged(self, batch: Batch) -> dict[str, Outputs]:
        with torch.no_grad():
            return {name: self.outputs_of(average.network, self._average_taps[name], batch, self.view_of(name))
                    for name, average in self.averages.items()}

    def after_step(self, step: Step, batch: Batch) -> None:
        if self.stepped:
            for name, average in self.averages.items():
                average.follow(self.networks()[name])
