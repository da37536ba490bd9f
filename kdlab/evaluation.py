"""What a trained network says of a whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.outputs import Outputs
from kdlab.tasks import Task


def predict(answer: Callable[[Batch], Outputs], loader: Iterable[Batch], task: Task, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Logits ``(N, C)``, targets ``(N,)`` and sample indices ``(N,)`` of all rows, on the CPU, in the order of the loader.

    Args:
        answer: a network's or teacher's Outputs for a batch.
    """
    return predict_all({"": answer}, loader, task, device)[""]


@torch.no_grad()
def predict_all(answers: Mapping[str, Callable[[Batch], Outputs]], loader: Iterable[Batch], task: Task,
                device: str | torch.device = "cpu") -> dict[str, dict[str, Tensor]]:
    """What several say, by name, each as :func:`predict` has it, from one pass over the data."""
    columns: dict[str, dict[str, list[Tensor]]] = {name: {"logits": [], "target": [], "index": []} for name in answers}
    for batch in loader:
        batch = batch.to(device)
        rows = task.align_batch(batch)
        for name, answer in answers.items():
            logits = task.align(answer(batch), batch).logits.float()
            for column, value in (("logits", logits), ("target", rows.target), ("index", rows.index)):
                columns[name][column].append(value.cpu())
    return {name: {column: torch.cat(values) for column, values in said.items()} for name, said in columns.items()}
