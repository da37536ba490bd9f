"""Inside of Slurm: a run of one process is one, whatever the variables of its environment say; signals interrupt it
between two epochs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdlab import train
from kdlab.errors import InputError
from kdlab.launch import slurm
from kdlab.launch.ranks import refuse_other_launchers
from kdlab.runs.run import find_runs

ROOT = Path(__file__).parents[2]
SHORT = ["strategy=supervised", "trainer.max_epochs=2", "trainer.accelerator=cpu", "data.fraction=0.3", "progress=none"]
#: of the second task of `srun -n2`, which had no --ntasks-per-node
SECOND = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "node1",
}


def weights(run) -> dict:
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def same(one, other) -> bool:
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_second_of_two_independent_tasks_has_its_logger_and_its_bits(workplace):
    """A process of its own, since Lightning looks at the rank when it is imported. srun on PATH is no reason for a hint
    either."""
    tensorboard = pytest.importorskip("tensorboard")
    srun = workplace / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    arguments = [*SHORT, "seed=2", *(["logger=tensorboard"] if tensorboard else [])]
    for name, variables in (("alone", {}), ("task", SECOND), ("ranked", {"LOCAL_RANK": "1", "RANK": "1"})):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
        done = subprocess.run(
            [sys.executable, "-c", "from kdlab.cli.main import script; script()", "train", *arguments, f"name={name}"],
            capture_output=True,
            text=True,
            env={
                **environment,
                **variables,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "PATH": f"{srun.parent}{os.pathsep}{os.environ['PATH']}",
            },
        )
        assert done.returncode == 0 and "srun" not in done.stdout + done.stderr, done.stderr
        (run,) = find_runs([f"runs/{name}"])
        assert list(run.path.glob("tensorboard/events*")), "the logger has written nothing"
    alone, task, ranked = (next(find_runs([f"runs/{name}"])) for name in ("alone", "task", "ranked"))
    assert same(alone, task) and same(alone, ranked) and alone.metrics == task.metrics
    assert alone.record["slurm"] is None and task.record["slurm"] == {"job": "12", "step": "0", "task": "1"}


def _interrupted(folder, arguments, sent, variables, batch):
    """Runs a command line that sends itself a signal at a batch of the first epoch."""
    os.chdir(folder)
    os.environ.update(variables)
    from kdlab.cli.main import main
    from kdlab.strategies.base import Strategy

    step = Strategy.training_step

    def training_step(self, data, index):
        if index == batch:
            os.kill(os.getpid(), sent)
        return step(self, data, index)

    Strategy.training_step = training_step
    raise SystemExit(main(["train", *arguments]))


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_in_the_first_epoch_and_the_same_command_again_is_the_undisturbed_run(
    workplace, forked, kdlab, monkeypatch, sent
):
    first = {
        **SECOND,
        "SLURM_NTASKS": "1",
        "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NTASKS_PER_NODE": "1",
    }
    process = forked(_interrupted, workplace, SHORT, sent, first, 3)
    process.join(timeout=120)
    (run,) = find_runs(["runs"])
    assert process.exitcode == 130 and run.status == "interrupted"
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.yaml",
        "run.json",
    ], "something was saved in the middle of the epoch"
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert kdlab("train", *SHORT)[0] == 0
    assert same(run, train([*SHORT, "paths.runs=undisturbed"]))


def test_what_lightning_saved_in_the_middle_of_an_epoch_is_not_resumed(workplace, forked):
    """By a kdlab that let it. It would go before everything else."""
    process = forked(_interrupted, workplace, SHORT, signal.SIGTERM, {}, 3)
    process.join(timeout=120)
    (run,) = find_runs(["runs"])
    (run.path / "hpc_ckpt_1.ckpt").write_bytes(b"no checkpoint at all")
    assert train(SHORT).finished and not list(run.path.glob("hpc_ckpt*"))


def test_tasks(monkeypatch):
    for name in SECOND:
        monkeypatch.delenv(name, raising=False)
    assert slurm.tasks() == 1 and slurm.task() is None
    monkeypatch.setenv("SLURM_NTASKS", "4")  # room for four, in a batch script: srun has started nothing
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert slurm.tasks() == 1
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert slurm.tasks() == 4
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.setenv("SLURM_JOB_ID", "14")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "13")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert slurm.tasks() == 8 and slurm.task() == {"job": "13_1", "step": None, "task": "3"}


def test_other_task(monkeypatch):
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    record = {"slurm": {"job": "12", "step": "0", "task": "0"}}
    assert slurm.other_task(record) == "0"
    assert slurm.other_task({"slurm": {"job": "12", "step": "1", "task": "0"}}) is None  # another srun of the same job
    assert slurm.other_task({"slurm": {"job": "12", "step": "0", "task": "1"}}) is None  # this one
    assert slurm.other_task({"slurm": None}) is None and slurm.other_task({}) is None
    monkeypatch.delenv("SLURM_STEP_ID")
    assert slurm.other_task({"slurm": {"job": "12", "step": None, "task": "0"}}) is None  # a batch script


def test_a_run_of_several_processes_in_several_tasks_is_refused(monkeypatch):
    config = {"trainer": {"devices": 2, "accelerator": "cpu"}, "threads": 3}
    refuse_other_launchers(config)
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError,
        match=r"in 2 tasks, and each of them would train .* 2 processes .*srun --nodes=1 --ntasks=1 --cpus-per-task=6 "
        r"kdlab",
    ):
        refuse_other_launchers(config)
    refuse_other_launchers({**config, "trainer": {"devices": 1, "accelerator": "cpu"}})  # independent runs
    with pytest.raises(InputError, match="trainer.num_nodes=2: kdlab trains a run on one machine"):
        refuse_other_launchers({**config, "trainer": {"devices": 1, "num_nodes": 2}})


@pytest.mark.parametrize("name, value", [("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "2")])
def test_torchrun_is_refused(kdlab, workplace, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, out, err = kdlab("train", *SHORT)
    assert code == 2 and "started by torchrun or the like" in err and not (workplace / "runs").exists()


def test_the_same_run_in_two_tasks_is_refused_in_the_second(kdlab, workplace, forked, monkeypatch):
    first = forked(_hold, workplace, {**SECOND, "SLURM_PROCID": "0"})
    while not list(workplace.glob("runs/*/*/run.json")) and first.is_alive():
        time.sleep(0.02)
    for key, value in SECOND.items():
        monkeypatch.setenv(key, value)
    code, out, err = kdlab("train", *SHORT, "trainer.max_epochs=3")
    assert (
        code == 2
        and "in 2 tasks, and task 0 trains this very run" in err
        and "sh -c 'kdlab train seed=$SLURM_PROCID'" in err
    )
    (workplace / "go").touch()
    first.join(timeout=60)
    (path,) = workplace.glob("runs/*/*/run.json")
    assert first.exitcode == 0 and json.loads(path.read_text())["status"] == "finished"


def _hold(folder, variables):
    """Trains until the test says that it may end."""
    os.chdir(folder)
    os.environ.update(variables)
    from kdlab.strategies.base import Strategy

    step = Strategy.training_step

    def training_step(self, data, index):
        while not Path("go").exists():
            time.sleep(0.02)
        return step(self, data, index)

    Strategy.training_step = training_step
    train([*SHORT, "trainer.max_epochs=3"])
