"""Online distillation: networks that learn at the same time and teach one another."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional import mutual_kl
from kdlab.functional.rows import one_of
from kdlab.functional.sources import method, required_method
from kdlab.models.taps import Taps
from kdlab.objective import LossParts, ddp_anchor, zero_loss
from kdlab.outputs import Outputs
from kdlab.teachers.average import Average

from .base import Step, distributed
from .cohort import Cohort, combined, logits_only


@method("strategy", required_method(mutual_kl).paper, {"YingZhangDUT/Deep-Mutual-Learning": "dml_kl dml_total"})
class Online(Cohort):
    r"""Deep mutual learning: each network learns from the labels and from each of the K - 1 others,
    :math:`L_i = L_{labels} + \frac{1}{K - 1} \sum_{j \ne i} L_{taught}(z_i, z_j)`, all on the same batch. Zhang et al.
    (2018), "Deep Mutual Learning", https://arxiv.org/abs/1706.00384

    With ``teachers=mean_logits`` or ``mean_probabilities`` it is co-distillation: each network learns from one soft
    target, the mean of the others. Anil et al. (2018), "Large scale distributed neural network training through online
    distillation", https://arxiv.org/abs/1804.03235. With ``decay``, the teachers are averages of the other networks'
    weights.

    It cannot be combined with a further teacher. ``mean_logits`` and ``mean_probabilities`` cannot be combined with
    losses on features.

    Args:
        teachers: ``mean``: the mean of the losses to each of the others, as in the paper. ``sum``: their sum, as in the
            authors' code. ``mean_logits`` or ``mean_probabilities``: the loss to the mean of the others
            (:func:`kdlab.functional.codistillation_targets`).
        update: ``synchronous``: all networks learn from every batch, with the same outputs. ``alternating``: one after
            the other, each on a new batch, as in the authors' code. In step t, network t mod K learns and the others
            only teach.
        decay: decay of the averages that teach; None: the networks themselves teach.
        cohort: as for :class:`Cohort`.
    """

    def __init__(
        self,
        *,
        teachers: Literal["mean", "sum", "mean_logits", "mean_probabilities"] = "mean",
        update: Literal["synchronous", "alternating"] = "synchronous",
        decay: float | None = None,
        **cohort: Any,
    ):
        super().__init__(**cohort)
        self._teachers = one_of("teachers", teachers, ("mean", "sum", "mean_logits", "mean_probabilities"))
        self._alternating = one_of("update", update, ("synchronous", "alternating")) == "alternating"
        self.averages = nn.ModuleDict()
        self._average_taps: dict[str, Taps] = {}
        if decay is not None:
            for name, network in self.networks().items():
                self.averages[name] = average = Average(network, decay)
                self._average_taps[name] = self.taps_of(name, average.network)

    def distill(self, batch: Batch) -> Step:
        """The sum of the losses of the networks that learn in this step, each to the labels and to the others."""
        said = {name: self.aligned(outputs, batch) for name, outputs in self.observe_all(batch).items()}
        teaching = {name: self.aligned(outputs, batch) for name, outputs in self._averaged(batch).items()} or said
        rows, turn, loss = self.task.align_batch(batch), self._turn(), LossParts()
        for name, outputs in said.items():
            if turn in (None, name):
                factor = len(self.peers) if self._teachers == "sum" else 1
                loss = loss + self.loss_of(outputs, self._target(name, teaching), rows, self.objective_of(name)).scaled(
                    taught=factor
                ).named(name)
            elif distributed():  # DDP requires that every parameter is part of the loss, also those of connectors
                loss = loss + LossParts(ddp_anchor(outputs) + zero_loss(self.objective_of(name)))
        return Step(loss, said)

    def _target(self, name: str, teaching: dict[str, Outputs]) -> list[Outputs] | Outputs:
        """The targets of a network: the Outputs of each other network, or their mean."""
        if not self._teachers.startswith("mean_"):
            return [outputs for other, outputs in teaching.items() if other != name]
        number, kind = list(teaching).index(name), self._teachers.removeprefix("mean_")
        return combined(
            list(teaching.values()), lambda logits: functional.codistillation_targets(logits, average=kind)[number]
        )

    def validate_combination(self) -> list[str]:
        """The problems of :class:`Cohort`; one for each term that remembers samples, with several peers; one for each
        term that reads features, with ``mean_logits`` and ``mean_probabilities``."""
        problems = super().validate_combination()
        problems += [
            f"loss.{name}: it has one memory per sample, and several teachers would share it; use strategy.peers=1, "
            "or choose another loss"
            for name, term in self.objective.losses.items()
            if term.needs_index and term.needs_teacher and len(self.peers) > 1
        ]
        if self._teachers == "mean_probabilities" and self.task.report.answers != "classes":
            problems.append(
                f"strategy.teachers=mean_probabilities is for classes, and with task={self.task.name} a network "
                f"answers with {self.task.report.answers}; strategy.teachers=mean_logits averages the answers "
                "themselves"
            )
        if self._teachers.startswith("mean_"):
            problems += logits_only(
                self, f"with strategy.teachers={self._teachers} the others have no features in common"
            )
        return problems

    def _turn(self) -> str | None:
        """The network that learns in this step; None: all."""
        names = list(self.networks())
        return names[self.steps_done % len(names)] if self._alternating else None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Keeps the weights of the networks that only teach in this step. DDP gives them gradients of 0, with which
        momentum and weight decay would still change them. (BatchNorm's statistics follow every batch.)"""
        for name, network in self.networks().items():
            if self._turn() not in (None, name):
                for module in (network, self.objective_of(name)):
                    module.zero_grad(set_to_none=True)

    def _each_average(self) -> list[tuple[str, Average]]:
        return [(name, cast(Average, average)) for name, average in self.averages.items()]

    def _averaged(self, batch: Batch) -> dict[str, Outputs]:
        with torch.no_grad():
            return {
                name: self.outputs_of(average.network, self._average_taps[name], batch, self.view_of(name))
                for name, average in self._each_average()
            }

    def after_step(self, step: Step, batch: Batch) -> None:
        """Moves the averages of the networks that have just learned, after each step of the optimiser."""
        for name, average in self._each_average() if self.stepped else ():
            if self._turn() in (None, name):
                average.follow(self.networks()[name])
