"""Runs that read their teacher's answers are the runs that ask it, bit for bit."""

import csv
import json
import os
import signal
import time

import pytest
import torch

from kdlab import train
from kdlab.cache import Cached
from kdlab.config.compose import compose
from kdlab.data import Augment, Digits
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash
from kdlab.training.assemble import assembled
from kdlab.training.caching import Caching, sharing, unrepeated

DRAWN = ["data.augment.crop_padding=1", "data.augment.flip=0.5"]
SHORT = ["trainer.max_epochs=2", "progress=none", 'teacher.overrides=["trainer.max_epochs=5"]']
HERE = ["paths.runs=runs"]


def weights(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def same(one, other):
    mine, theirs = weights(one), weights(other)
    assert set(mine) == set(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)
    timed = ("seconds", "train/teacher_share")
    curves = [
        [
            {key: value for key, value in row.items() if key not in timed}
            for row in csv.DictReader(open(run.metrics_file))
        ]
        for run in (one, other)
    ]
    assert curves[0] == curves[1]
    assert one.record["metrics"] == other.record["metrics"]
    assert {**one.record["teacher"], "runs": 0} == {**other.record["teacher"], "runs": 0}
    assert one.hash == other.hash


CASES = {
    "drawn": (["teacher.cache=views", *DRAWN], []),
    "fixed": (["teacher.cache=fixed"], []),
    "two steps a batch": (["teacher.cache=views", *DRAWN, "trainer.accumulate_grad_batches=2"], []),
    "steps": (["teacher.cache=views", *DRAWN, "trainer.max_steps=50", "trainer.max_epochs=null"], []),
    "other seed": (["teacher.cache=views", *DRAWN, "data.augment_seed=9"], []),
    "replicas": (["teacher.cache=replicas", *DRAWN, "data.replicas=1"], []),
    "ensemble": (["teacher=ensemble", "teacher.cache=fixed"], ["ensemble"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_a_run_with_kept_answers_is_the_live_run(workplace, case):
    overrides, _ = CASES[case]
    short = SHORT[:2] if case == "ensemble" else SHORT
    live = [text for text in overrides if not text.startswith("teacher.cache")]
    first = train([*short, *live, "name=live", "teacher.cache=live"])
    second = train([*short, *overrides, "name=kept"])
    third = train([*short, *overrides, "name=again"])
    same(first, second)
    same(first, third)
    members = 3 if case == "ensemble" else 1
    assert second.record["cache"]["passes"] == 2 * members and third.record["cache"]["computed"] == 0
    assert second.record["cache"]["computed"] == (2 if "views" in overrides[0] else 1) * members
    assert third.record["teacher_share"] < first.record["teacher_share"] and first.record["cache"] is None


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["ce,kd,hint", "ce,kd,simkd", "ce,srrl", "ce,ofd", "ce,sp,crd"])
def test_features_and_heads(workplace, loss):
    """SimKD, SRRL and OFD read the teacher's weights, so they load it; the others never do."""
    pair = ["student=cnn", "teacher.student=cnn_wide", f"loss=[{loss}]", *DRAWN]
    first = train([*SHORT, *pair, "name=live", "teacher.cache=live"])
    second = train([*SHORT, *pair, "name=kept", "teacher.cache=views"])
    same(first, second)
    parts = assembled(compose([*SHORT, *pair, "name=kept", "teacher.cache=views"]))
    assert isinstance(parts.teacher, Cached)
    assert parts.teacher.is_loaded == (loss in ("ce,kd,simkd", "ce,srrl", "ce,ofd"))


def test_one_epoch_of_kept_answers(workplace):
    """The whole way in the default suite: drawn images, a cache of its own, the live run's weights."""
    short = ["trainer.max_epochs=1", *SHORT[1:], *DRAWN]
    first = train([*short, "name=live", "teacher.cache=live"])
    second = train([*short, "name=kept", "teacher.cache=views"])
    same(first, second)
    assert second.record["cache"]["passes"] == second.record["cache"]["computed"] == 1


def test_replicas_are_live_training_on_the_same_images(workplace):
    """Three epochs, two sets of views: two passes of the teacher, which serve a run of other replicas, too."""
    short = ["trainer.max_epochs=3", SHORT[1], 'teacher.overrides=["trainer.max_epochs=2"]', *DRAWN]
    two = [*short, "data.replicas=2"]
    live = train([*two, "name=live", "teacher.cache=live"])
    kept = train([*two, "name=kept", "teacher.cache=replicas"])
    same(live, kept)
    assert {key: kept.record["cache"][key] for key in ("mode", "passes", "computed")} == {
        "mode": "replicas",
        "passes": 3,
        "computed": 2,
    }
    other = train([*short, "data.replicas=1", "name=kept", "teacher.cache=replicas"])
    assert other.record["cache"]["computed"] == 0, "its set of views is the first of the two"
    every = train([*short, "name=live", "teacher.cache=live"])
    assert len({one.hash for one in (live, other, every)}) == 3
    assert not any(torch.equal(*pair) for pair in zip(weights(live).values(), weights(every).values()))


def test_a_training_too_short_to_repeat_a_view_says_so():
    data = Digits(augment=Augment(flip=0.5), replicas=3)
    assert unrepeated(data, 4) == unrepeated(data, None) == unrepeated(Digits(), 1) == []
    assert unrepeated(data, 3) == [
        "data.replicas=3: warning: the training has 3 epochs, so no set of views is used twice; choose fewer replicas "
        "or more epochs"
    ]
    drawn = [Caching({}, data, "replicas", epochs=epochs).drawn_epochs for epochs in (2, 3, 9, None)]
    assert drawn == [2, 3, 3, 3] and Caching({}, Digits(), "fixed", epochs=7).drawn_epochs == 7


def test_a_mode_is_no_part_of_the_identity():
    hashes = {run_hash(compose([f"teacher.cache={mode}"])) for mode in ("auto", "live", "fixed", "views", "replicas")}
    assert len(hashes) == 1
    assert run_hash(compose(["data.augment_seed=1"])) not in hashes and run_hash(compose()) in hashes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher.cache=fixed", *DRAWN], "data.augment draws other images in every epoch; teacher.cache=views keeps"),
        (["teacher.cache=views", "mixing=mixup"], "data.mixing mixes the images of a batch"),
        (["teacher.cache=replicas", *DRAWN], "data.replicas says how many sets of views.* data.replicas=4"),
        (["teacher.cache=replicas"], "there is one view of each sample; teacher.cache=fixed keeps its answer"),
        (["data.replicas=2", *DRAWN, "mixing=mixup"], "replicas=2 uses the same views again, and mixing makes other"),
        (["teacher.cache=views", "trainer.precision=bf16-mixed"], "only answers in full precision are kept"),
        (
            ["teacher.cache=fixd"],
            r"must be one of auto, live, fixed, views, replicas, got 'fixd'; did you mean 'fixed'\?",
        ),
        (
            ["teacher.cache=views", "+teacher.cache_gb=0"],
            "teacher.cache_gb must be a number of gigabytes greater than 0",
        ),
        (["teacher.cache=views", "+teacher.cache_gb=0.00001"], r"\+teacher.cache_gb=1 allows that"),
    ],
)
def test_what_cannot_be_exact_or_has_no_room_is_refused(workplace, overrides, message):
    with pytest.raises(InputError, match=message):
        train([*SHORT, *overrides])
    assert not (workplace / "runs" / "quickstart").exists()


@pytest.mark.parametrize("key", ["teacher.cache", "teacher.cache_gb"])
def test_a_run_without_a_teacher_has_no_answers(key):
    message = f"^{key}: this run has no teacher, so there are no answers to keep; leave {key}=… out$"
    with pytest.raises(InputError, match=message):
        compose(["teacher=none", "strategy=supervised", f"{key}=views"])


@pytest.mark.parametrize(
    ("overrides", "mode", "why"),
    [
        ([], "fixed", ""),
        (DRAWN, "views", ""),
        ([*DRAWN, "data.replicas=2"], "replicas", ""),
        (["teacher.cache=live"], "live", ""),
        (["teacher=none", "strategy=supervised"], "live", ""),
        (["loss=[ce]"], "live", ""),
        (["mixing=mixup"], "live", "data.mixing mixes"),
        (["+trainer.limit_train_batches=3"], "live", "trainer.limit_train_batches leaves out samples"),
        (["trainer.precision=16-mixed"], "live", "only answers in full precision"),
    ],
)
def test_what_auto_means_in_a_sweep(overrides, mode, why):
    found = sharing(compose(overrides))
    assert found.mode == mode and why in found.why and bool(why) == bool(found.why)
    assert bool(found.keys) == (mode != "live")


def test_which_runs_share():
    def keys(*overrides):
        return set(sharing(compose([*DRAWN, *overrides])).keys)

    one = keys()
    assert one == keys("loss.kd.temperature=9") == keys("optimizer.lr=0.1") == keys("trainer.max_epochs=3")
    assert keys("data.augment_seed=1", "seed=2") == keys("data.augment_seed=1", "seed=3") == keys("seed=1")
    assert one == keys("data.replicas=2") == keys("data.replicas=3"), "they draw the first epochs again"
    for other in (["seed=2"], ["teacher.seed=2"], ["data.augment.flip=0.4"], ["data.batch_size=64"], ["threads=2"]):
        assert not one & keys(*other), other
    ensemble = keys("teacher=ensemble")
    assert len(ensemble) == 3 and one < ensemble, "a single teacher shares with the ensemble that it is in"


def test_no_room_in_a_sweep_leaves_the_teacher_live(workplace):
    config = compose([*SHORT, "trainer.max_epochs=1", "teacher.cache=fixed", "+teacher.cache_gb=0.00001"])
    config["teacher"]["cache_auto"] = True
    from kdlab.training.ensure import ensure

    lines = []
    run = ensure(config, lines.append)
    assert run.finished and run.record["cache"]["computed"] == 0
    assert sum("its answers are not kept, and it is asked in every step" in line for line in lines) == 1


def test_an_unwritable_cache_leaves_the_teacher_live(workplace, monkeypatch):
    from kdlab.cache import Store
    from kdlab.training.ensure import ensure

    def full(self, *given):
        raise OSError(28, "No space left on device")

    lines = []
    monkeypatch.setattr(Store, "write", full)
    run = ensure(compose([*SHORT, "trainer.max_epochs=1", "teacher.cache=fixed"]), lines.append)
    assert run.finished and any(line.endswith("cannot be written (No space left on device)") for line in lines)


def _train(overrides):
    train(overrides)


@pytest.mark.slow
def test_killed_while_it_fills(workplace, forked):
    """At ten moments: the same command continues, and trains what the live run trains."""
    overrides = [*SHORT[1:], *DRAWN, "trainer.max_epochs=11"]
    first = train([*overrides, "name=live", "teacher.cache=live"])
    for moment in range(10):
        process = forked(_train, [*overrides, "name=kept", "teacher.cache=views"])
        deadline = time.monotonic() + 60
        folder = workplace / "runs" / ".cache"
        while len(list(folder.glob("*/train-*.safetensors"))) <= moment and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    second = train([*overrides, "name=kept", "teacher.cache=views"])
    same(first, second)
    assert second.record["cache"]["computed"] < 11 and not list(folder.glob("*/*.part"))


@pytest.mark.slow
def test_two_processes_read_one_cache(kdlab, workplace):
    ranks = ["trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=64"]
    overrides = [*SHORT, *DRAWN, *ranks]
    runs = {}
    for name, mode in (("live", "live"), ("kept", "views")):
        code, out, err = kdlab("train", *overrides, f"name={name}", f"teacher.cache={mode}")
        assert code == 0, err
        runs[name] = json.loads((workplace / out.strip().splitlines()[-1] / "run.json").read_text())
    assert runs["live"]["metrics"] == runs["kept"]["metrics"] and runs["kept"]["cache"]["computed"] == 2
