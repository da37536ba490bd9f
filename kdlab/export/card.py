"""The model card of a student."""

from __future__ import annotations

import json

from torch import nn

from kdlab.models.text import Normalise
from kdlab.runs.run import Run


def card(run: Run, which: str, network: nn.Module, kind: str) -> str:
    """The text of README.md: what the model is, from which run, teacher and data, and its scores on test.

    Args:
        which: the checkpoint.
        kind: the class of transformers that loads it.
    """
    record, config = run.read(), run.config
    end = "_best" if which == "best" else ""
    scores = {
        name.removeprefix("test/").removesuffix("_best"): value
        for name, value in run.metrics.items()
        if name.startswith("test/") and name.endswith("_best") == bool(end)
    }
    parameters = sum(value.numel() for value in network.parameters())
    teacher = (record.teacher.name if record.teacher else None) or "none"
    data = config["data"].get("name") or config["data"]["_target_"]
    lines = [
        "---",
        "library_name: transformers",
        "tags: [knowledge-distillation, kdlab]",
        "---",
        f"# {run.path.name}",
        "",
        "A student that was trained with kdlab.",
        "",
        "| | |",
        "| --- | --- |",
        f"| run | `{run.path.name}` ({run.hash}), checkpoint `{which}` |",
        f"| teacher | {teacher} |",
        f"| data | {data} |",
        f"| losses | {', '.join(config['loss'])} |",
        f"| parameters | {parameters:,} |",
        *(f"| test {name} | {value:.4f} |" for name, value in scores.items()),
        "",
        "```python",
        f"from transformers import {kind}",
        "",
        f'model = {kind}.from_pretrained("FOLDER")',
        "```",
        "",
        "The options of the run:",
        "",
        "```json",
        json.dumps(config.get("overrides") or [], ensure_ascii=False),
        "```",
    ]
    pooling = getattr(network, "pooling", None)
    if pooling is not None:
        kind_of_mean = (
            "the mean of the last hidden states over the mask" if pooling.kind == "mean" else "the first token"
        )
        scaled = ", divided by its length" if isinstance(getattr(network, "scaling", None), Normalise) else ""
        lines += ["", f"The vector of a text is {kind_of_mean}{scaled}."]
    return "\n".join(lines) + "\n"
