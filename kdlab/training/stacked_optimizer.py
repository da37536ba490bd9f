"""One optimiser step for several runs at once: their parameters are the rows of one matrix.

The formulas are those of torch's SGD, Adam and AdamW. Each run keeps its own torch optimiser: it holds the options,
which a learning-rate schedule may change, and it receives the state at the end of every epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

#: options with which torch takes another path; a run that uses one is not stacked
_UNUSUAL = ("amsgrad", "maximize", "fused", "capturable", "differentiable")


def misfit(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> str:
    """Why an optimiser cannot be stacked; empty if it can.

    Args:
        parameters: of the student. They must be all that the optimiser has, in one group.
    """
    if type(optimizer) not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        return f"optimizer: {type(optimizer).__name__} is not torch's SGD, Adam or AdamW"
    group = optimizer.param_groups[0]
    if unusual := [name for name in _UNUSUAL if group.get(name)]:
        return f"optimizer.{unusual[0]} is set"
    for name in ("lr", "betas"):
        values = group.get(name, ())
        if any(isinstance(value, Tensor) for value in (values if isinstance(values, (tuple, list)) else (values,))):
            return f"optimizer.{name} is a tensor"
    own = [value for one in optimizer.param_groups for value in one["params"]]
    if len(optimizer.param_groups) > 1 or list(map(id, own)) != list(map(id, parameters)):
        return "the optimiser changes more than the student's parameters, or not all of them"
    return ""


class StackedOptimizer:
    """Steps for R runs.

    Args:
        optimizers: of each run, of one class. Their state is taken over.
        like: the parameters, (R, D), in the order of each optimiser.

    Raises:
        ValueError: the runs differ in an option that must be equal.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], like: Tensor):
        self.optimizers, self._like = list(optimizers), like
        self.adam = isinstance(optimizers[0], (torch.optim.Adam, torch.optim.AdamW))
        if len({type(one) for one in optimizers}) > 1:
            raise ValueError("their optimisers are of several classes")
        # AdamW shrinks the weights themselves; Adam adds the decay to the gradient, as SGD does
        self.decoupled = isinstance(optimizers[0], torch.optim.AdamW) or bool(
            optimizers[0].param_groups[0].get("decoupled_weight_decay")
        )
        names = ("exp_avg", "exp_avg_sq") if self.adam else ("momentum_buffer",)
        self._state = {name: self._read(name) for name in names}
        #: steps that each run has taken, (R, 1); a torch optimiser counts them for each parameter
        self._steps = torch.tensor(
            [[float(self._first(one).get("step", 0.0))] for one in self.optimizers], dtype=torch.float64
        )
        self._begun = [bool(self._first(one)) for one in self.optimizers]
        for one in self.optimizers:
            cast(Any, one)._opt_called = True  # as after a step: otherwise a schedule warns

    def _first(self, optimizer: torch.optim.Optimizer) -> dict:
        return optimizer.state.get(optimizer.param_groups[0]["params"][0]) or {}

    def _read(self, name: str) -> Tensor:
        rows = []
        for optimizer in self.optimizers:
            parameters = optimizer.param_groups[0]["params"]
            rows.append(
                torch.cat(
                    [
                        torch.zeros_like(value).flatten()
                        if (found := (optimizer.state.get(value) or {}).get(name)) is None
                        else found.to(value).flatten()
                        for value in parameters
                    ]
                )
            )
        return torch.stack(rows).to(self._like)

    def _option(self, name: str) -> Any:
        """An option that all runs share."""
        found = [one.param_groups[0][name] for one in self.optimizers]
        if any(value != found[0] for value in found):
            raise ValueError(f"optimizer.{name} differs between the runs")
        return found[0]

    def _column(self, values: Sequence[float] | Tensor) -> Tensor:
        """A number of each run, (R, 1). They are computed in float64, as torch's optimisers do."""
        return torch.as_tensor(values, dtype=torch.float64).view(-1, 1).to(self._like)

    @torch.no_grad()
    def step(self, weights: Tensor, gradients: Tensor) -> None:
        """One step of every run. ``weights`` and ``gradients``: (R, D); the weights change in place."""
        rates = [float(one.param_groups[0]["lr"]) for one in self.optimizers]
        decays = [float(one.param_groups[0]["weight_decay"]) for one in self.optimizers]
        if self.decoupled:
            weights.mul_(self._column([1 - rate * decay for rate, decay in zip(rates, decays)]))
        elif any(decays):
            gradients = torch.addcmul(gradients, weights, self._column(decays))
        if self.adam:
            self._adam(weights, gradients, torch.tensor(rates, dtype=torch.float64).view(-1, 1))
        else:
            self._sgd(weights, gradients, self._column(rates))
        self._begun = [True] * len(self.optimizers)

    def _adam(self, weights: Tensor, gradients: Tensor, rates: Tensor) -> None:
        (first, second), eps = self._option("betas"), self._option("eps")
        mean, square = self._state["exp_avg"], self._state["exp_avg_sq"]
        self._steps += 1
        mean.lerp_(gradients, 1 - first)
        square.mul_(second).addcmul_(gradients, gradients, value=1 - second)
        size = self._column(rates / (1 - first**self._steps))
        root = self._column((1 - second**self._steps).sqrt())
        weights.sub_((mean / square.sqrt().div_(root).add_(eps)).mul_(size))

    def _sgd(self, weights: Tensor, gradients: Tensor, rates: Tensor) -> None:
        momentum = self._option("momentum")
        if momentum:
            buffer, damping = self._state["momentum_buffer"], 1 - self._option("dampening")
            if not any(self._begun):
                buffer.copy_(gradients)  # torch's first step has no dampening
            else:
                buffer.mul_(momentum).add_(gradients, alpha=damping)
            gradients = gradients.add(buffer, alpha=momentum) if self._option("nesterov") else buffer
        weights.sub_(gradients * rates)

    def write(self) -> None:
        """Give each run's optimiser its state, in torch's form."""
        for row, optimizer in enumerate(self.optimizers):
            if not self._begun[row] or (not self.adam and not optimizer.param_groups[0]["momentum"]):
                continue
            start = 0
            for value in optimizer.param_groups[0]["params"]:
                stop = start + value.numel()
                found = {name: state[row, start:stop].view_as(value).clone() for name, state in self._state.items()}
                if self.adam:
                    found = {"step": torch.tensor(float(self._steps[row]), dtype=torch.float32), **found}
                optimizer.state[value] = found
                start = stop
