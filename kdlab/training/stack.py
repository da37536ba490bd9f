"""Stack: several students of one architecture, trained in one step.

Their parameters are the rows of one matrix. ``torch.func.vmap`` runs all networks in one pass, and all losses in
another one where the losses differ only in numbers. Every loss stays the code that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from kdlab.batch import Batch
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.strategies import Strategy

from .stacked_optimizer import StackedOptimizer

_OF_MODULE = frozenset(vars(nn.Module()))


@dataclass
class Given:
    """What the runs that share their data learn from in a step.

    Args:
        batch: theirs.
        taught: the teacher's Outputs; None where no run asks for them.
    """

    batch: Batch
    taught: Outputs | None


@dataclass
class Part:
    """The losses of runs whose objectives have the same terms at work.

    Args:
        rows: the numbers of these runs in the stack.
        names: of the terms.
        values: of the terms before their weights, (terms, runs).
        totals: (runs,).
    """

    rows: tuple[int, ...]
    names: tuple[str, ...]
    values: Tensor
    totals: Tensor


@dataclass
class _Form:
    """Objectives that differ only in numbers.

    Args:
        terms: name -> a copy of the loss, alone in an objective.
        numbers: name -> (module in it, attribute, the number of each run).
    """

    terms: dict[str, Objective]
    numbers: dict[str, list[tuple[nn.Module, str, list[float]]]] = field(default_factory=dict)


def form_of(objectives: Sequence[Objective]) -> _Form | None:
    """What several objectives share, and the numbers in which they differ; None where they differ in more, or where a
    number other than a weight has a schedule.

    >>> from kdlab.losses import HintonKD
    >>> two = [Objective({"kd": HintonKD(temperature)}, {"kd": 1.0}) for temperature in (2.0, 4.0)]
    >>> form = form_of(two)
    >>> [(name, values) for _, name, values in form.numbers["kd"]]
    [('temperature', [2.0, 4.0])]
    """
    first = objectives[0]
    if any(not key.endswith(".weight") or key.count(".") != 1 for one in objectives for key in one.schedules):
        return None
    if any(list(one.terms) != list(first.terms) for one in objectives):
        return None
    form = _Form({})
    for name, term in first.losses.items():
        copied = deepcopy(term)
        form.terms[name] = Objective({name: copied}, {name: 1.0})
        form.numbers[name] = []
        inner = [dict(one.losses[name].named_modules()) for one in objectives]
        for path, module in copied.named_modules():
            others = [modules.get(path) for modules in inner]
            if any(type(other) is not type(module) for other in others):
                return None
            plain = [own_attributes(cast(nn.Module, other)) for other in others]
            for key, value in plain[0].items():
                values = [one.get(key) for one in plain]
                if all(same(value, other) for other in values):
                    continue
                numbers = [other for other in values if type(other) is float]
                if len(numbers) < len(values):
                    return None
                form.numbers[name].append((module, key, numbers))
            if any(one.keys() != plain[0].keys() for one in plain):
                return None
    return form


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """What a module holds apart from parameters, buffers, modules and what every module has.

    >>> own_attributes(nn.Dropout(0.5))
    {'p': 0.5, 'inplace': False}
    """
    return {key: value for key, value in vars(module).items() if key not in _OF_MODULE}


def same(one: Any, other: Any) -> bool:
    """Whether two attributes are equal; tensors only if they are one object."""
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # objects of the user's own
        return False


class Stack:
    """Runs that are trained in one step.

    Args:
        strategies: of each run. Their students have one architecture.
        optimizers: of each run.
        sources: for each run the number of its :class:`Given`.
        together: whether the losses are computed in one pass too, where they differ only in numbers; otherwise in turn.

    Raises:
        ValueError: the parameters or optimisers do not fit together.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        optimizers: Sequence[torch.optim.Optimizer],
        sources: Sequence[int],
        together: bool = True,
    ):
        self.strategies, self.sources = list(strategies), list(sources)
        self.objectives = [one.objective for one in strategies]
        self._network = strategies[0].student
        named = [dict(one.student.named_parameters()) for one in strategies]
        shapes = {name: value.shape for name, value in named[0].items()}
        if any({name: value.shape for name, value in one.items()} != shapes for one in named):
            raise ValueError("their students have several architectures")
        buffers = [dict(one.student.named_buffers()) for one in strategies]
        #: those of all runs, which change in a step where the network keeps statistics (BatchNorm)
        self.buffers = {name: torch.stack([one[name].detach() for one in buffers]) for name in buffers[0]}
        rows = [torch.cat([value.detach().flatten() for value in one.values()]) for one in named]
        self.weights = torch.stack(rows)
        self._views: dict[str, Tensor] = {}
        start = 0
        for name, shape in shapes.items():
            stop = start + shape.numel()
            self._views[name] = self.weights[:, start:stop].view(len(named), *shape).detach().requires_grad_()
            start = stop
        self.optimizer = StackedOptimizer(optimizers, self.weights)
        self._form = form_of(self.objectives) if together else None
        self._alone = [
            {name: Objective({name: term}, {name: 1.0}) for name, term in one.losses.items()} for one in self.objectives
        ]
        self._parts: dict[tuple, list[tuple[int, ...]]] = {}
        self._index = torch.tensor(self.sources, device=self.weights.device)
        self._one_source = len(set(sources)) == 1

    def step(self, given: Sequence[Given]) -> list[Part]:
        """One optimiser step of every run. Returns the losses before it, detached."""
        gradients, parts = self.gradients(given)
        self.optimizer.step(self.weights, gradients)
        return parts

    def gradients(self, given: Sequence[Given]) -> tuple[Tensor, list[Part]]:
        """The gradients of every run, (R, D), and the losses, detached."""
        logits = self._logits([one.batch for one in given])
        parts = self._losses(logits, given)
        total = torch.cat([part.totals for part in parts]).sum()  # the gradient of a sum is that of each run alone
        found = torch.autograd.grad(total, list(self._views.values()))
        for part in parts:
            part.values, part.totals = part.values.detach(), part.totals.detach()
        return torch.cat([value.flatten(1) for value in found], 1), parts

    def write(self) -> None:
        """Give each run's student its parameters and buffers, and its optimiser its state."""
        with torch.no_grad():
            for row, strategy in enumerate(self.strategies):
                for name, parameter in strategy.student.named_parameters():
                    parameter.copy_(self._views[name][row])
                for name, buffer in strategy.student.named_buffers():
                    buffer.copy_(self.buffers[name][row])
        self.optimizer.write()

    # -- the networks --------------------------------------------------------------------------------------------------

    def _logits(self, batches: Sequence[Batch]) -> Tensor:
        """The logits of every run, (R, B, C)."""
        inputs = batches[0].inputs if self._one_source else torch.stack([one.inputs for one in batches])[self._index]
        task, network, batch = self.strategies[0].task, self._network, batches[0].replace(inputs=())

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Tensor:
            answer = functional_call(network, {**parameters, **buffers}, (inputs,))
            # the task makes logits of the answer; what it calls has it already
            return task.network_outputs(cast(nn.Module, lambda _: answer), batch).logits

        return vmap(one, in_dims=(0, 0, None if self._one_source else 0))(self._views, self.buffers, inputs)

    # -- the losses ----------------------------------------------------------------------------------------------------

    def _losses(self, logits: Tensor, given: Sequence[Given]) -> list[Part]:
        at_work = tuple(tuple(name for name, weight in one.weights.items() if weight != 0) for one in self.objectives)
        if at_work not in self._parts:
            groups: dict[tuple, list[int]] = {}
            for row, names in enumerate(at_work):
                groups.setdefault(names, []).append(row)
            self._parts[at_work] = [tuple(rows) for rows in groups.values()]
        return [self._part(rows, at_work[rows[0]], logits, given) for rows in self._parts[at_work]]

    def _part(self, rows: tuple[int, ...], names: tuple[str, ...], logits: Tensor, given: Sequence[Given]) -> Part:
        chosen = logits if len(rows) == len(logits) else logits[list(rows)]
        of = [given[self.sources[row]] for row in rows]
        if not names:
            values = chosen.new_zeros(0, len(rows))
        elif self._form is not None:
            values = self._in_one_pass(self._form, rows, names, chosen, of)
        else:
            values = self._in_turn(rows, names, chosen, of)
        weights = torch.tensor(
            [[self.objectives[row].weights[name] for row in rows] for name in names], dtype=torch.float64
        ).to(values)
        # without a term: 0, with a gradient of zeros
        totals = (values * weights.view(len(names), len(rows))).sum(0) if names else 0.0 * chosen.sum((1, 2))
        return Part(rows, names, values, totals)

    def _in_one_pass(
        self, form: _Form, rows: tuple[int, ...], names: tuple[str, ...], logits: Tensor, given: Sequence[Given]
    ) -> Tensor:
        """The terms of several runs, (terms, runs), by vmap over the runs."""
        first = given[0].batch
        varying = [(module, key, values) for name in names for module, key, values in form.numbers[name]]
        numbers = torch.tensor([[values[row] for row in rows] for _, _, values in varying], dtype=torch.float64)
        one_source = all(one is given[0] for one in given)
        asks = any(self.objectives[0].losses[name].needs_teacher for name in names)
        taught = _over([one.taught.logits for one in given if one.taught is not None], one_source) if asks else None
        target = _over([one.batch.target for one in given if one.batch.target is not None], one_source)

        def one(logits: Tensor, taught: Tensor | None, target: Tensor | None, numbers: Tensor) -> Tensor:
            for (module, key, _), value in zip(varying, numbers.unbind()):
                setattr(module, key, value)
            rows = self.strategies[0].task.align_batch(first.replace(inputs=None, target=target))
            student, teacher = Outputs(logits), None if taught is None else Outputs(taught)
            return torch.stack([form.terms[name](student, teacher, rows).total for name in names])

        dim = None if one_source else 0
        in_dims = (0, None if taught is None else dim, None if target is None else dim, 1)
        return vmap(one, in_dims=in_dims, out_dims=1)(
            logits, taught, target, numbers.view(len(varying), len(rows)).to(logits)
        )

    def _in_turn(self, rows: tuple[int, ...], names: tuple[str, ...], logits: Tensor, given: Sequence[Given]) -> Tensor:
        """The terms of several runs, (terms, runs), one run after the other."""
        found = []
        for row, answer, one in zip(rows, logits.unbind(), given):
            aligned = self.strategies[row].task.align_batch(one.batch)
            student, terms = Outputs(answer), self._alone[row]
            found.append(torch.stack([terms[name](student, one.taught, aligned).total for name in names]))
        return torch.stack(found, 1)


def _over(values: Sequence[Tensor], one_source: bool) -> Tensor | None:
    """What each run learns from, stacked; the value itself where it is the same for all, and None where there is
    none."""
    if not values:
        return None
    return values[0] if one_source else torch.stack(list(values))
