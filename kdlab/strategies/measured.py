"""What is measured of the steps of a row of the curve: mean losses, and the time that the teacher takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from kdlab.batch import Count


class MeanLosses:
    """Means over rows, over all processes.

    >>> losses = MeanLosses()
    >>> losses.add({"loss": torch.tensor(1.0)}, rows=1)
    >>> losses.add({"loss": torch.tensor(4.0)}, rows=2)
    >>> losses.means(lambda value: value, "cpu")
    {'loss': 3.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor | float, float]] = {}

    def add(
        self,
        values: Mapping[str, Tensor | float],
        rows: float,
        counted: float | None = None,
        own: Mapping[str, Count] | None = None,
    ) -> None:
        """Add the means of a batch.

        Args:
            rows: the number by which their sums were divided.
            counted: how many rows the batch counts as; None: ``rows``.
            own: name -> both numbers, for means over other rows.

        >>> losses = MeanLosses()
        >>> for value, labelled in ((1.0, 3.0), (5.0, 1.0)):
        ...     losses.add({"ce": value, "kd": value}, rows=4, own={"ce": Count(labelled, labelled)})
        >>> losses.means(torch.as_tensor, "cpu")
        {'ce': 2.0, 'kd': 3.0}
        """
        usual = Count(rows, rows if counted is None else counted)
        for name, value in values.items():
            rows, counted = usual if own is None else own.get(name, usual)
            total, count = self._sums.get(name, (0.0, 0.0))
            # on a CPU numbers are cheaper to add than tensors; on a GPU a number would wait for it
            number = value.item() if isinstance(value, Tensor) and value.device.type == "cpu" else value
            # a step without rows has no part in the mean, also where a term on other values is not 0
            self._sums[name] = (total + number * (rows if counted else 0.0), count + counted)

    def means(self, summed: Callable[[Tensor], Tensor], device: torch.device | str) -> dict[str, float]:
        """The means by name. One over no rows is left out.

        Args:
            summed: the sum of a number over all processes.
            device: of the numbers that are summed.
        """
        found = {}
        for name, sums in sorted(self._sums.items()):
            total, count = (summed(torch.as_tensor(value, device=device)) for value in sums)
            if count != 0:
                found[name] = float(total / count)
        return found


class StepTime:
    """The seconds of training steps, and of the teacher in them. A GPU works in the background, and timing waits for
    it, so there only every 50th step is timed."""

    def __init__(self) -> None:
        self._device, self._timed, self._began = torch.device("cpu"), True, 0.0
        self.clear()

    def clear(self) -> None:
        """Begin to count from 0."""
        self._step = self._teacher = 0.0

    def begin(self, device: torch.device, batch_index: int) -> None:
        """A step begins."""
        self._device = device
        self._timed = device.type == "cpu" or batch_index % 50 == 0
        self._began = self._now()

    def end(self) -> None:
        """The step has ended."""
        if self._timed:
            self._step += self._now() - self._began

    @contextlib.contextmanager
    def of_teacher(self) -> Iterator[None]:
        """A context in which the teacher answers."""
        began = self._now()
        yield
        if self._timed:
            self._teacher += self._now() - began

    @property
    def teacher_share(self) -> float:
        """The teacher's share of the time, in [0, 1]."""
        return self._teacher / max(self._step, 1e-9)

    def _now(self) -> float:
        """Seconds, once all that was asked of a GPU is done (in timed steps)."""
        if self._timed and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
