"""Every loss of the index that serves classifiers trains the CNN pair on digits for an epoch, and its part is in the
curve."""

import csv
import math

import pytest

from kdlab import train
from kdlab.methods import index

INDEX = index()
# of logits, features, relations, contrast; the others with the slow tests
QUICK = ("ce", "kd", "dkd", "hint", "rkd", "crd")
NAMES = [name for name, entry in INDEX.items() if entry.kind == "loss" and "classifier" in entry.method.serves]


@pytest.fixture(scope="session")
def cnn_teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cnn_teacher")
    return train(
        [
            "experiment=teacher/digits",
            "student=cnn_wide",
            "trainer.max_epochs=2",
            f"paths.runs={folder}",
            "progress=none",
        ]
    )


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_loss_trains(name, cnn_teacher, workplace):
    losses = "ce" if name == "ce" else f"ce,{name}"
    student = "cnn_wide" if INDEX[name].loss.needs_equal_widths else "cnn"
    run = train(
        [
            f"loss=[{losses}]",
            f"student={student}",
            "teacher=run",
            f"teacher.run={cnn_teacher.path}",
            "data.fraction=0.5",
            "trainer.max_epochs=1",
            "progress=none",
        ]
    )
    with open(run.path / "metrics.csv") as file:
        [row] = csv.DictReader(file)
    assert all(math.isfinite(float(row[f"train/loss_{part}"])) for part in losses.split(","))
    assert float(row[f"train/loss_{name}"]) != 0
    assert 0 <= run.metrics["test/accuracy"] <= 1
