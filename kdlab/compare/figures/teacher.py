"""The gallery of soft targets: the probabilities of a run's own teacher, rebuilt by kdlab, for ten test images."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from kdlab.compare.collect import TEACHER
from kdlab.errors import InputError
from kdlab.normalisation import Normalisation
from kdlab.runs.run import Run

from .soft_targets import soft_targets
from .style import Drawing

IMAGES = 10
TEMPERATURE = 4.0


def soft_targets_of(rows):
    """Yield the gallery of soft targets for the first run in the ranking that has a teacher.

    Raises:
        InputError: no run has a teacher, or :func:`gallery` cannot draw it.
    """
    students = [run for group in rows.ranked if group.role != TEACHER for run in group.runs if run.read().teacher]
    if not students:
        raise InputError("no row has a run with a teacher")
    yield "soft_targets", gallery(students[0])


def gallery(run: Run, temperature: float | None = None) -> Drawing:
    """The teacher's probabilities for the first test image of every class, or of ten classes if there are more.

    Args:
        temperature: default: that of the run's ``kd`` term where it is a number, else 4.

    Raises:
        InputError: there is no teacher, or no single one for all terms; the teacher or the data are no longer
            available; or the data are no images.
    """
    from kdlab.config.references import Reference, teacher_reference
    from kdlab.launch.devices import threads
    from kdlab.tasks import task_of
    from kdlab.training.assemble import make_data, read_data
    from kdlab.training.teacher import teacher_of

    config = run.config
    data: Any = make_data(config["data"])
    read_data(data, config["data"], task_of(config))
    task = task_of(config, data.facts)
    teacher = teacher_of(run, data, task)
    if teacher is None or teacher.terms:
        raise InputError(f"{run.path} has no common teacher for all terms")
    if len(data.shape) != 3 or data.shape[0] not in (1, 3):
        raise InputError(f"inputs of shape {tuple(data.shape)} are no images")
    loader = data.test_dataloader()
    batch = loader.batch(_one_a_class(loader.target, data.classes))
    with threads(config["threads"]):
        logits = teacher.teach(batch).logits.float()
    temperature = temperature or _temperature(config)
    return soft_targets(
        _pixels(batch.inputs, data.normalisation),
        batch.target.tolist(),
        logits.numpy(),
        temperature,
        data.class_names,
        cast(Reference, teacher_reference(config)).name,
    )


def _one_a_class(target: torch.Tensor, classes: int) -> torch.Tensor:
    """The first row of every class; with many classes, of ten evenly spaced ones."""
    numbers = (
        range(classes)
        if classes <= IMAGES
        else [round(place * (classes - 1) / (IMAGES - 1)) for place in range(IMAGES)]
    )
    first = [(target == number).nonzero().flatten()[:1] for number in numbers]
    return torch.cat(first)


def _pixels(inputs: torch.Tensor, normalisation: Normalisation) -> np.ndarray:
    """Images in [0, 1], (K, H, W) or (K, H, W, 3), from normalised inputs (K, C, H, W)."""
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (normalisation.mean, normalisation.std))
    pixels = (inputs * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _temperature(config: dict) -> float:
    found = config["loss"].get("kd", {}).get("temperature")
    return float(found) if isinstance(found, (int, float)) else TEMPERATURE
