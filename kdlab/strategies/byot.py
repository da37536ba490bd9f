"""Be your own teacher: early exits of a network learn from its deepest classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.functional.rows import one_of
from kdlab.functional.sources import method, required_method
from kdlab.losses.base import Probe, not_negative
from kdlab.models.exits import Exit
from kdlab.models.taps import stage_taps
from kdlab.objective import LossParts
from kdlab.outputs import Outputs

from .base import Step, distributed
from .cohort import Once, combined, logits_only, picked
from .self_taught import SelfTaught


@method("strategy", required_method(functional.byot_feature).paper)
class OwnTeacher(SelfTaught):
    r"""Be your own teacher (BYOT). Each exit is a bottleneck and a classifier after an earlier stage. It learns with
    the objective from the labels and from the deepest classifier. No gradient flows from an exit into the deepest
    classifier, which learns from the labels alone. In addition, the exits' features are pulled towards the deepest
    feature,

    .. math:: L = w_d\,L_{labels}(z_d) + \sum_i \big[L_{labels}(z_i) + L_{taught}(z_i, z_d) + \beta\,\lVert f_i - f_d
    \rVert_2^2\big].

    Zhang et al. (2019), "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
    Distillation", https://arxiv.org/abs/1905.08094. The exits are validated and reported, and so is the ensemble, the
    mean of all probabilities. The run keeps the student, without exits. The strategy cannot be combined with another
    teacher or with losses on features.

    Args:
        exits: the student's taps that get an exit; None: all its stages (``stage1``, ``stage2``, …) except the last; if
            there is only one stage, this one.
        feature: the student's tap towards which the exits' features are pulled: its ``embedding``, or the map of its
            last stage.
        deepest_weight: w_d, a factor on the deepest classifier's terms. In the paper these have weight 1 and those of
            the exits 1 - alpha. The common re-implementation uses 1 - alpha for all of them.
        feature_weight: beta.
        positive_only: leave out the elements in which neither feature is above 0, as the common re-implementation does.
        feature_reduction: ``sum`` over the batch, as in the common re-implementation, or ``mean`` over its samples. The
            sum is over the batch of all processes; with gradient accumulation, each batch is summed separately. The
            mean depends on neither.
        base: as for :class:`Strategy`.

    Raises:
        InputError: the student has no stages or lacks a tap, or no bottleneck exists between the shapes.
    """

    def __init__(
        self,
        *,
        exits: Sequence[str] | None = None,
        feature: str = "embedding",
        deepest_weight: float = 1.0,
        feature_weight: float = 1e-6,
        positive_only: bool = True,
        feature_reduction: Literal["sum", "mean"] = "sum",
        **base: Any,
    ):
        super().__init__(**base)
        self.deepest_weight = not_negative("deepest_weight", deepest_weight)
        self.feature_weight, self.positive_only = not_negative("feature_weight", feature_weight), positive_only
        self.feature_reduction = one_of("feature_reduction", feature_reduction, ("sum", "mean"))
        self.feature = feature
        if isinstance(exits, str) or not isinstance(exits, (Sequence, type(None))):
            raise InputError(
                f"strategy.exits must be a list of the student's taps, for example [stage1,stage2], got {exits!r}"
            )
        taps = list(exits) if exits is not None else self._stages()
        if not taps or len(set(taps)) < len(taps):
            raise InputError(f"strategy.exits must name one or more taps of the student, each once, got {taps}")
        self._exit_taps = {f"exit{number}": tap for number, tap in enumerate(taps, start=1)}
        self.exits = nn.ModuleDict()
        self.watch([*taps, feature])

    def _stages(self) -> list[str]:
        stages = stage_taps(self.student, self.aliases)
        if not stages:
            raise InputError(
                f"strategy.exits: {type(self.student).__name__} has no taps stage1, stage2, …; name the taps that get "
                "an exit, for example strategy.exits=[layer1,layer2]"
            )
        return stages[:-1] or stages

    def attach(self, probe: Probe) -> None:
        """Builds an exit for each tap.

        Raises:
            InputError: the forward pass does not reach a tap, or no bottleneck exists between its shape and that of the
                deepest feature.
        """
        shapes = {tap: tuple(value.shape[1:]) for tap, value in probe.student.features.items()}
        for name, tap in self._exit_taps.items():
            missing = [one for one in (tap, self.feature) if one not in shapes]
            if missing:
                raise InputError(
                    f"tap '{missing[0]}': the student has this module, but does not call it in its forward pass"
                )
            try:
                made = Exit(shapes[tap], shapes[self.feature], probe.classes)
            except ValueError as error:
                raise InputError(f"strategy.exits: {tap}: {error}") from error
            self.exits[name] = made.to(probe.student.logits.device, probe.student.logits.dtype)

    def taught_by(self, batch: Batch) -> Outputs:
        """The student's own Outputs, from its deepest classifier, detached."""
        return self.observe(batch).detach()

    def answers(self) -> dict[str, Callable[[Batch], Outputs]]:
        """The student, each exit and their ensemble, all from one forward pass per batch."""
        once = Once(self._answer_all)
        return {name: picked(once, name) for name in ("student", *self.exits, *(["ensemble"] if self.exits else []))}

    def _answer_all(self, batch: Batch) -> dict[str, Outputs]:
        with self._taps as features:
            student = self.task.network_outputs(self.student, batch).replace(features=features)
        said = {
            "student": Outputs(student.logits),
            **{name: Outputs(self._exit(name, student)[0].logits) for name in self.exits},
        }
        return {
            **said,
            "ensemble": combined(list(said.values()), partial(functional.kdcl_mean, average=self.task.average)),
        }

    def _exit(self, name: str, student: Outputs) -> tuple[Outputs, Tensor]:
        """The Outputs of an exit, and its feature."""
        logits, feature = self.exits[name](student.features[self._exit_taps[name]])
        second = None if student.second is None else self._exit(name, student.second)[0]
        return Outputs(logits, mask=student.mask, second=second), feature

    def distill(self, batch: Batch) -> Step:
        """The sum of the losses of the deepest classifier and of all exits, from one forward pass."""
        student, rows = self.observe(batch), self.task.align_batch(batch)
        deepest = self.aligned(student, batch)
        loss, outputs = self.loss_of(deepest, None, rows).scaled(labels=self.deepest_weight), {"student": student}
        for name in self.exits:
            outputs[name], feature = self._exit(name, student)
            learned = self.loss_of(self.aligned(outputs[name], batch), deepest, rows)
            loss = loss + (learned + self._approach(feature, student.features[self.feature], batch)).named(name)
        return Step(loss, outputs)

    def _approach(self, feature: Tensor, deepest: Tensor, batch: Batch) -> LossParts:
        if self.feature_weight == 0:
            return LossParts()
        values = functional.byot_feature(feature, deepest, positive_only=self.positive_only)
        if self.feature_reduction == "mean":
            value = functional.reduce(values, normaliser=batch.normaliser)
        else:  # DDP takes the mean over processes
            value = values.sum() * (torch.distributed.get_world_size() if distributed() else 1)
        return LossParts(taught=self.feature_weight * value, parts={"feature": value.detach()})

    def validate_combination(self) -> list[str]:
        """The problems of :class:`SelfTaught`, and one for each term that reads features."""
        return [
            *super().validate_combination(),
            *logits_only(self, "an exit has no features except the one that strategy.feature names"),
        ]
