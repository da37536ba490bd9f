"""``hydra.launcher.stack=true``: which jobs are trained together, and what a sweep says of it."""

import json
import re
from pathlib import Path

import pytest

from kdlab.runs.run import find_runs
from kdlab.sweep.job import TRAINED, Job, Need, Outcome
from kdlab.sweep.slots import Slots
from kdlab.sweep.stacking import MOST, likeness, saved_by_stacks, stack_jobs, why_alone
from kdlab.training import trial

COMMON = ["trainer.max_epochs=2", "data.fraction=0.2", "hydra.launcher.stack=true", "progress=lines"]


def config(runs="runs", **changes):
    made = {
        "name": "test",
        "paths": {"runs": str(runs)},
        "fresh": False,
        "seed": 1,
        "data": {"batch_size": 32, "mixing": None},
        "student": {"_target_": "kdlab.models.MLP"},
        "teacher": None,
        "loss": {"kd": {"_target_": "kdlab.losses.HintonKD", "weight": 0.9, "temperature": 4.0, "squared": True}},
        "strategy": {"_target_": "kdlab.strategies.Offline"},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.0, "eps": 1e-8},
        "scheduler": {"_target_": None},
        "trainer": {"_target_": "lightning.pytorch.Trainer", "max_epochs": 2, "precision": "32-true", "devices": 1},
        "callbacks": {},
        "logger": {"_target_": None},
        "compile": False,
    }
    for key, value in changes.items():
        group, _, name = key.partition("__")
        made[group] = {**made[group], name: value} if name else value
    return made


def jobs_of(configs, earlier=()):
    return [
        Job(f"job {number}", [], one, f"{number:016x}", Need(), list(earlier), number)
        for number, one in enumerate(configs, start=1)
    ]


@pytest.mark.parametrize(
    "changes, why",
    [
        ({}, ""),
        ({"strategy___target_": "kdlab.strategies.MutualLearning"}, "strategy=MutualLearning"),
        ({"strategy__generation": 2}, "strategy=Offline"),
        ({"trainer__gradient_clip_val": 1.0}, "trainer.gradient_clip_val=1.0"),
        ({"trainer__precision": "bf16-mixed"}, "trainer.precision=bf16-mixed"),
        ({"trainer__limit_train_batches": 3}, "trainer.limit_train_batches=3"),
        ({"trainer__every_n_train_steps": 5}, "trainer.every_n_train_steps=5"),
        ({"trainer__devices": 2}, "trainer.devices=2"),
        ({"trainer__max_epochs": None}, "trainer.max_epochs is not given"),
        ({"optimizer___target_": "torch.optim.RMSprop"}, "optimizer=torch.optim.RMSprop"),
        ({"scheduler___target_": "torch.optim.lr_scheduler.ReduceLROnPlateau"}, "scheduler=ReduceLROnPlateau"),
        ({"callbacks__ema": {"_target_": "x.Y"}}, "callbacks are used"),
        ({"logger___target_": "x.Y"}, "a logger is used"),
        ({"compile": True}, "compile=True"),
        ({"channels_last": True}, "channels_last=true"),
        ({"data__mixing": {"_target_": "kdlab.data.Mixup"}}, "data.mixing is used"),
    ],
)
def test_what_a_config_shows(changes, why):
    assert why_alone(config(**changes)) == why


def test_configs_are_alike_up_to_numbers():
    kd = config()["loss"]["kd"]
    first = likeness(config())
    alike = {"weight": 0.1, "temperature": 1}
    assert first == likeness(config(seed=7, loss={"kd": {**kd, **alike}}, optimizer__lr=1.0, optimizer__weight_decay=1))
    assert first == likeness(config(name="other", overrides=["seed=1"]))
    for other in (
        config(optimizer__eps=1e-6),
        config(data__batch_size=64),
        config(loss={"kd": {**kd, "squared": False}}),
        config(loss={"kd": kd, "ce": kd}),
        config(trainer__max_epochs=3),
        config(student__hidden=[8]),
    ):
        assert likeness(other) != first


def test_stacks_keep_all_workers_at_work_and_seeds_together(tmp_path):
    jobs = jobs_of([config(tmp_path, seed=seed, optimizer__lr=rate) for rate in (0.1, 0.2) for seed in (1, 2, 3, 4)])
    other = jobs_of([config(tmp_path, compile=True), config(tmp_path, student__hidden=[8])])
    lines = stack_jobs([*jobs, *other], Slots(workers=2).at_once)
    assert lines == [
        "not stacked: 1 job: compile=True",
        "not stacked: 1 job: no other job has the same data, teacher, networks and options but for numbers",
    ]
    assert [sorted(job.config["seed"] for job in one.stack) for one in (jobs[0], jobs[2])] == [
        [1, 1, 2, 2],
        [3, 3, 4, 4],
    ]
    assert jobs[0].stack is jobs[5].stack is not jobs[2].stack and other[0].stack == other[1].stack == []
    few = jobs_of([config(tmp_path, seed=seed) for seed in (1, 2, 3)])
    stack_jobs(few, Slots(workers=8).at_once)
    assert all(len(job.stack) == 3 for job in few), "a stack has two jobs at least"
    many = jobs_of([config(tmp_path, seed=seed) for seed in range(3 * MOST // 2)])
    stack_jobs(many, Slots(workers=1).at_once)
    assert {len(job.stack) for job in many} == {3 * MOST // 4}


def test_jobs_with_other_teachers_are_not_stacked(tmp_path):
    teachers = jobs_of([config(tmp_path, name="teachers"), config(tmp_path, name="others")])
    jobs = [job for one in teachers for job in jobs_of([config(tmp_path, seed=seed) for seed in (1, 2)], [one])]
    assert stack_jobs(jobs, Slots(workers=1).at_once) == []
    assert jobs[0].stack == jobs[:2] and jobs[2].stack == jobs[2:]


def test_how_many_jobs_run_at_once():
    assert Slots(cores=4).at_once(Need(threads=2)) == 2
    assert Slots(cores=4).at_once(Need(threads=8)) == 1
    assert Slots(cores=4, workers=3).at_once(Need(threads=2)) == 3
    assert Slots(cores=1, devices=[0, 1], jobs_per_device=2).at_once(Need(gpu=True)) == 4
    assert Slots(cores=1, workers=3, devices=[0, 1], jobs_per_device=2).at_once(Need(gpu=True)) == 3


def test_what_was_saved(tmp_path):
    jobs = jobs_of([config(tmp_path, seed=seed) for seed in (1, 2, 3)])
    stack_jobs(jobs[:2], Slots(workers=1).at_once)
    for job in jobs:
        job.run.path.mkdir(parents=True)
        record = {"hash": job.digest, "group": "g", "status": "finished", "stacked": {"runs": 2, "saved_seconds": 1.25}}
        (job.run.path / "run.json").write_text(json.dumps(record))
    outcomes = [Outcome(job, TRAINED, job.run.path) for job in (*jobs, jobs[0])]
    assert saved_by_stacks(outcomes) == "stacked: 2 runs; their steps alone would have taken about 2.5 s more"
    assert saved_by_stacks(outcomes[2:3]) == ""


def records():
    return {
        (run.config["seed"], run.config["loss"]["kd"]["temperature"]): run for run in find_runs(["runs/quickstart"])
    }


@pytest.mark.slow
def test_a_stacked_sweep(kdlab, workplace, monkeypatch):
    sweep = [*COMMON, 'teacher.overrides=["trainer.max_epochs=2"]', "hydra.launcher.workers=1", "seed=1,2"]
    code, out, err = kdlab("train", "-m", *sweep, "loss.kd.temperature=2,4", "optimizer.lr=0.01")
    assert code == 0, err
    found = records()
    assert len(found) == 4 and {run.status for run in found.values()} == {"finished"}
    told = [run.read().stacked for run in found.values()]
    assert out.index("trained teacher") < out.index("[1/4] trained")
    if any(told):  # the machine measured that it pays
        assert re.search(r"^stacked 4 runs: a step of all is \d+\.\d times faster than their steps alone$", out, re.M)
        assert re.search(r"^stacked: 4 runs; their steps alone would have taken about -?\d+\.\d s more$", out, re.M)
        assert {one["runs"] for one in told} == {4}
    else:
        assert "not stacked: 4 jobs (loss.kd.temperature=2 seed=1, …): a step of 4 runs together is only" in out
    code, out, err = kdlab("train", "-m", *sweep, "loss.kd.temperature=2,4,8", "optimizer.lr=0.01")
    assert code == 0 and out.count(" found ") == 5 and len(records()) == 6, out


@pytest.mark.slow
def test_jobs_that_cannot_be_stacked_are_trained_one_by_one(kdlab, workplace):
    code, out, err = kdlab(
        "train", "-m", *COMMON, "strategy=supervised", "student.dropout=0.1,0.2", "seed=1,2", "hydra.launcher.workers=1"
    )
    assert code == 0, err
    line = "not stacked: 2 jobs (seed=1 student.dropout=0.1, …): the network or a loss draws random numbers (dropout)"
    assert line in out or line.replace("seed=1 student.dropout=0.1", "student.dropout=0.1 seed=1") in out, out
    runs = list(find_runs(["runs/quickstart"]))
    assert len(runs) == 4 and all(run.finished and run.read().stacked is None for run in runs)


@pytest.mark.slow
def test_a_job_of_a_stack_that_fails(kdlab, workplace):
    """Its trial is left out: four small runs pay on any machine."""
    code, out, err = kdlab(
        "train",
        "-m",
        *COMMON,
        "strategy=supervised",
        "optimizer.lr=1e30,0.01,0.02,0.03",
        "optimizer=sgd",
        "hydra.launcher.workers=1",
    )
    assert code == 1, out
    assert out.count("] trained ") == 3 and "the training diverged in epoch" in out
    runs = {run.config["optimizer"]["lr"]: run for run in find_runs(["runs/quickstart"])}
    assert {rate: run.status for rate, run in runs.items()} == {
        1e30: "failed",
        0.01: "finished",
        0.02: "finished",
        0.03: "finished",
    }
    assert (runs[1e30].path / "error.txt").exists() and not (runs[0.01].path / "error.txt").exists()


def test_where_a_sweep_is_not_stacked(kdlab, workplace):
    assert trial.LEAST > 1
    code, _, err = kdlab("train", "-m", "hydra.launcher.stack=maybe", "seed=1,2")
    assert code == 2 and "hydra.launcher.stack must be true or false, got 'maybe'" in err
    code, _, err = kdlab("reproduce", "logit_methods", "hydra.launcher.stack=true")
    assert code == 2 and "hydra.launcher.stack: a study is reproduced by runs that are trained one by one" in err
    assert not Path("runs").exists()
