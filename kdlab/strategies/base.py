"""Strategy: the LightningModule. A subclass says what a step computes; this class logs, steps and saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import lightning as L
import torch
from torch import Tensor, nn

from kdlab.batch import Batch
from kdlab.counter import derived_seed
from kdlab.losses.base import Probe
from kdlab.models.taps import Taps
from kdlab.objective import LossParts, Objective
from kdlab.outputs import Outputs
from kdlab.tasks import Task
from kdlab.teachers import Teacher

from .optimization import OptimizerRecipe

_DROPOUT = 3        # the stream of random numbers for whatever the networks draw while training


@dataclass
class Step:
    """What :meth:`Strategy.distill` returns: data, nothing logged."""

    loss: LossParts
    outputs: dict[str, Outputs] = field(default_factory=dict)


class Strategy(L.LightningModule):
    """Base of the strategies.

    A new strategy is one file with one method, :meth:`distill`. Four hooks are there for those that need more: :meth:`attach`
    (change the networks), :meth:`sampler` (order of the samples), :meth:`after_step` (state that moves with the steps) and
    :meth:`validate_combination` (what it cannot be combined with).

    Args:
        student: the network that is kept.
        teacher: a :class:`kdlab.teachers.Teacher` or None. A frozen one is no module and so never saved.
        objective: the loss terms.
        task: what a label means.
        optimization: makes optimiser and learning-rate schedule.
        seed: of the run.
        taps: the ``taps:`` of the student's config.
        generation: which generation of a chain this run is; a later generation draws random numbers of its own (initialisation, order,
            augmentation, dropout).
    """

    #: how many augmented views of a batch the strategy wants (1 or 2)
    views = 1

    def __init__(self, *, student: nn.Module, teacher: Teacher | None, objective: Objective, task: Task,
                 optimization: OptimizerRecipe, seed: int = 1, taps: Mapping[str, str] | None = None, generation: int = 0):
        super().__init__()
        if generation < 0:
            raise ValueError(f"generation must be 0 or greater, got {generation}")
        self.generation = generation
        self.student, self.teacher, self.objective, self.task = student, teacher, objective, task
        self.optimization, self.seed, self.aliases = optimization, seed, dict(taps or {})
        self.views = max(type(self).views, objective.views)
        self.validation_metrics = task.metrics()
        self._taps = Taps(student, objective.student_taps, self.aliases)
        #: what this epoch measured, for the run's curve (Lightning's own dict keeps what earlier epochs logged)
        self.epoch_values: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._seconds = {"step": 0.0, "teacher": 0.0}
        self._step_began, self._timed = 0.0, True

    # -- what a strategy says -------------------------------------------------------------------------------------------------

    def distill(self, batch: Batch) -> Step:
        """One step's loss. Computes and returns; does not log, step or save."""
        raise NotImplementedError(f"{type(self).__name__} must define distill(batch)")

    def attach(self, probe: Probe) -> None:
        """Change the networks (branches, exits) before losses and optimiser see them."""

    def sampler(self, target: Tensor, rows: Tensor) -> Callable[[int], Tensor] | None:
        """``order(epoch) -> rows`` where the strategy needs its own order of samples; None for a plain shuffle."""
        return None

    def after_step(self, step: Step, batch: Batch) -> None:
        """Called behind every optimiser step's batch, for state that moves with the steps."""

    def validate_combination(self) -> list[str]:
        """What is wrong with this combination of strategy, losses and teacher; empty if nothing is."""
        return []

    # -- what a strategy may call ---------------------------------------------------------------------------------------------

    def observe(self, batch: Batch, view: int = 0) -> Outputs:
        """The student's Outputs on a view of the batch, with the features that the objective asks for."""
        with self._taps as features:
            outputs = self.task.network_outputs(self.student, batch, view)
        second = self.observe(batch, 1) if view == 0 and self.objective.views == 2 else None
        return outputs.replace(features=features, second=second)

    def teach(self, batch: Batch) -> Outputs | None:
        """The teacher's Outputs, detached; None while no loss asks for them. Its share of the step's time is kept."""
        if self.teacher is None or not self.objective.asks_teacher:
            return None
        began = self._now()
        outputs = self.teacher.teach(batch)
        if self.objective.views == 2:
            outputs = outputs.replace(second=self.teacher.teach(batch.other_view()))
        if self._timed:
            self._seconds["teacher"] += self._now() - began
        return outputs

    def compare(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> LossParts:
        """The objective on aligned rows."""
        teacher = None if teacher is None else self._aligned(teacher, batch).detach()
        return self.objective(self._aligned(student, batch), teacher, self.task.align_batch(batch))

    def _aligned(self, outputs: Outputs, batch: Batch) -> Outputs:
        second = None if outputs.second is None else self.task.align(outputs.second, batch)
        return self.task.align(outputs, batch).replace(second=second)

    # -- Lightning ------------------------------------------------------------------------------------------------------------

    def configure_optimizers(self):
        return self.optimization.configure(self, f"val/{self.task.monitor}")

    def on_train_epoch_start(self) -> None:
        self.student.train()        # networks of other libraries may arrive in evaluation mode
        self._sums, self._seconds, self.epoch_values = {}, {"step": 0.0, "teacher": 0.0}, {}

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if batch_index == 0:        # here and not at the start of the epoch: a resumed epoch must draw the same numbers
            torch.manual_seed(derived_seed(self.seed, self.current_epoch, self.global_rank, _DROPOUT))
        self.objective.advance(self.current_epoch + batch_index / max(self.trainer.num_training_batches, 1))
        # a GPU works behind our back: there only every 50th step is timed, since timing waits for it
        self._timed = self.device.type == "cpu" or batch_index % 50 == 0
        self._step_began = self._now()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        self._step = self.distill(batch)
        rows = float(batch.normaliser or len(batch))
        for name, value in {"loss": self._step.loss.total.detach(), **{f"loss_{k}": v for k, v in self._step.loss.parts.items()}}.items():
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + value * rows, count + rows)
        return self._step.loss.total

    def on_train_batch_end(self, outputs, batch: Batch, batch_index: int) -> None:
        self.after_step(self._step, batch)
        del self._step
        if self._timed:
            self._seconds["step"] += self._now() - self._step_began

    def on_train_epoch_end(self) -> None:
        means = {}
        for name, (total, count) in sorted(self._sums.items()):
            total, count = (self.trainer.strategy.reduce(torch.as_tensor(value, device=self.device), reduce_op="sum")
                            for value in (total, count))
            means[f"train/{name}"] = total / count
        for name, value in self.objective.scalars().items():
            means[f"train/{name}"] = value
        means["train/teacher_share"] = self._seconds["teacher"] / max(self._seconds["step"], 1e-9)
        self._report(means, on_bar=False)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        rows = self.task.align_batch(batch)
        outputs = self.task.align(self.task.network_outputs(self.student, batch), batch)
        self.validation_metrics.update(outputs.logits, rows.target)

    def on_validation_epoch_end(self) -> None:
        values = {f"val/{name}": value for name, value in self.validation_metrics.compute().items()}
        self.validation_metrics.reset()
        self._report(values, on_bar=True)

    def _report(self, values: dict, on_bar: bool) -> None:
        self.epoch_values |= {name: float(value) for name, value in values.items()}
        self.log_dict(values, prog_bar=on_bar)

    def _now(self) -> float:
        """Seconds, once all that was asked of a GPU is done (in timed steps)."""
        if self._timed and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
