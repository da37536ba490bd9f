"""The answers of trained networks on a whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.errors import EndedEarly, ended_early
from kdlab.outputs import Outputs
from kdlab.tasks import Task


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


def short_of(split: str, batches: int, planned: int) -> str:
    """The message where data ended early."""
    return (
        f"the {split} data ended after {batches} of {planned} batches; a loader must yield as many batches as its "
        "len() says, and its iterator must not end before that (StopIteration, return)"
    )


def predict(
    answer: Callable[[Batch], Outputs], loader: Iterable[Batch], task: Task, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """Logits ``(N, C)``, targets ``(N,)`` and sample indices ``(N,)`` of all rows, on the CPU, in the order of the
    loader.

    Args:
        answer: a network's or teacher's Outputs for a batch.

    Raises:
        EndedEarly: the loader yields fewer batches than its length, or ``answer`` raises StopIteration.
    """
    return predict_all({"": answer}, loader, task, device)[""]


@torch.no_grad()
def predict_all(
    answers: Mapping[str, Callable[[Batch], Outputs]],
    loader: Iterable[Batch],
    task: Task,
    device: str | torch.device = "cpu",
) -> dict[str, dict[str, Tensor]]:
    """The predictions of several networks by name, each as in :func:`predict`, from one pass over the data."""
    columns: dict[str, dict[str, list[Tensor]]] = {name: {"logits": [], "target": [], "index": []} for name in answers}
    for batch in all_batches(loader):
        batch = batch.to(device)
        rows = task.align_batch(batch)
        for name, answer in answers.items():
            try:
                logits = task.align(answer(batch), batch).logits.float()
            except Exception as error:
                if ended := ended_early(error):
                    raise EndedEarly(ended) from error
                raise
            for column, value in (("logits", logits), ("target", rows.target), ("index", rows.index)):
                columns[name][column].append(value.cpu())
    return {name: {column: torch.cat(values) for column, values in said.items()} for name, said in columns.items()}
