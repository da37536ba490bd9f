"""Batch: everything that is passed from the data to a strategy, and on to a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Count(NamedTuple):
    """How a batch's mean joins the mean over an epoch.

    Args:
        divisor: the number by which the batch's sum was divided.
        rows: how many rows the batch counts as.
    """

    divisor: float
    rows: float


@dataclass
class Batch:
    """One batch and its provenance.

    Args:
        inputs: the network's inputs, with first dimension B.
        target: the labels, ``(B,)`` for classifiers; after :meth:`kdlab.tasks.Task.align_batch` one label per row,
            ``(N,)``.
        index: number of each sample in its stored split, ``(B,)`` (after alignment ``(N,)``): tables and caches are
            keyed by it.
        mask: the positions of the inputs that are not padding, ``(B, T)``, for sequences; None if there is no padding.
        further_views: the same samples under further augmentations, for strategies and losses with several views: the
            inputs of the views 1, 2, …
        weights: the weight of each row, ``(N,)``; set by ``align_batch``.
        normaliser: the divisor of the weighted sum of this batch's rows. It is the number of rows that count in the
            whole optimiser step (all processes, all accumulated batches) divided by (processes x accumulated batches),
            because DDP averages gradients over processes and Lightning over accumulated batches. So the step's loss is
            the mean over rows, independent of how they are distributed. A step without rows (no token has a label)
            counts one, so its sum is 0. None: the sum of ``weights``.
        sample_normaliser, position_normaliser: the same for samples and for positions of the inputs, if rows are not
            samples: for losses with one value per sample or per position (:meth:`weighting`). None: the number of
            values that count.
        partner_target: if images are mixed (:mod:`kdlab.data.images.mixing`), the label of the image with which each
            one is mixed, ``(B,)``. ``target`` is the sample's own label.
        share: the share of the sample's own image in each mixed image, ``(B,)``; 1 for images that are not mixed. Like
            ``partner_target``, it is None if the data mix no images.
        rows: how many rows this batch counts as in means over an epoch; None: ``normaliser``. It is greater in a last
            step that has fewer batches than are accumulated: their sum is divided by as many as in every other step. It
            is 0 in a step without rows.
        labelled: which samples have a label, ``(B,)`` bool; None: all. The target of the others is 0 and means nothing.
        labelled_normaliser: as ``normaliser``, for the rows that have a label. At least one row is counted, so that a
            step without labels has a sum of 0.
        labelled_rows: as ``rows``, for the rows that have a label: 0 in a step without labels. None:
            ``labelled_normaliser``.
        teacher_inputs: the same samples as a frozen teacher with another tokenizer reads them; None: as the student
            reads them.
        split, epoch, view_number: provenance. Augmentation is a function of (seed, epoch, view, index), so they
            determine the exact pixels (before mixing). With ``data.replicas`` this is the epoch that is drawn.
    """

    inputs: Any
    target: Tensor | None
    index: Tensor
    mask: Tensor | None = None
    further_views: tuple[Any, ...] = ()
    weights: Tensor | None = None
    normaliser: float | None = None
    sample_normaliser: float | None = None
    position_normaliser: float | None = None
    partner_target: Tensor | None = None
    share: Tensor | None = None
    rows: float | None = None
    labelled: Tensor | None = None
    labelled_normaliser: float | None = None
    labelled_rows: float | None = None
    teacher_inputs: Any = None
    split: str = "train"
    epoch: int = 0
    view_number: int = 0

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> Tensor:
        """``target``, for what cannot do without. Raises ValueError if the data have no labels."""
        if self.target is None:
            raise ValueError("the batch has no labels; choose data with labels, or a loss that needs none")
        return self.target

    def replace(self, **changes: Any) -> Batch:
        """A copy with new values in the named fields; the other tensors are shared."""
        return replace(self, **changes)

    def view(self, number: int) -> Batch:
        """The batch with the inputs of a view; 0 is the batch itself.

        >>> import torch
        >>> batch = Batch(torch.zeros(2, 3), None, torch.arange(2),
        ...     further_views=(torch.ones(2, 3), torch.full((2, 3), 2.0)))
        >>> batch.view(2).inputs.unique(), batch.view(2).view_number, batch.view(2).further_views
        (tensor([2.]), 2, ())

        Raises:
            ValueError: there is no such view.
        """
        if number == 0:
            return self
        if not 0 < number <= len(self.further_views):
            last = len(self.further_views)
            raise ValueError(
                f"the batch has no view {number}, only {'view 0' if not last else f'the views 0 to {last}'}; a "
                "strategy and a loss say by their attribute `views` how many they need"
            )
        return replace(self, inputs=self.further_views[number - 1], further_views=(), view_number=number)

    def for_labels(self) -> Batch:
        """The batch as a loss on labels sees it: rows without a label have weight 0, and the normaliser and ``rows``
        count the others.

        >>> import torch
        >>> batch = Batch(None, torch.tensor([1, 0]), torch.arange(2), labelled=torch.tensor([True, False]),
        ...     normaliser=2.0, labelled_normaliser=1.0)
        >>> batch.for_labels().weighting("row", 2)
        (tensor([1., 0.]), 1.0)
        """
        if self.labelled is None:
            return self
        weights = self.labelled.float() if self.weights is None else self.weights * self.labelled
        return replace(
            self, weights=weights, normaliser=self.labelled_normaliser, rows=self.labelled_rows, labelled=None
        )

    @property
    def count(self) -> Count:
        """How the mean over this batch's rows joins the mean over an epoch.

        >>> import torch
        >>> Batch(None, None, torch.arange(2), normaliser=2.0, rows=4.0).count
        Count(divisor=2.0, rows=4.0)
        >>> Batch(None, None, torch.arange(2), weights=torch.tensor([1.0, 0.0])).count
        Count(divisor=1.0, rows=1.0)
        """
        divisor = self.normaliser
        if divisor is None:
            divisor = float(len(self) if self.weights is None else self.weights.sum())
        return Count(divisor, divisor if self.rows is None else self.rows)

    def for_teacher(self) -> Batch:
        """The batch as a frozen teacher reads it: with ``teacher_inputs`` and their mask, where there are any.

        >>> import torch
        >>> tokens = {"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
        >>> batch = Batch({"input_ids": torch.tensor([[3]])}, None, torch.arange(1), teacher_inputs=tokens)
        >>> batch.for_teacher().inputs["input_ids"].tolist(), batch.for_teacher().mask.tolist()
        ([[5, 6, 0]], [[1.0, 1.0, 0.0]])
        """
        if self.teacher_inputs is None:
            return self
        named = self.teacher_inputs if isinstance(self.teacher_inputs, Mapping) else {}
        mask = named.get("attention_mask")
        return replace(
            self,
            inputs=self.teacher_inputs,
            mask=None if mask is None else mask.float(),
            further_views=(self.teacher_inputs,) * len(self.further_views),
            teacher_inputs=None,
        )

    def part(self, start: int, stop: int) -> Batch:
        """The samples ``start`` to ``stop`` (exclusive) of a batch that is not aligned yet, in all its views. The
        normaliser stays that of the whole batch.

        >>> import torch
        >>> batch = Batch(torch.arange(8.0).view(4, 2), torch.tensor([5, 6, 7, 8]), torch.arange(4), normaliser=4.0)
        >>> half = batch.part(2, 4)
        >>> half.inputs.tolist(), half.target.tolist(), len(half), half.normaliser
        ([[4.0, 5.0], [6.0, 7.0]], [7, 8], 2, 4.0)

        Raises:
            ValueError: there are no such samples.
        """
        if not 0 <= start < stop <= len(self):
            raise ValueError(f"the batch has {len(self)} samples, and so no part from {start} to {stop}")
        return self._with_every_tensor(lambda tensor: tensor[start:stop])

    def take(self, places: Tensor) -> Batch:
        """The samples at these places of a batch that is not aligned yet, in all its views. The normalisers stay those
        of the whole batch.

        Args:
            places: numbers of samples in the batch ``(K,)``.

        >>> import torch
        >>> batch = Batch(torch.arange(8.0).view(4, 2), torch.tensor([5, 6, 7, 8]), torch.arange(4), normaliser=4.0)
        >>> some = batch.take(torch.tensor([3, 1]))
        >>> some.inputs.tolist(), some.target.tolist(), some.index.tolist(), some.normaliser
        ([[6.0, 7.0], [2.0, 3.0]], [8, 6], [3, 1], 4.0)
        """
        return self._with_every_tensor(lambda tensor: tensor[places])

    def rows_part(self, start: int, stop: int) -> Batch:
        """The rows ``start`` to ``stop`` (exclusive) of an aligned batch. The normalisers stay those of all rows.

        >>> import torch
        >>> rows = Batch(None, torch.tensor([5, 6, 7]), torch.tensor([0, 0, 1]), normaliser=3.0)
        >>> rows.rows_part(1, 3).target.tolist(), rows.rows_part(1, 3).normaliser
        ([6, 7], 3.0)
        """
        names = ("target", "index", "weights", "labelled", "partner_target", "share")
        parts: dict[str, Any] = {name: one[start:stop] for name in names if (one := getattr(self, name)) is not None}
        return replace(self, **parts)

    def weighting(self, per: str, values: int, mask: Tensor | None = None) -> tuple[Tensor | None, float | None]:
        """Weights and normaliser of a loss's values, for :func:`kdlab.functional.reduce`.

        Args:
            per: what has one value: ``row``; ``sample``; ``position`` of the inputs, ``(B, T)`` flattened; or the whole
                ``batch``, whose one value is not divided by anything.
            values: how many values the loss returned.
            mask: of the positions, if it is not the batch's own.

        >>> import torch
        >>> mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
        >>> rows = Batch(None, None, torch.arange(3), mask=mask, weights=torch.ones(3), normaliser=3.0,
        ...     sample_normaliser=2.0, position_normaliser=3.0)
        >>> rows.weighting("sample", 2), rows.weighting("position", 4)
        ((None, 2.0), (tensor([1., 1., 1., 0.]), 3.0))

        Raises:
            ValueError: there is no such ``per``.
        """
        if per == "row":
            return self.weights, self.normaliser
        if per == "sample":
            rows_are_samples = self.sample_normaliser is None and (self.weights is None or len(self.weights) == values)
            return (self.weights, self.normaliser) if rows_are_samples else (None, self.sample_normaliser)
        if per == "position":
            mask = self.mask if mask is None else mask
            return None if mask is None else mask.flatten().float(), self.position_normaliser
        if per == "batch":
            return None, None
        raise ValueError(f"per must be row, sample, position or batch, got {per!r}")

    def over_labels(self, values: Callable[[Tensor], Tensor]) -> Tensor:
        """``values`` for each row's label. For a mixed image, the sum over both labels, weighted by ``share``.

        Args:
            values: a function from class numbers ``(N,)`` to one value per row.
        """
        own = values(self.labels)
        if self.share is None:
            return own
        if self.partner_target is None:
            raise ValueError("the batch has share without partner_target; mixed images need both")
        return self.share * own + (1 - self.share) * values(self.partner_target)

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> Batch:
        """The batch with every tensor on ``device`` (Lightning calls this)."""
        return self._with_every_tensor(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _with_every_tensor(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(self, **{field.name: _changed(getattr(self, field.name), change) for field in fields(self)})


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A value with all its tensors changed, also inside collections."""
    if isinstance(value, Mapping):
        return {name: _changed(item, change) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_changed(item, change) for item in value)
    return change(value) if isinstance(value, Tensor) else value
