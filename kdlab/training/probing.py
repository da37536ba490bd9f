"""Probes of networks whose answers are vectors: which labels can be read from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.data import Data
from kdlab.errors import InputError
from kdlab.measure.probes import knn_accuracy, linear_probe_accuracy
from kdlab.outputs import Outputs

from .evaluation import all_batches


@torch.no_grad()
def vectors_of(
    answer: Callable[[Batch], Outputs],
    batches: Iterable[Batch],
    count: int | None = None,
    labelled: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Vectors ``(N, D)`` and class numbers ``(N,)`` of the samples that have a label.

    Args:
        answer: a network's Outputs for a batch.
        count: only the first so many samples; None: all.
        labelled: which stored samples have a label that may be read, bool; None: all.

    Raises:
        InputError: the data have no labels, or other labels than one class a sample.
    """
    vectors, targets = [], []
    for batch in all_batches(batches):
        target = batch.target
        if target is None:
            raise InputError(
                "evaluate: --probe needs labels, and these data have none; name their column, for example "
                "data.label=label"
            )
        if target.dim() != 1 or target.is_floating_point():
            raise InputError(
                f"evaluate: --probe needs one class a sample, and the labels have shape {tuple(target.shape)}"
            )
        if labelled is not None:
            target = target.where(labelled.to(target.device)[batch.index], torch.full_like(target, -1))
        vectors.append(answer(batch).logits.float().cpu())
        targets.append(target.cpu())
    found, target = torch.cat(vectors)[:count], torch.cat(targets)[:count]
    return found[target >= 0], target[target >= 0]


def probe(answer: Callable[[Batch], Outputs], data: Data) -> dict[str, float]:
    """``knn_accuracy`` (10 neighbours by cosine) and ``linear_probe_accuracy`` on test, from the labels of the training
    samples (with ``data.labelled`` of so many), without augmentation.

    Args:
        answer: a network's Outputs for a batch.
        data: read.

    Raises:
        InputError: the data have no classes, or one class only.
    """
    plain = copy.copy(data)
    plain.augment = None
    batches = plain.in_order("train", rows=data.evaluation_batch_size)
    train = vectors_of(answer, batches, len(data.part("train")), data.labelled_samples())
    test = vectors_of(answer, data.test_dataloader())
    if len(train[1].unique()) < 2 or not len(test[1]):
        raise InputError("evaluate: --probe needs labels of two classes or more in train, and labels in test")
    return {one.__name__: one(*train, *test) for one in (knn_accuracy, linear_probe_accuracy)}
