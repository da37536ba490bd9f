"""A network's own ``taps`` stand beneath those of the config, for students and for teachers."""

import json

import pytest
import torch
from torch import nn

import kdlab
from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.models.taps import own_taps
from kdlab.tasks import Classification
from kdlab.teachers import Frozen


def network(taps):
    made = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    made.taps = taps
    return made


def batch():
    torch.manual_seed(0)
    return Batch(inputs=torch.randn(5, 1, 2, 2), target=torch.tensor([0, 1, 0, 1, 0]), index=torch.arange(5))


def test_they_are_no_part_of_the_state():
    assert list(network({"stage1": "2"}).state_dict()) == list(network({}).state_dict())


@pytest.mark.parametrize("taps", [None, nn.Identity(), ["2"]])
def test_an_attribute_of_that_name_that_is_no_dict_is_something_else(taps):
    assert own_taps(network(taps)) == {}


def test_a_teachers_own_taps_serve_and_the_configs_go_before_them():
    teacher = Frozen(network({"stage1": "2", "embedding": "3.input"}), Classification(2))
    teacher.watch({"stage1", "embedding"})
    features = teacher.teach(batch()).features
    assert features["stage1"].shape == (5, 3) and torch.equal(features["stage1"], features["embedding"])
    configured = Frozen(network({"stage1": "2", "last": "3"}), Classification(2), {"stage1": "0"})
    configured.watch({"stage1", "last"})
    features = configured.teach(batch()).features
    assert features["stage1"].shape == (5, 4) and features["last"].shape == (5, 2)


@pytest.mark.slow
def test_a_run_of_a_torchvision_student_needs_no_taps_in_its_config(taught, tmp_path):
    pytest.importorskip("torchvision")
    run = kdlab.train(
        [
            "student=torchvision",
            "student.model=mobilenet_v3_small",
            "+student.options.dropout=0.1",
            "teacher=run",
            f"teacher.run={taught.path}",
            "loss=[ce,hint]",
            "loss.hint.student_tap=embedding",
            "loss.hint.teacher_tap=stage1",
            "trainer.max_epochs=1",
            "data.fraction=0.1",
            f"paths.runs={tmp_path}",
            "progress=none",
        ]
    )
    curve = run.path.joinpath("metrics.csv").read_text().splitlines()
    assert "train/loss_hint" in curve[0] and json.loads((run.path / "run.json").read_text())["status"] == "finished"
    student = kdlab.load(run.path).student
    assert own_taps(student)["embedding"] == "classifier.3.input" and student.features[0][0].in_channels == 1


def test_an_unknown_model_is_bad_input_that_names_its_key(taught, tmp_path):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match="student: model 'resnet81': timm has no model"):
        kdlab.train(
            [
                "student=timm",
                "student.model=resnet81",
                "teacher=run",
                f"teacher.run={taught.path}",
                f"paths.runs={tmp_path}",
                "progress=none",
            ]
        )
