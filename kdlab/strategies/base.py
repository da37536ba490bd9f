"""Strategy: the LightningModule. A subclass says what a step computes; this class logs, steps and saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from kdlab.batch import Batch
from kdlab.counter import derived_seed
from kdlab.errors import InputError
from kdlab.losses.base import Probe
from kdlab.models.taps import Taps
from kdlab.objective import LossParts, Objective, ddp_anchor, mean_of
from kdlab.outputs import Outputs
from kdlab.tasks import Task
from kdlab.tasks.base import of_samples
from kdlab.teachers import Teacher

from . import random_numbers
from .measured import MeanLosses, StepTime
from .optimization import OptimizerRecipe

_DROPOUT = 3  # the stream of random numbers for whatever the networks draw while training


def distributed() -> bool:
    """Whether this process is one of several that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


@dataclass
class Step:
    """What :meth:`Strategy.distill` returns: data, nothing logged. ``outputs`` are what the networks said, by name, for
    ``after_step``. ``batch`` is the one that the loss is of, if it is not that of the data."""

    loss: LossParts
    outputs: dict[str, Outputs] = field(default_factory=dict)
    batch: Batch | None = None


class Strategy(L.LightningModule):
    """Base of the strategies.

    A new strategy is one file with one method, :meth:`distill`. Four hooks are there for those that need more:
    :meth:`attach` (change the networks), :meth:`sampler` (order of the samples), :meth:`after_step` (state that moves
    with the steps) and :meth:`validate_combination` (what it cannot be combined with).

    Args:
        student: the network that is kept.
        teacher: a :class:`kdlab.teachers.Teacher` or None. A frozen one is no module and so never saved.
        objective: the loss terms.
        task: what a label means.
        optimization: makes optimiser and learning-rate schedule.
        seed: of the run's random numbers.
        epochs: of the whole training; None where that is not known.
        taps: the ``taps:`` of the student's config.
        generation: which generation of a chain this run is; a later generation draws random numbers of its own
            (initialisation, order, augmentation, dropout).
    """

    #: how many augmented views of a batch the strategy wants (1 or more)
    views = 1
    #: what the answers of its networks may be (:attr:`kdlab.tasks.Report.answers`)
    answers_may_be: tuple[str, ...] = ("classes", "labels", "values", "vectors")
    #: whether it can learn from mixed images (:mod:`kdlab.data.images.mixing`), each of which has two labels
    mixing = True
    #: whether it can learn from samples without labels, which the data have beside labelled ones
    unlabelled = True
    #: whether it remembers training samples by their number, ``batch.index``
    needs_index = False
    #: whether it asks the teacher about inputs that are not those of the data
    own_inputs = False

    def __init__(
        self,
        *,
        student: nn.Module,
        teacher: Teacher | None,
        objective: Objective,
        task: Task,
        optimization: OptimizerRecipe,
        seed: int = 1,
        epochs: int | None = None,
        taps: Mapping[str, str] | None = None,
        generation: int = 0,
    ):
        super().__init__()
        if generation < 0:
            raise ValueError(f"generation must be 0 or greater, got {generation}")
        self.generation, self.epochs = generation, epochs
        self.student, self.teacher, self.objective, self.task = student, teacher, objective, task
        self.optimization, self.seed, self.aliases = optimization, seed, dict(taps or {})
        self.views = max(type(self).views, objective.views)
        #: which of :meth:`networks` the run keeps: a name, or ``validation``, which chooses the best
        self.keep = "student"
        self.watch(())
        #: of the training, with the part of the present one that is done
        self.epochs_done = 0.0
        #: optimiser steps before the present batch
        self.steps_done = 0
        #: whether the optimiser has moved in the present batch, and not only added to the gradients
        self.stepped = False
        #: with ``trainer.every_n_train_steps``: whether a row of the curve ends with the present batch; None: rows are
        #: epochs
        self.row_is_due: Callable[[], bool] | None = None
        self._random: dict[str, Tensor] | None = None
        self._metrics: dict[str, MetricCollection] = {}
        #: the network that the last validation chose; None before the first
        self.kept_on_validation: str | None = None
        #: what this row of the curve measured (Lightning's own dict keeps what earlier rows logged)
        self.epoch_values: dict[str, float] = {}
        self._losses, self._time = MeanLosses(), StepTime()

    def __setattr__(self, name: str, value: Any) -> None:
        # such values are set in every step, and torch would look for a parameter or module of that name each time
        if type(value) in (int, float, bool, Step) and name in self.__dict__:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # -- what a strategy says ------------------------------------------------------------------------------------------

    def distill(self, batch: Batch) -> Step:
        """One step's loss. Computes and returns; does not log, step or save."""
        raise NotImplementedError(f"{type(self).__name__} must define distill(batch)")

    def attach(self, probe: Probe) -> None:
        """Change the networks (branches, exits) before losses and optimiser see them."""

    def sampler(self, target: Tensor, rows: Tensor) -> Callable[[int], Tensor] | None:
        """``order(epoch)`` where the strategy needs its own order of samples; None for a plain shuffle. Asked for
        before :meth:`attach`.

        The answer is a function of the epoch, of the same length in every epoch: sample indices ``(N,)``, or ``(N,
        G)``, each row a group of G samples that must stay in one batch and one process: then ``data.batch_size`` and
        the normaliser count groups, and a batch holds the first members of all its groups, behind them all second
        members, and so on.

        Args:
            target: the labels of the stored training split.
            rows: the sample indices that are trained on; the order may hold no others.
        """
        return None

    def after_step(self, step: Step, batch: Batch) -> None:
        """Called behind every training batch, for state that moves with them. :attr:`stepped` says whether the
        optimiser has moved."""

    def validate_combination(self) -> list[str]:
        """What is wrong with this combination of strategy, losses and teacher; empty if nothing is."""
        return []

    def without_labels(self) -> list[str]:
        """A problem where no term of the loss learns from labels: networks that teach one another, or themselves, then
        agree on nothing."""
        if self.objective.learns_from_labels:
            return []
        if self.task.compared_with == "teacher":
            return [
                f"strategy: task={self.task.name} reads no labels, and networks that teach one another, or themselves, "
                "then agree on nothing; choose strategy=offline and a frozen teacher"
            ]
        others = ",".join(name for name in self.objective.terms if name != "ce")
        return [
            "loss: no term learns from the labels, and whoever teaches here knows nothing at first; for example "
            f"loss=[ce,{others}], with a weight of ce above 0"
        ]

    # -- what a strategy with more than the student and a frozen teacher says too --------------------------------------

    def taught_by(self, batch: Batch) -> Outputs | None:
        """What the losses' teacher says of a batch: here the frozen one. A strategy with a teacher that evolves says so
        here."""
        return None if self.teacher is None else self.teacher.teach(batch)

    def networks(self) -> dict[str, nn.Module]:
        """The networks that learn and could be kept, by name; the student first. They are submodules of the
        strategy."""
        return {"student": self.student}

    def key_of(self, network: str) -> str:
        """The key of the config that describes one of :meth:`networks`, for messages."""
        return network

    def answers(self) -> dict[str, Callable[[Batch], Outputs]]:
        """What is validated and reported, by name: each network, and whatever they say together (an ensemble)."""
        return {name: partial(self.task.network_outputs, network) for name, network in self.networks().items()}

    def after_validation(self, said: dict[str, Outputs], rows: Batch) -> None:
        """Called behind every validation batch with what each of :meth:`answers` said, aligned."""

    def parameter_groups(self) -> list[dict]:
        """Of the optimiser: ``params`` and, where a group has its own, the optimiser's options."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def readings(self) -> dict[str, float]:
        """Numbers of the strategy's own for a row of the curve, by name, the same in all processes."""
        return {}

    # -- what a strategy may call --------------------------------------------------------------------------------------

    def watch(self, taps: Iterable[str]) -> None:
        """Capture further features of the student, beside those that the losses ask for."""
        self._taps = Taps(self.student, {*self.objective.student_taps, *taps}, self.aliases)

    def observe(self, batch: Batch, view: int = 0) -> Outputs:
        """The student's Outputs on a view of the batch, with the features that the objective asks for."""
        return self.outputs_of(self.student, self._taps, batch, view)

    def outputs_of(self, network: nn.Module, taps: Taps, batch: Batch, view: int = 0) -> Outputs:
        """A network's Outputs on a view of the batch, with the features of its taps; on the second view too where a
        loss compares the two."""
        with taps as features:
            outputs = self.task.network_outputs(network, batch, view)
        second = self.outputs_of(network, taps, batch, 1) if view == 0 and self.objective.views == 2 else None
        return outputs.replace(features=features, second=second) if features or second is not None else outputs

    def teach(self, batch: Batch) -> Outputs | None:
        """The teacher's Outputs, detached; None while no loss asks for them. Its share of the step's time is kept."""
        if not self.objective.asks_teacher:
            return None
        with self._time.of_teacher():
            outputs = self.taught_by(batch)
            if outputs is None:
                return None
            if outputs.second is None and self.objective.views == 2:
                second = self.taught_by(batch.view(1))
                outputs = outputs if second is None else outputs.with_second(second)
        return outputs.detach()

    def compare(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> LossParts:
        """The objective on aligned rows; without a teacher, its terms that need none."""
        teacher = None if teacher is None else self.aligned(teacher, batch)
        return self.loss_of(self.aligned(student, batch), teacher, self.task.align_batch(batch))

    def aligned(self, outputs: Outputs, batch: Batch) -> Outputs:
        """Outputs whose logits are rows."""
        return outputs.map(lambda one: self.task.align(one, batch))

    def loss_of(
        self,
        student: Outputs,
        teacher: Outputs | Sequence[Outputs] | None,
        rows: Batch,
        objective: Objective | None = None,
    ) -> LossParts:
        """What a network learns, of rows.

        Args:
            student, rows: aligned.
            teacher: aligned; of several teachers the mean of what is learned from each; None: the terms that need none.
            objective: of a network that has its own; None: the student's.
        """
        objective = objective or self.objective
        if teacher is None or isinstance(teacher, Outputs):
            loss = objective(student, None if teacher is None else teacher.detach(), rows)
        else:
            loss = objective.labels(student, rows) + mean_of(
                [objective.taught(student, one.detach(), rows) for one in teacher]
            )
        if not isinstance(loss.total, Tensor) or (distributed() and not student.is_lazy):
            loss = loss + LossParts(ddp_anchor(student))
        return loss

    # -- Lightning -----------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser, with the learning-rate schedule where there is one, in the form that Lightning expects."""
        return self.optimization.configure(self, f"val/{self.task.headline.name}")

    def on_train_epoch_start(self) -> None:
        """Sets the networks to training mode and clears the sums of the epoch. A run that is resumed inside an epoch
        begins with it, too."""
        for network in self.networks().values():
            network.train()  # networks of other libraries may arrive in evaluation mode
        if self.row_is_due is None:
            self.begin_row()

    def begin_row(self) -> None:
        """Clears the sums of the row of the curve."""
        self._losses, self.epoch_values = MeanLosses(), {}
        self._time.clear()

    def inside_epoch(self) -> dict:
        """What a checkpoint inside an epoch must hold in addition to parameters and buffers: tensors and plain values.
        Empty where :meth:`on_train_epoch_start` restores the rest."""
        return {}

    def resume_inside_epoch(self, state: dict, random: dict[str, Tensor] | None) -> None:
        """Called before the first batch of a run that is resumed inside an epoch, after :meth:`on_train_epoch_start`.

        Args:
            state: from :meth:`inside_epoch`.
            random: the states of the random number generators (:mod:`kdlab.strategies.random_numbers`); None where
                the checkpoint has none of this process, whose numbers then begin as in the epoch's first batch.
        """
        self._random = random or {}

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Sets the objective's scheduled scalars. In the first batch of an epoch it also seeds torch's random numbers;
        in the first batch of a run that is resumed inside an epoch it restores them."""
        refuse_other_batches(batch, "train")
        # here and not at the start of the epoch: a resumed epoch must draw the same numbers
        if batch_index == 0 or self._random is not None:
            torch.manual_seed(derived_seed(self.seed, self.current_epoch, self.global_rank, _DROPOUT))
        if self._random is not None:
            random_numbers.restore(self._random)
            self._random = None
        self.steps_done = self.trainer.global_step
        self.epochs_done = self.current_epoch + batch_index / max(self.trainer.num_training_batches, 1)
        self.objective.advance(self.epochs_done, self.steps_done)
        self._time.begin(self.device, batch_index)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of the batch, a scalar, from :meth:`distill`. The loss and its parts join the epoch's sums, weighted
        by rows: a term that reads labels by the rows that have one."""
        self._step = self.distill(batch)
        batch = self._step.batch or batch
        loss, rows = torch.as_tensor(self._step.loss.total), float(batch.normaliser or len(batch))
        parts = {f"loss_{name}": value for name, value in self._step.loss.parts.items()}
        counts = {f"loss_{name}": count for name, count in self._step.loss.counts.items()}
        self._losses.add({"loss": loss.detach(), **parts}, rows, batch.rows, counts)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Sets :attr:`stepped` and calls :meth:`after_step`. Where a row of the curve ends with this batch, it logs the
        row's means."""
        self.stepped = self.trainer.global_step != self.steps_done
        self.after_step(self._step, batch)
        del self._step
        self._time.end()
        if self.row_is_due is not None and self.row_is_due():
            means = self._means()
            self._report(means, on_bar=False, logger=False)
            for logger in self.trainer.loggers:  # Lightning would log it only every log_every_n_steps
                logger.log_metrics({**means, "epoch": self.current_epoch}, step=self.trainer.global_step - 1)

    def on_train_epoch_end(self) -> None:
        """Where a row of the curve ends with the epoch: logs the row's mean losses over all processes, the scheduled
        scalars, and the teacher's share of the time in [0, 1]; then steps a schedule that waits for a metric."""
        if self.row_is_due is None:
            self._report(self._means(), on_bar=False)
            self.follow_metric()
        elif self.row_is_due():
            if "train/loss" not in self.epoch_values:  # the end was decided after the last batch
                self._report(self._means(), on_bar=False)
            self.follow_metric()

    def _means(self) -> dict[str, float]:
        """Of the row of the curve: see :meth:`on_train_epoch_end`."""
        losses = self._losses.means(partial(self.trainer.strategy.reduce, reduce_op="sum"), self.device)
        scalars = {name: float(value) for name, value in self.objective.scalars().items()}
        values = {**losses, **scalars, **self.readings(), "teacher_share": self._time.teacher_share}
        return {f"train/{name}": value for name, value in values.items()}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Nothing for a schedule that waits for a metric. Lightning steps it after the epoch's checkpoint is written,
        so a resumed run would lose that step: :meth:`follow_metric` steps it, before."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def follow_metric(self) -> None:
        """Steps a schedule that waits for a metric, where this row of the curve has a validation."""
        score = self.epoch_values.get(f"val/{self.task.headline.name}")  # None in a row without validation
        for config in self.trainer.lr_scheduler_configs:
            if score is not None and isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(score)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Updates the metrics of each of :meth:`answers`, then calls :meth:`after_validation`."""
        self.after_validation(*self._measure(batch, "validation"))

    def _measure(self, batch: Batch, split: str) -> tuple[dict[str, Outputs], Batch]:
        """What each of :meth:`answers` said of a batch, in the metrics, and its rows."""
        refuse_other_batches(batch, split)
        rows = self.task.align_batch(batch)
        said = {name: self.task.align(answer(batch), batch) for name, answer in self.answers().items()}
        taught = self._compared_with(batch, rows)
        for name, outputs in said.items():
            if name not in self._metrics:
                self._metrics[name] = self.task.metrics().to(self.device)
            logits, target = self.task.counting(outputs, rows)
            if len(logits):  # no token of the batch may have a label
                self._metrics[name].update(logits, target if taught is None else taught, **of_samples(outputs))
        return said, rows

    def _compared_with(self, batch: Batch, rows: Batch) -> Tensor | None:
        """The frozen teacher's rows, for a task whose metrics compare with them; None: they compare with labels."""
        if self.task.compared_with != "teacher" or self.teacher is None:
            return None
        return self.task.counting(self.task.align(self.teacher.teach(batch), batch), rows)[0]

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics of the kept network as ``val/METRIC``; where there are several answers, those of each as
        ``val/METRIC_NAME``."""
        found = self._measured()
        self.kept_on_validation = self.kept(found)
        self._report(_of_answers("val", found, self.kept_on_validation), on_bar=True)

    def _measured(self) -> dict[str, dict[str, float]]:
        """The metrics of each of :meth:`answers`, which begin again."""
        found = {name: self.task.computed(metrics) for name, metrics in self._metrics.items()}
        self._metrics.clear()  # not reset: Lightning tests in inference mode, whose tensors a training cannot change
        return found

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """For a Lightning Trainer of your own: updates the metrics of each of :meth:`answers`. ``kdlab train`` tests
        the kept checkpoints itself (:mod:`kdlab.training.results`)."""
        self._measure(batch, "test")

    def on_test_epoch_end(self) -> None:
        """Logs the metrics of the kept network as ``test/METRIC``; where there are several answers, those of each as
        ``test/METRIC_NAME``. The test never chooses the network: with ``keep=validation`` it is the one that the last
        validation chose, and without a validation in this process there is no ``test/METRIC``."""
        kept = self.kept_on_validation if self.keep == "validation" else self.keep
        self.log_dict(_of_answers("test", self._measured(), kept))

    def kept(self, scores: Mapping[str, Mapping[str, float]]) -> str:
        """The name of the network that is kept, given what each one's metrics are on validation (the student without
        any)."""
        if self.keep != "validation":
            return self.keep
        if not scores.get("student"):
            return "student"
        sign = 1 if self.task.headline.higher_is_better else -1
        return max(self.networks(), key=lambda name: sign * scores[name][self.task.headline.name])

    def _report(self, values: dict, on_bar: bool, logger: bool = True) -> None:
        self.epoch_values |= {name: float(value) for name, value in values.items()}
        self.log_dict(values, prog_bar=on_bar, logger=logger)


def refuse_other_batches(batch: object, split: str) -> None:
    """Raises InputError where a loader's batches are none of kdlab's."""
    if isinstance(batch, Batch):
        return
    what = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list, dict)) else type(batch).__name__
    raise InputError(
        f"{split}: a batch must be a kdlab.Batch, got a {what}. Give the Trainer kdlab.library.Batches(loader, "
        f'"{split}", "{split}"), which makes them of pairs (inputs, target) and of dicts'
    )


def _of_answers(split: str, found: dict[str, dict[str, float]], kept: str | None) -> dict[str, float]:
    """Metrics by name: of the kept network, and where there are several answers, of each."""
    values = {f"{split}/{key}": value for key, value in (found[kept].items() if kept is not None else ())}
    if len(found) > 1:
        values |= {f"{split}/{key}_{name}": value for name, scores in found.items() for key, value in scores.items()}
    return values
