"""The parts of this machine that a run uses: processes, a device to evaluate on, threads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from kdlab.errors import InputError


def world_size(config: dict) -> int:
    """How many processes share the run on this machine."""
    devices, accelerator = config["trainer"].get("devices", 1), config["trainer"].get("accelerator", "auto")
    gpus = torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else 0
    if devices in ("auto", -1, "-1"):
        return max(gpus, 1)
    try:
        return len(devices) if isinstance(devices, list) else int(devices)
    except (TypeError, ValueError) as error:
        raise InputError(f"trainer.devices must be a number, a list of devices or 'auto', got {devices!r}") from error


def evaluation_device(config: dict) -> torch.device:
    """The GPU where the run's accelerator allows one and torch finds it; otherwise the CPU."""
    gpu = config["trainer"].get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def check_for_gpus_quickly() -> None:
    """On a machine without a GPU, let torch look for one in the quick way.

    Adam looks for a GPU in every step. Lightning lets torch look through the driver's library (NVML), which does not
    occupy a GPU, but takes 0.1 ms where there is none.
    """
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Sets torch's number of threads inside the context, and restores it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
