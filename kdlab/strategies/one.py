"""ONE: a network with several copies of its last stages, whose branches learn from their ensemble."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional.sources import method, required_method
from kdlab.losses.base import Probe
from kdlab.models.cut import behind
from kdlab.models.gate import BranchGate
from kdlab.models.taps import Taps, own_taps, stage_taps
from kdlab.outputs import Outputs

from .base import Step
from .cohort import Cohort, Once, Peer, batch_of, combined, logits_only, picked


@method(
    "strategy", required_method(functional.ensemble_logits).paper, {"Lan1991Xu/ONE_NeurIPS2018": "one_kl one_total"}
)
class NativeEnsemble(Cohort):
    r"""ONE: M branches after a shared stem, and a gate on the shared feature that combines them to an ensemble,
    :math:`z_e = \sum_i g_i z_i`. The ensemble teaches each branch:
    :math:`L = \sum_i [L_{labels}(z_i) + L_{taught}(z_i, z_e)] + L_{labels}(z_e)`. Lan et al. (2018), "Knowledge
    Distillation by On-the-Fly Native Ensemble", https://arxiv.org/abs/1806.04606

    As a teacher the ensemble is a constant; the gate learns from the labels. The first branch is the student itself, a
    plain network from inputs to logits, and the run keeps it. Of each peer's network only the part after the split is
    kept; it starts with the peer's initial weights.

    It cannot be combined with a further teacher, with losses on features, with networks that cannot be cut
    (:func:`kdlab.models.cut.behind`), or with peers of another architecture.

    Args:
        peers: name -> :class:`kdlab.strategies.cohort.Peer` of the student's architecture.
        split: tap of the last shared feature; None: the last but one of the taps ``stage1``, ``stage2``, ….
        base: as for :class:`kdlab.strategies.Strategy`.

    Raises:
        InputError: the student cannot be cut there, or a peer has another architecture.
    """

    answers_may_be = ("classes",)

    def __init__(
        self,
        *,
        peers: Mapping[str, Peer],
        split: str | None = None,
        student: nn.Module,
        taps: Mapping[str, str] | None = None,
        **base: Any,
    ):
        self._split = split or _default_split(student, taps or {})
        Taps(student, [self._split], taps)  # raises for an unknown name
        path = {**own_taps(student), **(taps or {})}.get(self._split, self._split)
        self._rest = partial(behind, student, path)
        self._rest()
        for name, peer in peers.items():
            if _shapes(peer.network) != _shapes(student):
                raise InputError(
                    f"strategy.peers.{name}: it has another architecture than the student, but a branch reads the "
                    "output of the student's stem; strategy.peers=2 adds two networks like the student"
                )
        branches = {
            f"branch{number}": replace(peer, network=behind(peer.network, path))
            for number, peer in enumerate(peers.values(), start=2)
        }
        super().__init__(peers=branches, student=student, taps=taps, **base)
        self.gate: BranchGate | None = None

    def key_of(self, network: str) -> str:
        """``student`` for every branch: all have its architecture."""
        return "student"  # all branches have its architecture

    def features_of(self, name: str) -> set[str]:
        """The split for the student; no tap for the other branches."""
        return {self._split} if name == "student" else set()

    def attach(self, probe: Probe) -> None:
        """Builds the gate for the shared feature, then the peers' objectives.

        Raises:
            InputError: the shared feature is neither ``(N, D)`` nor ``(N, D, H, W)``, or the part after the split does
                not compute the student's logits.
        """
        shared = probe.student.features.get(self._split)
        if shared is None or shared.dim() not in (2, 4):
            raise InputError(
                f"strategy.split={self._split}: the gate reads features (N, D) or maps (N, D, H, W), got "
                f"{'nothing' if shared is None else tuple(shared.shape)}"
            )
        again = self.task.network_outputs(self._rest(), batch_of(probe).replace(inputs=shared))
        if not torch.allclose(again.logits, probe.student.logits, rtol=1e-3, atol=1e-5):
            raise InputError(
                f"strategy.split={self._split}: the part after it does not compute the student's logits, so it cannot "
                "be a branch; choose another split"
            )
        self.gate = BranchGate(shared.shape[1], len(self.networks())).to(shared)
        super().attach(probe)

    def distill(self, batch: Batch) -> Step:
        """The loss of the ensemble to the labels, plus that of each branch to the labels and the ensemble."""
        said = {name: self.aligned(outputs, batch) for name, outputs in self.observe_all(batch).items()}
        rows, ensemble = self.task.align_batch(batch), said["ensemble"]
        loss = self.loss_of(ensemble, None, rows).named("ensemble")
        for name in self.networks():
            loss = loss + self.loss_of(said[name], ensemble, rows, self.objective_of(name)).named(name)
        return Step(loss, said)

    def observe_all(self, batch: Batch) -> dict[str, Outputs]:
        """The Outputs of each branch on the batch, and of their ensemble. The stem is computed once."""
        return self._branched(self.observe(batch), batch)

    def observe_as(self, name: str, batch: Batch) -> Outputs:
        """The Outputs of one branch, or of ``ensemble``. All branches are computed."""
        return self.observe_all(batch)[name]

    def taught_by(self, batch: Batch) -> Outputs:
        """The ensemble's Outputs, detached. Before the gate exists, the student's."""
        return self.observe_as("ensemble", batch).detach() if self.gate is not None else self.observe(batch).detach()

    def _branched(self, student: Outputs, batch: Batch) -> dict[str, Outputs]:
        """The Outputs of the other branches and of the ensemble, from the shared feature in the student's Outputs."""
        shared = student.features[self._split]
        said = {"student": student.replace(features={}, second=None)}
        said |= {
            name: self.task.network_outputs(branch, batch.replace(inputs=shared)) for name, branch in self.peers.items()
        }
        if self.gate is not None:
            said["ensemble"] = combined(
                list(said.values()), partial(functional.ensemble_logits, gate=self.gate(shared))
            )
        if student.second is None:
            return said
        second = self._branched(student.second, batch)
        return {name: outputs.replace(second=second[name]) for name, outputs in said.items()}

    def answers(self) -> dict[str, Callable[[Batch], Outputs]]:
        """Each branch and, once the gate exists, ``ensemble``. All use one pass through the stem per batch."""

        def together(batch: Batch) -> dict[str, Outputs]:
            with self._taps as features:
                student = self.task.network_outputs(self.student, batch)
            return self._branched(student.replace(features=features), batch)

        once = Once(together)
        names = (*self.networks(), *(("ensemble",) if self.gate is not None else ()))
        return {name: picked(once, name) for name in names}

    def validate_combination(self) -> list[str]:
        """The problems of :class:`Cohort`, one for each term that reads features, and those of ``keep`` and
        ``views``."""
        problems = super().validate_combination() + logits_only(self, "the ensemble of the branches has none")
        if self.keep != "student":
            problems.append(
                f"strategy.keep={self.keep}: a branch is no network by itself; the student is kept, which is the first "
                "of them"
            )
        if self._different:
            problems.append("strategy.views=different: the branches share one stem, so they all see the same view")
        return problems


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _default_split(student: nn.Module, aliases: Mapping[str, str]) -> str:
    """The last but one of the taps named ``stage1``, ``stage2``, …, or the only one."""
    stages = stage_taps(student, aliases)
    if not stages:
        raise InputError(
            f"strategy.split: {type(student).__name__} has no taps stage1, stage2, …; name the last feature that the "
            "branches share, for example "
            f"strategy.split={next((name for name, _ in student.named_children()), 'layer3')}"
        )
    return stages[-2] if len(stages) > 1 else stages[0]
