"""Slurm's view of this process, from environment variables."""

from __future__ import annotations

import os


def tasks() -> int:
    """The number of tasks in which srun has started this command; 1 outside Slurm and in a batch script, which srun did
    not start.

    ``SLURM_NTASKS`` is not used: it counts the tasks that a job has room for, started or not.
    """
    if "SLURM_PROCID" not in os.environ:
        return 1
    return max(int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")), int(os.environ["SLURM_PROCID"]) + 1)


def task() -> dict[str, str | None] | None:
    """Job, step and task of this process; None outside Slurm."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    job = "_".join(
        filter(
            None,
            [os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"]), os.environ.get("SLURM_ARRAY_TASK_ID")],
        )
    )
    return {"job": job, "step": os.environ.get("SLURM_STEP_ID"), "task": os.environ.get("SLURM_PROCID")}


def other_task(record: dict) -> str | None:
    """The other task of this process's step that has begun a run, from the run's record; None if there is none."""
    theirs, ours = record.get("slurm"), task()
    if (
        not theirs
        or not ours
        or ours["step"] is None
        or [theirs.get(key) for key in ("job", "step")] != [ours["job"], ours["step"]]
    ):
        return None
    return theirs.get("task") if theirs.get("task") != ours["task"] else None
