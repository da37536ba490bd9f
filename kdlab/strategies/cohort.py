"""Cohort: common parts of the strategies in which several networks learn at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.counter import derived_seed
from kdlab.errors import InputError, did_you_mean
from kdlab.functional.rows import one_of
from kdlab.losses.base import Probe
from kdlab.models.taps import Taps
from kdlab.objective import Objective
from kdlab.outputs import Outputs

from .base import Strategy

_CONNECTORS = 33  # the stream of random numbers for the peers' connectors
Result = TypeVar("Result")

#: names with another meaning in a run's report, and in ``strategy.keep``
RESERVED = ("student", "validation", "ensemble")


@dataclass
class Peer:
    """A network that learns together with the student.

    Args:
        network: any network that could be a student.
        taps: the ``taps:`` of its config.
        optimizer: its own options of the optimiser (``lr``, ``weight_decay``).
    """

    network: nn.Module
    taps: Mapping[str, str] = field(default_factory=dict)
    optimizer: Mapping[str, object] = field(default_factory=dict)


class Cohort(Strategy):
    """Base of the strategies with further networks that learn together with the student. Each is validated, reported
    and saved under its name.

    There is one optimiser, with a group of parameters per network. The teaching networks are detached, so the gradient
    of the summed loss is, for each network, that of its own loss. Only clipping by the global norm couples them. Each
    network except the student has a copy of the objective, with its own connectors and memories.

    Args:
        peers: name -> :class:`Peer`. In a config: the number of networks like the student, or name -> a network's node.
        views: whether all networks see the ``same`` augmentation of a batch, or each a ``different`` one.
        keep: the network that the run keeps: its name, or ``validation`` for the best one on validation.
        base: as for :class:`Strategy`.

    Raises:
        InputError: a name cannot be that of a network, or ``keep`` names no network.
    """

    def __init__(
        self,
        *,
        peers: Mapping[str, Peer],
        views: Literal["same", "different"] = "same",
        keep: str = "student",
        **base: Any,
    ):
        super().__init__(**base)
        self._different = one_of("views", views, ("same", "different")) == "different"
        if self._different and self.objective.views > 1:
            raise InputError(
                "strategy.views=different: a term of the loss compares two views of its own, so the networks must see "
                "the same"
            )
        self.views = max(self.views, 1 + len(peers) if self._different else 1)
        wrong = [name for name in peers if name in RESERVED or not name.isalnum() or hasattr(nn.ModuleDict(), name)]
        if wrong:
            raise InputError(
                f"strategy.peers.{wrong[0]}: a peer's name is made of letters and digits, and is not "
                f"{', '.join(RESERVED)} nor an attribute of torch's modules (training, items)"
            )
        known = ("student", *peers, "validation")
        if keep not in known:
            raise InputError(
                f"strategy.keep must be one of {', '.join(known)}, got {keep!r}{did_you_mean(keep, known)}"
            )
        self.keep = keep
        self.peers = nn.ModuleDict({name: peer.network for name, peer in peers.items()})
        self.objectives = nn.ModuleDict()
        self._options = {name: dict(peer.optimizer) for name, peer in peers.items()}
        self.watch(self.features_of("student"))
        self._aliases_of = {"student": self.aliases, **{name: peer.taps for name, peer in peers.items()}}
        self._peer_taps = {name: self.taps_of(name, peer.network) for name, peer in peers.items()}

    def networks(self) -> dict[str, nn.Module]:
        """The student and the peers, by name."""
        return {"student": self.student, **self.peers}

    def key_of(self, network: str) -> str:
        """``student``, or ``strategy.peers.NAME`` for a peer."""
        return network if network == "student" else f"strategy.peers.{network}"

    def features_of(self, name: str) -> set[str]:
        """The taps whose features a network must provide. By default every network both learns and teaches."""
        return self.objective.student_taps | self.objective.teacher_taps

    def taps_of(self, name: str, network: nn.Module) -> Taps:
        """The taps of a network with the architecture of the named one."""
        return Taps(network, self.features_of(name), self._aliases_of[name])

    def objective_of(self, name: str) -> Objective:
        """The objective of a network, with the network's own connectors."""
        return self.objective if name == "student" else cast(Objective, self.objectives[name])

    def own_objective(self, name: str) -> Objective:
        """A new objective for a peer, in which the peer's connectors are prepared."""
        return copy.deepcopy(self.objective)

    def observe_all(self, batch: Batch) -> dict[str, Outputs]:
        """Each network's Outputs on the batch, by name."""
        return {name: self.observe_as(name, batch) for name in self.networks()}

    def observe_as(self, name: str, batch: Batch) -> Outputs:
        """One network's Outputs on the batch, or on its own view of the batch."""
        taps = self._taps if name == "student" else self._peer_taps[name]
        return self.outputs_of(self.networks()[name], taps, batch, self.view_of(name))

    def view_of(self, name: str) -> int:
        """The number of a network's view."""
        return list(self.networks()).index(name) if self._different else 0

    def taught_by(self, batch: Batch) -> Outputs:
        """The Outputs of the first other network, for parts that depend on the shapes of the student's teacher."""
        return self.observe_as(next(iter(self.peers)), batch).detach()

    def attach(self, probe: Probe) -> None:
        """Builds and prepares an objective for each peer, with the student as its teacher."""
        for number, name in enumerate(self.peers, start=1):
            said = self.observe_as(name, batch_of(probe))
            self.objectives[name] = own = self.own_objective(name)
            # the student's connectors do not depend on the number of peers
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derived_seed(self.seed, _CONNECTORS, number))
                own.prepare(replace(probe, student=said, teacher=probe.student.detach(), teacher_aliases=self.aliases))
            own.train()  # it was copied in evaluation mode

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Sets the scheduled scalars of the peers' objectives, too."""
        super().on_train_batch_start(batch, batch_index)
        for name in self.objectives:
            objective = self.objective_of(name)
            objective.advance(self.epochs_done, self.steps_done)

    def parameter_groups(self) -> list[dict]:
        """One group for the student and everything that belongs to no peer, then one for each peer and its objective,
        with the peer's own options."""
        groups: list[dict] = []
        taken: set[int] = set()
        for name, network in self.peers.items():
            own = [
                value
                for module in (network, self.objectives[name])
                for value in module.parameters()
                if value.requires_grad
            ]
            taken |= {id(value) for value in own}
            groups.append({"params": own, **self._options[name]})
        rest = [value for value in self.parameters() if value.requires_grad and id(value) not in taken]
        return [{"params": rest}, *groups]

    def validate_combination(self) -> list[str]:
        """Problems: no term learns from labels, the optimiser or its schedule does not accept a peer's options, or
        there is a further teacher."""
        problems, known = [*super().validate_combination(), *self.without_labels()], self.optimization.options()
        problems += [
            f"strategy.peers.{name}.optimizer.{option}: the optimiser has no such option{did_you_mean(option, known)} "
            f"(it has {', '.join(known)})"
            for name, options in self._options.items()
            for option in options
            if option not in known
        ]
        if not problems:
            refused = {name: self.optimization.refusal(options) for name, options in self._options.items() if options}
            problems += [f"strategy.peers.{name}.optimizer: {said}" for name, said in refused.items() if said]
        own_rate = next((name for name, options in self._options.items() if "lr" in options), None)
        if own_rate and not problems and not self.optimization.keeps_rates():
            problems.append(
                f"strategy.peers.{own_rate}.optimizer.lr: the scheduler gives all networks one rate (OneCycleLR has "
                "its own max_lr); take scheduler=cosine, multistep or none"
            )
        if self.teacher is not None:
            problems.append(
                f"strategy: in {type(self).__name__} the networks teach one another, so there is no other teacher; "
                "teacher=none"
            )
        return problems


class Once(Generic[Result]):
    """A function of a batch that keeps its last result. If it is called several times with the same batch, it is
    computed once. So outputs that are requested one by one share a pass through a network.

    >>> once = Once(lambda batch: print("computed") or batch)
    >>> batch = object()
    >>> once(batch) is once(batch)
    computed
    True
    """

    def __init__(self, function: Callable[[Batch], Result]):
        self._function = function
        self._last: tuple[Batch, Result] | None = None

    def __call__(self, batch: Batch) -> Result:
        """The function's value for ``batch``, computed only if the last call had another batch."""
        if self._last is None or batch is not self._last[0]:
            self._last = batch, self._function(batch)
        return self._last[1]


def picked(once: Once[dict[str, Outputs]], name: str) -> Callable[[Batch], Outputs]:
    """One of several answers that are computed together."""
    return lambda batch: once(batch)[name]


def batch_of(probe: Probe) -> Batch:
    """The batch that a probe was made of. Raises ValueError where it holds none."""
    if probe.batch is None:
        raise ValueError("these networks are attached with a probe that holds its batch, and this one has none")
    return probe.batch


def combined(several: Sequence[Outputs], rule: Callable[[list[Tensor]], Tensor]) -> Outputs:
    """The combined Outputs of several networks: a rule on their logits, and on those of the second view if there is
    one. The result has no features.

    >>> import torch
    >>> combined([Outputs(torch.ones(1, 2)), Outputs(torch.zeros(1, 2))], lambda logits: sum(logits)).logits
    tensor([[1., 1.]])
    """
    seconds = [said.second for said in several if said.second is not None]
    second = combined(seconds, rule) if len(seconds) == len(several) else None
    return Outputs(rule([said.logits for said in several]), mask=several[0].mask, second=second)


def logits_only(strategy: Strategy, why: str) -> list[str]:
    """A problem for each term that reads features, for a strategy whose teachers have none."""
    return [
        (
            f"loss.{name}: it reads features ({', '.join(sorted({*term.student_taps, *term.teacher_taps}))}), and "
            f"{why}; choose a loss on logits"
        )
        for name, term in strategy.objective.losses.items()
        if term.student_taps or term.teacher_taps
    ]
