"""The most memory that a training had in use."""

from __future__ import annotations

import contextlib
import sys

import torch

CUDA, PROCESS = "cuda", "process"


def whose(device: torch.device) -> str:
    """What :func:`peak` measures of a training on a device: ``cuda``, the tensors on that GPU (``torch.cuda.max_memory_allocated``), or
    ``process``, the resident size of the whole process, Python, torch and the data among it."""
    return CUDA if device.type == "cuda" else PROCESS


def begin(device: torch.device) -> None:
    """Count from here on. Only Linux lets a process forget its peak; elsewhere a process's is that since it began."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")         # proc(5): resets the peak resident size to the present one


def peak(device: torch.device) -> int | None:
    """Bytes; None where the system does not tell.

    >>> begin(torch.device("cpu"))
    >>> before = peak(torch.device("cpu"))
    >>> filled = torch.ones(50_000_000 // 4)
    >>> 40_000_000 < peak(torch.device("cpu")) - before < 60_000_000
    True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:         # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
