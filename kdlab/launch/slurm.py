"""What Slurm says of this process: by the variables of its environment."""

from __future__ import annotations

import os


def tasks() -> int:
    """In how many tasks srun has started this command; 1 outside of Slurm, and in a batch script, which srun did not
    start.

    ``SLURM_NTASKS`` says for how many tasks a job has room, whether they are started or not; it does not count.
    """
    if "SLURM_PROCID" not in os.environ:
        return 1
    return max(int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")), int(os.environ["SLURM_PROCID"]) + 1)


def task() -> dict[str, str | None] | None:
    """The job, the step and the task that this process is of; None outside of Slurm."""
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
    """Which other task of this process's own step has begun a run, by the run's record; None where none has."""
    theirs, ours = record.get("slurm"), task()
    if (
        not theirs
        or not ours
        or ours["step"] is None
        or [theirs.get(key) for key in ("job", "step")] != [ours["job"], ours["step"]]
    ):
        return None
    return theirs.get("task") if theirs.get("task") != ours["task"] else None
