"""A teacher answers as on its own inputs, however the student's are normalised."""

import json

import pytest
import torch
from torch import nn

import kdlab
from kdlab.batch import Batch
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.normalisation import Normalisation, problems
from kdlab.runs.identity import run_hash
from kdlab.tasks import Classification
from kdlab.teachers import Ensemble, Frozen
from kdlab.teachers.normalisation import known_normalisation

TASK = Classification(3)
OURS, THEIRS = (
    Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
)
PIXELS = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
OTHERS = torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).eval()


def batch(normalisation=OURS, dtype=torch.float32):
    return Batch(
        normalisation(PIXELS).to(dtype),
        torch.zeros(6, dtype=torch.long),
        torch.arange(6),
        further_views=(normalisation(OTHERS).to(dtype),),
    )


class SecondView(Classification):
    def network_outputs(self, network, batch, view=0):
        return super().network_outputs(network, batch, 1)


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def test_normalisation_is_per_channel():
    expected = torch.stack([(PIXELS[:, c] - OURS.mean[c]) / OURS.std[c] for c in range(3)], 1)
    assert torch.allclose(OURS(PIXELS), expected, atol=1e-7)
    assert torch.equal(Normalisation(0.5, 0.25)(PIXELS), (PIXELS - 0.5) / 0.25)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (OURS, THEIRS),
        (Normalisation(0.3, 0.2), THEIRS),
        (OURS, Normalisation(0.5, 0.5)),
        (Normalisation(0.3, 0.2), Normalisation(0.1, 0.7)),
        (Normalisation((0.1, 0.2, 0.3), 0.5), THEIRS),
    ],
)
def test_one_becomes_the_other(ours, theirs):
    assert torch.allclose(ours.onto(theirs)(ours(PIXELS)), theirs(PIXELS), atol=1e-5)
    back = ours.onto(theirs)(ours(PIXELS).bfloat16())
    assert back.dtype is torch.bfloat16 and torch.allclose(back.float(), theirs(PIXELS), rtol=0.02, atol=0.03)


def test_equal_ones_need_nothing():
    assert OURS.onto(OURS) is None and Normalisation(0.5, 0.2).onto(Normalisation([0.5] * 3, [0.2] * 3)) is None


# -- the teacher -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task, pixels", [(TASK, PIXELS), (SecondView(3), OTHERS)], ids=["first view", "second view"])
def test_a_teacher_answers_as_on_its_own_inputs(task, pixels):
    expected = network()(THEIRS(pixels))
    given = batch()
    before = given.inputs.clone()
    answer = Frozen(network(), task, normalisation=THEIRS, given=OURS).teach(given).logits
    assert torch.allclose(answer, expected, atol=1e-5) and torch.equal(given.inputs, before)
    assert not torch.allclose(Frozen(network(), task).teach(given).logits, expected, atol=0.05)


def test_under_bfloat16():
    teacher = Frozen(network(), TASK, normalisation=THEIRS, given=OURS)
    answer = teacher.teach(batch(dtype=torch.bfloat16)).logits
    assert answer.dtype is torch.bfloat16 and torch.allclose(
        answer.float(), network()(THEIRS(PIXELS)), rtol=0.05, atol=0.05
    )


def test_equal_normalisations_leave_the_bits_alone():
    same = Frozen(network(), TASK, normalisation=Normalisation(OURS.mean, OURS.std), given=OURS)
    assert same.own_normalisation is None and torch.equal(
        same.teach(batch()).logits, Frozen(network(), TASK).teach(batch()).logits
    )


def test_every_member_of_an_ensemble_has_its_own():
    members = [
        Frozen(network(0), TASK, normalisation=THEIRS, given=OURS),
        Frozen(network(1), TASK, normalisation=Normalisation(0.5, 0.5), given=OURS),
        Frozen(network(2), TASK),
    ]
    answer = Ensemble(members, "logits").teach(batch()).logits
    expected = network(0)(THEIRS(PIXELS)) + network(1)(Normalisation(0.5, 0.5)(PIXELS)) + network(2)(OURS(PIXELS))
    assert torch.allclose(answer, expected / 3, atol=1e-5)


# -- what libraries say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said, mean, std",
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "do_normalize": False}, (0.0,), (1.0,)),
        # to -1 … 1
        (
            {"image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 2 / 255},
            (0.5,) * 3,
            (0.5,) * 3,
        ),
        ({"image_mean": [127.5] * 3, "image_std": [51.0] * 3, "do_rescale": False}, (0.5,) * 3, (0.2,) * 3),
    ],
)
def test_a_hugging_face_model_by_its_preprocessor(tmp_path, said, mean, std):
    transformers = pytest.importorskip("transformers")
    from kdlab.models import HuggingFaceClassifier

    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=3)
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    network = HuggingFaceClassifier(str(tmp_path))
    assert known_normalisation({"model": str(tmp_path)}, network, 3) is None, "it says nothing of its inputs"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found = known_normalisation({"model": str(tmp_path)}, network, 3)
    assert found.mean == pytest.approx(mean) and found.std == pytest.approx(std)
    assert known_normalisation({"model": str(tmp_path)}, network, 1).mean == pytest.approx((sum(mean) / len(mean),))


def test_a_timm_model_by_its_pretrained_config():
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", pretrained=False)
    assert known_normalisation({"pretrained": False}, network, 3) is None
    assert known_normalisation({"pretrained": True}, network, 3) == Normalisation(
        network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
    )


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "ResNet18_Weights.DEFAULT"])
def test_a_torchvision_model_by_its_weights(weights):
    pytest.importorskip("torchvision")
    node = {"_target_": "torchvision.models.resnet18", "weights": weights}
    assert known_normalisation(node, nn.Identity(), 3) == THEIRS
    assert known_normalisation({**node, "weights": None}, nn.Identity(), 3) is None
    assert known_normalisation({**node, "weights": "none such"}, nn.Identity(), 3) is None


# -- in a run ----------------------------------------------------------------------------------------------------------

SMALL = ["trainer.max_epochs=1", "progress=none"]


def test_what_is_wrong_with_a_config():
    key = "teacher.normalisation"
    assert problems(None, key, 3) == [] and problems({"mean": [0.1] * 3, "std": 0.5}, key, 3) == []
    for value, words in (
        (
            {"mean": [0.1] * 2, "std": 0.5},
            "teacher.normalisation.mean must be one number or one for each of the 3 channels",
        ),
        ({"mean": 0.1, "std": [0.1] * 2}, "teacher.normalisation.std must be one number or one for each of the 3"),
        ({"mean": 0.1}, "must hold mean and std"),
        ({"mean": "a", "std": 1}, "teacher.normalisation.mean must be a number"),
        ({"mean": 0.1, "std": 0}, "std must be greater than 0"),
        (3, "must hold mean and std"),
    ):
        (found,) = problems(value, key, 3)
        assert words in found and found.startswith(key)


def test_a_run_of_a_wrong_length_is_refused(kdlab, taught, workplace):
    code, out, err = kdlab(
        "train",
        "teacher=run",
        f"teacher.run={taught.path}",
        "teacher.normalisation={mean: [0.1, 0.2], std: 0.5}",
        *SMALL,
    )
    assert (
        code == 2 and "teacher.normalisation.mean" in err and "1 channels" in err and not (workplace / "runs").exists()
    )


@pytest.mark.slow
def test_the_identity(taught):
    given = ["teacher=run", f"teacher.run={taught.path}"]
    own = run_hash(compose([*given, "teacher.normalisation={mean: 0.1, std: 0.5}"]))
    assert own != run_hash(compose(given)) == run_hash(compose([*given, "teacher.normalisation=null"]))
    assert run_hash(compose(["teacher.normalisation={mean: 0.1, std: 0.5}"])) != run_hash(compose([]))
    ensemble = ["teacher=ensemble", "+teacher.members.first.normalisation={mean: 0.1, std: 0.5}"]
    assert run_hash(compose(ensemble)) != run_hash(compose(ensemble[:1]))


@pytest.fixture
def shifted(workplace, monkeypatch):
    """Digits normalised otherwise, as a data set of the user's own."""
    (workplace / "shifted_digits.py").write_text(
        "from kdlab.data import Digits\n\n\nclass Shifted(Digits):\n    MEAN, STD = 0.9, 0.05\n"
    )
    monkeypatch.syspath_prepend(workplace)
    return ["data._target_=shifted_digits.Shifted", *SMALL]


@pytest.mark.parametrize("form", ["run", "checkpoint"])
def test_a_teacher_from_a_run_knows_its_own(shifted, taught, capsys, form):
    place = taught.path if form == "run" else taught.checkpoint("last")
    run = kdlab.train([*shifted, f"teacher={form}", f"teacher.{form}={place}"])
    out = capsys.readouterr().out
    assert "teacher: its inputs are normalised by its own mean 0.3058 and std 0.3764, not the student's" in out
    assert run.record["teacher"]["test"]["accuracy"] == pytest.approx(taught.metrics["test/accuracy"])
    assert run.record["teacher"]["normalisation"] == ["mean 0.3058 and std 0.3764"]


def test_the_config_has_the_last_word(shifted, taught, capsys):
    given = [*shifted, "teacher=run", f"teacher.run={taught.path}"]
    run = kdlab.train([*given, "teacher.normalisation={mean: [0.9], std: [0.05]}"])
    assert "normalised by its own" not in capsys.readouterr().out
    assert run.record["teacher"]["test"]["accuracy"] < taught.metrics["test/accuracy"], "it reads what it does not know"


def test_a_teacher_of_the_same_data_says_nothing(workplace, taught, capsys):
    run = kdlab.train([*SMALL, "teacher=run", f"teacher.run={taught.path}"])
    assert "normalised by" not in capsys.readouterr().out and run.record["teacher"]["normalisation"] is None


def test_a_wrong_length_of_its_own_names_the_key():
    with pytest.raises(InputError, match="teacher.normalisation.mean"):
        Normalisation((0.1, 0.2), 0.3).check_channels(3, "teacher.normalisation")
