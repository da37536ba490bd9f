"""What a trained network says of a whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.outputs import Outputs
from kdlab.tasks import Task


@torch.no_grad()
def predict(answer: Callable[[Batch], Outputs], loader: Iterable[Batch], task: Task, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Logits ``(N, C)``, targets ``(N,)`` and sample indices ``(N,)`` of all rows, on the CPU, in the order of the loader.

    Args:
        answer: a network's or teacher's Outputs for a batch.
    """
    columns: dict[str, list[Tensor]] = {"logits": [], "target": [], "index": []}
    for batch in loader:
        batch = batch.to(device)
        rows, outputs = task.align_batch(batch), task.align(answer(batch), batch)
        for name, value in (("logits", outputs.logits.float()), ("target", rows.target), ("index", rows.index)):
            columns[name].append(value.cpu())
    return {name: torch.cat(values) for name, values in columns.items()}
