"""Collaborative online distillation: networks that learn at the same time from one soft target, which is computed from
all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

from kdlab import functional
from kdlab.batch import Batch
from kdlab.functional.rows import one_of
from kdlab.functional.sources import method, required_method
from kdlab.losses.base import not_negative
from kdlab.objective import LossParts
from kdlab.outputs import Outputs

from .base import Step
from .cohort import Cohort, Once, combined, logits_only

RULES = ("naive", "linear", "min_logit", "general", "mean")
#: the rules whose target depends on the labels of the batch
READING_LABELS = ("naive", "linear", "min_logit")


@method("strategy", required_method(functional.kdcl_min_logit).paper)
class Collaborative(Cohort):
    r"""KDCL: each of the M networks learns from the labels and from one common soft target,
    :math:`L_i = L_{labels} + L_{taught}(z_i, h(z_1, \ldots, z_M))`. Guo et al. (2020), "Online Knowledge Distillation
    via Collaborative Learning", section 3,
    https://openaccess.thecvf.com/content_CVPR_2020/html/Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html

    The rules h are functions: :func:`kdlab.functional.kdcl_naive`, :func:`kdcl_linear`, :func:`kdcl_min_logit`,
    :func:`weighted_target` with :func:`kdcl_general_weights`, and :func:`kdcl_mean`, which is not in the paper.
    ``naive`` and ``linear`` make one choice for all rows of a process's batch, or one per row with ``per_sample``. The
    networks' mean logits are reported as ``ensemble``.

    It cannot be combined with a further teacher or with losses on features. The rules that read the labels (``naive``,
    ``linear``, ``min_logit``) cannot be combined with mixed images.

    Args:
        rule: h.
        per_sample: for ``naive`` and ``linear``: whether to choose for each row.
        ridge: for ``general``: share of the mean diagonal that is added to the diagonal of the errors' correlation. The
            paper's formula has 0. But then networks that make nearly the same errors get large weights of opposite
            sign, and the target is useless.
        cohort: as for :class:`Cohort`; in the paper the ``views`` are ``different``.

    Raises:
        ValueError: the rule is unknown, or ``per_sample`` is given for a rule without a choice.
    """

    answers_may_be = ("classes",)

    shares: Tensor

    def __init__(
        self,
        *,
        rule: Literal["naive", "linear", "min_logit", "general", "mean"] = "min_logit",
        per_sample: bool = False,
        ridge: float = 0.1,
        **cohort: Any,
    ):
        super().__init__(**cohort)
        self._rule = one_of("rule", rule, RULES)
        if per_sample and rule not in ("naive", "linear"):
            raise ValueError(
                f"per_sample=true: the rule {rule} makes no choice between networks; use it with naive or linear"
            )
        self._per_sample, self._ridge = per_sample, not_negative("ridge", ridge)
        #: whether it can learn from mixed images, which have no single label
        self.mixing = self.unlabelled = rule not in READING_LABELS
        networks = len(self.networks())
        if rule == "general":
            #: the networks' weights, from the last validation
            self.register_buffer("shares", torch.full((networks,), 1 / networks))

    def distill(self, batch: Batch) -> Step:
        """The sum of the networks' losses, each to the labels and to the common soft target."""
        said = {name: self.aligned(outputs, batch) for name, outputs in self.observe_all(batch).items()}
        rows, loss = self.task.align_batch(batch), LossParts()
        target = combined(list(said.values()), self._made(rows)).detach()
        for name, outputs in said.items():
            loss = loss + self.loss_of(outputs, target, rows, self.objective_of(name)).named(name)
        return Step(loss, {**said, "target": target})

    def _made(self, rows: Batch) -> Callable[[Sequence[Tensor]], Tensor]:
        """The rule, applied to these rows."""

        def make(logits: Sequence[Tensor]) -> Tensor:
            if self._rule == "mean":
                return functional.kdcl_mean(logits)
            if self._rule == "min_logit":
                return functional.kdcl_min_logit(logits, rows.labels)
            if self._rule == "general":  # with the sum 1 also in half precision
                shares = functional.wide(self.shares)
                return functional.weighted_target(logits, shares / shares.sum())
            choose = functional.kdcl_naive if self._rule == "naive" else functional.kdcl_linear
            return choose(logits, rows.labels, per_sample=self._per_sample, mask=rows.weights)

        return make

    def answers(self) -> dict[str, Callable[[Batch], Outputs]]:
        """Each network, and ``ensemble``, the mean of their logits."""
        each = {name: Once(answer) for name, answer in super().answers().items()}
        return {
            **each,
            "ensemble": lambda batch: combined([answer(batch) for answer in each.values()], functional.kdcl_mean),
        }

    def on_validation_epoch_start(self) -> None:
        """Clears the sums for the correlation of the networks' errors."""
        networks = len(self.networks())
        self._errors = torch.zeros(networks, networks, device=self.device)
        self._counted = torch.zeros((), device=self.device)

    def after_validation(self, said: dict[str, Outputs], rows: Batch) -> None:
        """Adds the batch to the correlation of the networks' errors, for the rule ``general``. Rows of label -100 or
        weight 0 do not count."""
        if self._rule == "general":
            target = cast(Tensor, rows.target)
            counts = target != -100 if rows.weights is None else (target != -100) & (rows.weights != 0)
            logits = [said[name].logits for name in self.networks()]
            self._errors += counts.sum() * functional.error_correlation(logits, target, mask=counts)
            self._counted += counts.sum()

    def on_validation_epoch_end(self) -> None:
        """Computes the networks' shares in the next target, for the rule ``general``; then logs the metrics."""
        if self._rule == "general":
            errors, counted = (
                self.trainer.strategy.reduce(value, reduce_op="sum") for value in (self._errors, self._counted)
            )
            self.shares.copy_(functional.kdcl_general_weights(errors / counted, self._ridge))
        super().on_validation_epoch_end()

    def validate_combination(self) -> list[str]:
        """The problems of :class:`Cohort`, and one for each term that reads features."""
        return super().validate_combination() + logits_only(self, "the common soft target has no features")
