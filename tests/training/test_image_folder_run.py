"""Runs on images in class folders: workers, a kill in mid-epoch, and ranks leave the result as it is; to the bit on one
machine with one build."""

import os
import re
import signal

import pytest
import torch

import kdlab as package
from kdlab.runs.run import find_runs
from tests.data.images.pictures import folder_of_pictures

SMALL = [
    "data=image_folder",
    "data.folder=pictures",
    "data.classes=3",
    "data.size=8",
    "data.batch_size=8",
    "data.validation=0.25",
    "teacher=none",
    "strategy=supervised",
    "student=mlp",
    "student.hidden=[16]",
    "student.dropout=0.3",
    "trainer.max_epochs=3",
    "optimizer.lr=0.02",
    "trainer.accelerator=cpu",
    "progress=none",
]


@pytest.fixture
def pictures(workplace):
    folder_of_pictures(workplace / "pictures")
    return workplace


def _state(run):
    return {which: torch.load(run.checkpoint(which), weights_only=True)["state_dict"] for which in ("last", "best")}


def _same(run, other):
    ours, theirs = _state(run), _state(other)
    assert all(torch.equal(ours[which][name], theirs[which][name]) for which in ours for name in ours[which])
    assert run.metrics == other.metrics and torch.equal(run.predictions()["last"], other.predictions()["last"])


@pytest.mark.slow
def test_a_run_with_workers_is_the_run_without(pictures, kdlab):
    alone = package.train([*SMALL, "data.workers=0"])
    assert alone.metrics["test/accuracy"] > 0.6
    helped = package.train([*SMALL, "data.workers=2", "fresh=true", "name=helped"])
    assert helped.hash == alone.hash
    _same(alone, helped)
    code, out, err = kdlab("evaluate", alone.path, "data.workers=2", "--per-class")
    assert code == 0, err
    assert re.search(r"^class 0   blue   \d\.\d{4}  \(", out, re.M), out
    assert "12 samples" in out and f"accuracy  {alone.metrics['test/accuracy']:.4f}" in out


def _job(folder, killed):
    os.chdir(folder)
    from kdlab.strategies.base import Strategy

    step = Strategy.training_step

    def training_step(self, batch, index):
        if killed and self.current_epoch == 1 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, index)

    Strategy.training_step = training_step
    package.train([*SMALL, "data.workers=2"])


@pytest.mark.slow
def test_killed_and_started_again(pictures, forked):
    whole = package.train([*SMALL, "data.workers=0", "name=whole"])
    codes = []
    for killed in (True, False):
        process = forked(_job, pictures, killed)
        process.join()
        codes.append(process.exitcode)
    assert codes == [-signal.SIGKILL, 0]
    run = next(find_runs([pictures / "runs" / "quickstart"]))
    assert len(run.record["resumed"]) == 1
    _same(run, whole)


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(pictures, forked):
    from kdlab.runs.curve import MetricsFile

    common = [*SMALL, "student.dropout=0", "data.drop_last=false", "data.batch_size=10", "data.workers=1"]  # 10, 10, 7
    curves = [
        MetricsFile(package.train([*common, *extra]).metrics_file).load().rows
        for extra in (["name=one"], ["name=two", "trainer.devices=2", "trainer.strategy=ddp"])
    ]
    for one, two in zip(*curves, strict=True):
        for key in ("train/loss", "val/accuracy", "val/nll"):
            # a loss of 2e-4 is the small difference of large numbers: its last digits are the processor's
            assert two[key] == pytest.approx(one[key], rel=1e-5, abs=1e-6), key


def test_wrong_classes_and_shapes_are_refused(pictures, kdlab):
    code, out, err = kdlab("train", *SMALL, "data.classes=4", "data.shape=[3,9,9]")
    assert (
        code == 2
        and "data.classes=4, but the data have 3" in err
        and "data.shape=[3, 9, 9], but the data are [3, 8, 8]" in err
    )
    code, out, err = kdlab("train", "data=image_folder", "teacher=none", "strategy=supervised")
    assert code == 2 and "data.classes has no value" in err
    code, out, err = kdlab("train", *SMALL, "data.folder=nowhere")
    assert code == 2 and "no image folder nowhere" in err
    assert not (pictures / "runs").exists()
