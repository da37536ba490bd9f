"""Peak memory of a training, and of a forward pass of a network."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdlab.models.calling import forward

CUDA, PROCESS = "cuda", "process"


def whose(device: torch.device) -> str:
    """What :func:`peak` measures for a device: ``cuda``: the tensors on this GPU (``torch.cuda.max_memory_allocated``),
    or ``process``: the resident size of the whole process, including Python, torch and the data."""
    return CUDA if device.type == "cuda" else PROCESS


def begin(device: torch.device) -> None:
    """Starts the measurement. Only Linux can reset a process's peak; on other systems the peak is that since the
    process started."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # proc(5): resets the peak resident size to the current one


def peak(device: torch.device) -> int | None:
    """The peak in bytes; None if the system does not report it.

    >>> begin(torch.device("cpu"))
    >>> filled = torch.ones(200_000_000 // 4)
    >>> peak(torch.device("cpu")) > 200_000_000
    True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # the peak of getrusage starts with that of the parent process
    with (
        contextlib.suppress(OSError),
        open("/proc/self/status") as file,
    ):
        if kilobytes := next((line.split()[1] for line in file if line.startswith("VmHWM")), None):
            return 1024 * int(kilobytes)
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def inference_bytes(network: nn.Module, inputs: Any) -> int:
    """The peak of the bytes of all tensors during a forward pass: weights and buffers, the inputs, and intermediate
    tensors while they are needed. The number is the same on every machine and device. Workspace inside operations (of a
    convolution) and the rest of the process are not counted.

    >>> network = nn.Sequential(nn.Linear(100, 50, bias=False), nn.ReLU(), nn.Linear(50, 10, bias=False))
    >>> weights, inputs, hidden = 4 * (100 * 50 + 50 * 10), 4 * 8 * 100, 4 * 8 * 50
    >>> # hidden before and after the ReLU
    >>> inference_bytes(network, torch.zeros(8, 100)), weights + inputs + 2 * hidden
    (28400, 28400)
    """
    with torch.no_grad():
        return peak_bytes(network, inputs, lambda: forward(network, inputs))


def peak_bytes(network: nn.Module, inputs: Any, call: Callable[[], object]) -> int:
    """As :func:`inference_bytes`, of any call of the network: for a generation, its keys and values count, too.

    Args:
        inputs: the tensors that are there before.
        call: what is measured.
    """
    with _Tensors() as tensors:
        tensors.count([*network.parameters(), *network.buffers(), *tree_leaves(inputs)])
        call()
    return tensors.most


def tensors_at_once(known: Iterable[object], run: Callable[[], object]) -> int:
    """The peak of the bytes of the tensors that a function creates. The number is the same on every machine and device,
    also on ``meta``.

    Args:
        known: tensors that were there before; they do not count.

    >>> given = torch.zeros(100)
    >>> tensors_at_once([given], lambda: (given + 1).sum()), 4 * 100 + 4
    (404, 404)
    """
    with _Tensors() as tensors:
        tensors.count(known)
        before = tensors.now
        run()
    return tensors.most - before


class _Tensors(TorchDispatchMode):
    """Tracks the tensors that operations create, and when they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now: int = 0
        self.most: int = 0
        self._known: set[int] = set()

    def count(self, values: Iterable[object]) -> None:
        """Counts storages that are not known yet; views of the same storage count once."""
        for storage in (value.untyped_storage() for value in values if isinstance(value, Tensor)):
            address, size = storage._cdata, storage.nbytes()
            if address not in self._known:
                self._known.add(address)
                self.now += size
                weakref.finalize(storage, self._gone, address, size).atexit = False
        self.most = max(self.most, self.now)

    def _gone(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        self.count(tree_leaves(made))
        return made
