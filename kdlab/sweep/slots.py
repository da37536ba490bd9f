"""Slots: the machine's cores and GPUs, handed out to jobs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from .job import Need


@dataclass
class Grant:
    """What one job was given."""

    cores: int
    devices: list[int] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for its processes, so that the job sees only its own devices."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, self.devices))} if self.devices else {}


class Slots:
    """Cores and devices that are free. A job takes ``threads`` cores in each of its processes, and on GPUs one device
    for each.

    Args:
        cores: how many there are; None: as many as this process may use.
        workers: how many jobs may run in parallel; None: as many as cores and devices allow.
        devices: numbers of the GPUs that may be used.
        jobs_per_device: how many jobs share a GPU.
    """

    def __init__(
        self,
        cores: int | None = None,
        workers: int | None = None,
        devices: Sequence[int] = (),
        jobs_per_device: int = 1,
    ):
        self.cores = cores or available_cores()
        self.workers = workers
        self._free_cores = self.cores
        self._room = dict.fromkeys(devices, jobs_per_device)
        self._granted = 0

    def take(self, need: Need) -> Grant | None:
        """The resources that a job needs, or None while they are not free. A job that needs more cores than the machine
        has runs alone."""
        if self.workers is not None and self._granted >= self.workers:
            return None
        on_devices = need.gpu and bool(self._room)
        # with ``workers`` the user decides how many jobs the cores can run; jobs on a GPU mostly wait for it
        cores = 0 if self.workers is not None or on_devices else min(need.threads * need.world, self.cores)
        devices: list[int] = []
        if on_devices:
            # the emptiest first, so that jobs share a device only when each has one
            devices = sorted(sorted(self._room, key=lambda device: (-self._room[device], device))[: need.world])
            if any(self._room[device] < 1 for device in devices):
                return None
        if cores > self._free_cores:
            return None
        for device in devices:
            self._room[device] -= 1
        self._free_cores -= cores
        self._granted += 1
        return Grant(cores, devices)

    def at_once(self, need: Need) -> int:
        """How many jobs with this need run at the same time, if there are no others; at least 1."""
        limits = [] if self.workers is None else [self.workers]
        if need.gpu and self._room:
            limits.append(sum(self._room.values()) // need.world)
        elif self.workers is None:
            limits.append(self.cores // (need.threads * need.world))
        return max(min(limits), 1)

    def give(self, grant: Grant) -> None:
        """Release the resources of a job."""
        self._free_cores += grant.cores
        self._granted -= 1
        for device in grant.devices:
            self._room[device] += 1


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
