"""The random numbers of a process: seeded for the training, and afterwards as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed the random numbers of torch, Python and NumPy, which augmentations draw from."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextlib.contextmanager
def restored_random_numbers() -> Iterator[None]:
    """Restores the random numbers of torch (on the CPU), Python and NumPy afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def restored_generator(loader: object) -> Iterator[None]:
    """Restores a loader's own generator afterwards."""
    generator = getattr(loader, "generator", None)
    before = generator.get_state() if isinstance(generator, torch.Generator) else None
    try:
        yield
    finally:
        if before is not None and generator is not None:
            generator.set_state(before)
