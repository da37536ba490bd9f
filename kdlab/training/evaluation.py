"""Evaluates networks on a whole split, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.errors import EndedEarly, ended_early
from kdlab.outputs import Outputs
from kdlab.tasks import Task
from kdlab.tasks.base import of_samples


def all_batches(loader: Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a loader.

    Raises:
        EndedEarly: there are fewer than ``len(loader)``, so only a part of the split would be evaluated.
    """
    count = 0
    for batch in loader:
        count += 1
        yield batch
    if isinstance(loader, Sized) and count < len(loader):
        raise EndedEarly(short_of(getattr(loader, "split", "evaluation"), count, len(loader)))


def short_of(split: str, batches: int, planned: int | float) -> str:
    """The message where data ended early."""
    return (
        f"the {split} data ended after {batches} of {planned} batches; a loader must yield as many batches as its "
        "len() says, and its iterator must not end before that (StopIteration, return)"
    )


@dataclass
class Evaluated:
    """What is known of a network's answers on a split.

    Args:
        metrics: the task's metrics, by name.
        fidelity: how close the answers are to the teacher's; empty without one that knows the same classes.
        predictions: what the task stores (:meth:`kdlab.tasks.Task.predictions`), all rows, on the CPU, in the order of
            the loader.
    """

    metrics: dict[str, float]
    fidelity: dict[str, float]
    predictions: dict[str, Tensor]


@torch.no_grad()
def evaluate(
    answers: Mapping[str, Callable[[Batch], Outputs]],
    loader: Iterable[Batch],
    task: Task,
    device: str | torch.device = "cpu",
    teacher: Callable[[Batch], Outputs] | None = None,
    watchers: Sequence[Callable[[Tensor, Tensor], None]] = (),
) -> dict[str, Evaluated]:
    """Evaluate several networks by name, in one pass over the data. No more is kept of a batch than the task stores.

    Args:
        answers: name -> a network's Outputs for a batch.
        teacher: the answers with which those of the networks are compared. Without it, a task whose metrics compare
            with a teacher has none.
        watchers: called with the (logits, target) rows of each answer to each batch.

    Raises:
        EndedEarly: the loader yields fewer batches than its length, or an answer raises StopIteration.
        InputError: a label is not of the task.
    """
    metrics = {name: task.test_metrics().to(device) for name in answers}
    fidelity = {name: task.fidelity() for name in answers}
    stored: dict[str, dict[str, list[Tensor]]] = {name: {} for name in answers}
    for batch in all_batches(loader):
        if task.compared_with == "labels":
            task.check_labels(batch.labels)
        batch = batch.to(device)
        rows = task.align_batch(batch)
        taught = None if teacher is None else task.counting(_asked(teacher, batch, task), rows)[0]
        for name, answer in answers.items():
            outputs = _asked(answer, batch, task)
            logits, target = task.counting(outputs, rows)
            if len(logits):  # no token of the batch may have a label
                if task.compared_with == "labels":
                    metrics[name].update(logits, target, **of_samples(outputs))
                elif taught is not None:
                    metrics[name].update(logits, taught)
                if taught is not None and taught.shape == logits.shape:
                    fidelity[name].update(logits, taught)
                for watch in watchers:
                    watch(logits, target)
            for column, value in task.predictions(outputs, rows).items():
                stored[name].setdefault(column, []).append(value.cpu())
    return {
        name: Evaluated(
            task.computed(metrics[name]) if task.compared_with == "labels" or teacher is not None else {},
            task.computed(fidelity[name]) if any(one.update_called for one in fidelity[name].values()) else {},
            {column: torch.cat(values) for column, values in stored[name].items()},
        )
        for name in answers
    }


def _asked(answer: Callable[[Batch], Outputs], batch: Batch, task: Task) -> Outputs:
    try:
        return task.align(answer(batch), batch)
    except Exception as error:
        if ended := ended_early(error):
            raise EndedEarly(ended) from error
        raise


class Remembered:
    """A teacher's answers on a split, asked once if the task keeps logits: later passes over the same loader get the
    kept ones. Otherwise the teacher is asked in every pass.

    Args:
        answer: the teacher's Outputs for a batch.
        task: of the split.
    """

    def __init__(self, answer: Callable[[Batch], Outputs], task: Task):
        self.answer, self.task = answer, task
        self._kept: dict[tuple[int, int], Tensor] = {}

    def __call__(self, batch: Batch) -> Outputs:
        """The teacher's Outputs for a batch, with logits alone."""
        if not self.task.keeps_logits:
            return self.answer(batch)
        key = (int(batch.index[0]), len(batch))
        if key not in self._kept:
            self._kept[key] = self.answer(batch).logits.cpu()
        return Outputs(self._kept[key].to(batch.index.device))


def predict(
    answer: Callable[[Batch], Outputs], loader: Iterable[Batch], task: Task, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """What the task stores of one network's predictions: logits ``(N, C)``, targets ``(N, ...)`` and sample indices
    ``(N,)`` of all rows, on the CPU, in the order of the loader.

    Args:
        answer: a network's or teacher's Outputs for a batch.

    Raises:
        EndedEarly: the loader yields fewer batches than its length, or ``answer`` raises StopIteration.
    """
    return evaluate({"": answer}, loader, task, device)[""].predictions
