"""A full disk, killed writers, a cache that is removed in the middle of a sweep: a clear line, and never a wrong
answer. Damaged files are in test_store.py."""

import json
import os
import signal
import subprocess
import time

import lightning as L
import pytest
import torch
from torch import nn

from kdlab import train
from kdlab.cache import Cached, Contents, Store, fill
from kdlab.config.compose import compose
from kdlab.data import Augment, Digits
from kdlab.runs.run import Run
from kdlab.tasks import Classification
from kdlab.teachers import Frozen
from kdlab.training.ensure import ensure

TASK = Classification(classes=10)
CONTENTS = Contents({}, "w", {}, {}, "", "views", 1, 32, "cpu, 1 threads", torch.__version__)
EPOCHS = 12

#: as names are sorted
ORDER = sorted(range(EPOCHS), key=str)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def cached(folder):
    return Cached(lambda: Frozen(network(), TASK), Store.of(folder, "t", CONTENTS), False)


def digits():
    data = Digits(batch_size=32, validation=0.2, augment=Augment(flip=0.5))
    data.seed = 5
    data.setup()
    return data


def batches(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def right(teacher, data, epoch):
    """Whether every answer to an epoch is that of the live teacher."""
    live = Frozen(network(), TASK)
    return all(torch.equal(teacher.teach(one).logits, live.teach(one).logits) for one in batches(data, epoch))


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of a few kilobytes."""
    mounted = []

    def mount(folder, kilobytes):
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system (tmpfs) needs root, outside of a restricted container")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up(tmp_path, small_disk):
    """What was written before is right, nothing is left of the rest, and the teacher answers by itself."""
    data = digits()
    each = 1150 * (10 * 4 + 8) // 1024 + 4  # kilobytes of an epoch's file, in whole pages
    disk = small_disk(tmp_path / "small", 4 + int(3.5 * each))
    teacher = cached(disk)
    with pytest.raises(OSError, match="(?i)no space left"):
        fill(teacher, data, "train", epochs=EPOCHS, rows=32)
    kept = [slot for slot, _ in teacher.store.files()]
    assert kept == [f"train-e{epoch}-v0" for epoch in range(3)] and not list(disk.rglob("*.part"))
    again = cached(disk)
    assert all(right(again, data, epoch) for epoch in range(5)) and again.is_loaded
    only_kept = cached(disk)
    assert right(only_kept, data, 2) and not only_kept.is_loaded
    del again, only_kept  # they hold the files open
    next(iter(teacher.store.files().values())).unlink()
    assert fill(cached(disk), data, "train", epochs=1, rows=32).computed == 1, "there is room again"


def state(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def same(one, other):
    mine, theirs = state(one), state(other)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items()) and one.hash == other.hash


def test_a_run_on_a_full_disk_asks_its_teacher(workplace, taught, small_disk):
    """Its answers take 50.5 KB and their numbers 10.1 KB, and the disk of the cache has 64 KB: the check of the room
    passes, and the file does not fit beside that of validation."""
    teacher = ["teacher=run", f"teacher.run={taught.path}", "trainer.max_epochs=1", "progress=none"]
    small_disk(workplace / "runs" / ".cache", 64)
    lines = []
    run = ensure(compose([*teacher, "teacher.cache=fixed"]), lines.append)
    (line,) = [line for line in lines if "its answers are not kept, and it is asked in every step" in line]
    assert "cannot be written" in line and "o space left" in line and run.record["cache"]["computed"] == 0
    same(run, train([*teacher, "name=live"]))
    assert not list((workplace / "runs" / ".cache").rglob("*.part"))


def _fill(folder):
    torch.set_num_threads(1)
    fill(cached(folder), digits(), "train", epochs=EPOCHS, rows=32)


@pytest.mark.slow
def test_two_processes_write_and_one_is_killed(tmp_path, forked):
    """At ten moments: the other one finishes the work, and every answer is right."""
    data = digits()
    for moment in range(10):
        folder = tmp_path / str(moment)
        both = [forked(_fill, folder) for _ in range(2)]
        deadline = time.monotonic() + 60
        while len(list(folder.rglob("train-*.safetensors"))) < moment and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(0.0003 * moment)
        os.kill(both[0].pid, signal.SIGKILL)
        for process in both:
            process.join(60)
        assert both[1].exitcode == 0
        teacher = cached(folder)
        assert [slot for slot, _ in teacher.store.files()] == [f"train-e{epoch}-v0" for epoch in ORDER]
        assert all(right(teacher, data, epoch) for epoch in range(EPOCHS)) and not teacher.is_loaded
        assert not list(folder.rglob("*.part")), "the other one has removed what was left"


def test_two_processes_write_at_once(tmp_path, forked):
    both = [forked(_fill, tmp_path) for _ in range(2)]
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    data, teacher = digits(), cached(tmp_path)
    assert len(teacher.store.files()) == EPOCHS
    assert all(right(teacher, data, epoch) for epoch in range(EPOCHS)) and not teacher.is_loaded


class Removal(L.Callback):
    """Removes all kept answers in the middle of a training."""

    def on_train_epoch_start(self, trainer, module):
        """Before the second epoch."""
        if trainer.current_epoch == 1:
            subprocess.run("rm -rf runs/.cache/*", shell=True, check=True)


@pytest.mark.slow
def test_a_cache_that_is_removed_during_a_sweep(kdlab, workplace, taught):
    """Each run goes on with the live teacher, and the next one keeps the answers again."""
    sweep = [
        *("teacher=run", f"teacher.run={taught.path}", "trainer.max_epochs=3", "data.augment.flip=0.5"),
        *("loss.kd.temperature=2,4,8", f"+callbacks.removal._target_={__name__}.Removal", "progress=lines"),
    ]
    records = {}
    for name, mode in (("live", "live"), ("kept", "views")):
        code, out, err = kdlab("train", "-m", *sweep, f"teacher.cache={mode}", f"name={name}")
        assert code == 0, err
        paths = sorted((workplace / "runs" / name).glob("*/run.json"))
        records[name] = {json.loads(path.read_text())["hash"]: Run(path.parent) for path in paths}
    assert len(records["kept"]) == 3 and records["kept"].keys() == records["live"].keys()
    for digest, run in records["kept"].items():
        same(run, records["live"][digest])
    assert sum(run.record["cache"]["computed"] for run in records["kept"].values()) >= 6, (
        "asked again after the removal"
    )
