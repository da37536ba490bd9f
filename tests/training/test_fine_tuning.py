"""The commands that messages print are ones that compose and pass the check."""

import shlex

import pytest

from kdlab import train
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.training.fine_tuning import as_student, classes_argument, commands, run_as_student

MLP = {"_target_": "kdlab.models.MLP", "classes": 10, "shape": [1, 8, 8]}


def printed(overrides, key="teacher"):
    lines = commands(compose(overrides), key, as_student(MLP, 10, 10)).splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("  kdlab train ")]


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.fraction=0.5", "teacher=none", "strategy=supervised"],
        ["experiment=logit_methods/distilled", "loss=[ce,dkd]"],  # its student and its losses are not the teacher's
        ["experiment=crd_benchmark/resnet56_resnet20", "paths.data=elsewhere"],
        ["teacher=timm", "teacher.model=resnet18", "+teacher.options.drop_rate=0.1", "teacher.normalisation=null"],
    ],
)
def test_the_first_command_trains_on_the_same_data_from_labels(overrides):
    first, _ = printed(overrides)
    config, own = compose(first), compose(overrides)
    check(config)
    assert (
        config["teacher"] is None
        and list(config["loss"]) == ["ce"]
        and config["student"]["_target_"] == "kdlab.models.MLP"
    )
    assert config["data"] == own["data"] and config["paths"] == own["paths"]


def test_the_second_command_is_the_run_with_another_teacher():
    first, second = printed(["seed=3", "teacher=timm", "teacher.model=resnet18", "+teacher.options.drop_rate=0.1"])
    assert second[:-1] == ["seed=3", "teacher=run"] and second[-1].startswith(
        "teacher.run=runs/fine_tuned/supervised-ce-network-s1-"
    )
    config = compose(second)
    check(config)
    assert set(config["teacher"]) == {"run", "which", "normalisation", "cache", "cache_dtype", "cache_codec"}


def test_the_first_command_is_trained_as_long_and_in_the_same_way_as_the_run():
    typed = ["task=classification", "optimizer=sgd", "optimizer.lr=0.01", "trainer.max_epochs=3", "scheduler=none"]
    first, second = printed([*typed, "seed=3", "+trainer.log_every_n_steps=7"])
    assert first[-8:] == ["strategy=supervised", *typed, "+trainer.log_every_n_steps=7", "name=fine_tuned"]
    config = compose(first)
    check(config)
    assert config["trainer"]["max_epochs"] == 3 and config["optimizer"]["lr"] == 0.01
    assert config["choices"]["scheduler"] == "none"


def test_the_optimiser_of_an_experiment_stays_there():
    first, _ = printed(
        ["experiment=crd_benchmark/resnet56_resnet20", "optimizer.nesterov=true", "trainer.max_epochs=9"]
    )
    assert "trainer.max_epochs=9" in first and "optimizer.nesterov=true" not in first
    check(compose(first))


@pytest.mark.parametrize("given", [[], ["~teacher.members.first", "+teacher.members.first={checkpoint: x.pth}"]])
def test_a_member_gives_way_to_a_run(given):
    _, second = printed(["teacher=ensemble", *given], "teacher.members.first")
    config = compose(second)
    check(config)
    assert list(config["teacher"]["members"]["first"]) == ["run"] and len(config["teacher"]["members"]) == 3


def test_an_unknown_description_leaves_words():
    assert commands({}, "teacher", None) == " (as a student with strategy=supervised), and name its run by teacher=run"
    assert as_student({"_target_": "torch.nn.Sequential"}, 1000, 4) is None


@pytest.mark.parametrize(
    "node, expected",
    [
        (
            {"_target_": "torchvision.models.resnet18", "weights": "IMAGENET1K_V1"},
            ["student=torchvision", "student.model=resnet18", "student.weights=IMAGENET1K_V1"],
        ),
        (
            {"_target_": "timm.create_model", "model_name": "resnet18", "pretrained": True, "num_classes": 4},
            ["student=timm", "student.model=resnet18", "student.pretrained=true"],
        ),
        (
            {"_target_": "kdlab.models.HuggingFaceClassifier", "model": "my folder", "revision": None},
            ["student=huggingface", 'student.model="my folder"'],
        ),
        (
            {"_target_": "kdlab.models.timm_model", "model": "resnet18", "pretrained": False},
            ["student=timm", "student.model=resnet18"],
        ),
    ],
)
def test_networks_of_libraries_by_their_names(node, expected):
    assert as_student(node, 1000, 4) == expected


def test_the_argument_that_gives_the_classes():
    assert classes_argument({"_target_": "kdlab.models.MLP", "classes": 100}, 100) == "classes"
    assert (
        classes_argument({"_target_": "torch.nn.Linear", "in_features": 5, "out_features": 100}, 100) == "out_features"
    )
    assert classes_argument({"_target_": "torch.nn.Identity", "wide": 100, "deep": 3}, 100) == "wide"
    assert classes_argument({"_target_": "torch.nn.Identity", "wide": 100, "deep": 100}, 100) is None


def test_the_student_of_a_run(taught):
    assert run_as_student(taught.config, taught) == [
        "student=mlp_wide",
        "initial=run",
        f"student.initial.run={taught.path}",
        "student.initial.new_head=true",
    ]


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """An experiment of the user's own with data and a teacher of its own, as kdlab train --config-dir finds it."""
    files = {
        "data/mine.yaml": "defaults: [digits]\nname: mine\n",
        "experiment/mine.yaml": "# @package _global_\n"
        "defaults: [{override /data: mine}, {override /teacher: network}]\n"
        "data: {fraction: 0.5}\n"
        "teacher: {_target_: kdlab.models.MLP, classes: 7, shape: [1, 8, 8], normalisation: "
        "{mean: [0.5], std: [1.0]}}\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(text)
    monkeypatch.setattr("sys.argv", ["kdlab train", "--config-dir", str(tmp_path), "experiment=mine"])
    return f"hydra.searchpath=[file://{tmp_path}]"


def test_files_of_the_users_own_are_found_again(own_files):
    first, second = printed(["experiment=mine", own_files])
    assert "data=mine" in first and first[-1] == second[-1] == own_files
    assert compose(first)["data"]["fraction"] == 0.5
    check(compose(first))


def test_a_run_takes_the_place_of_a_teacher_that_an_experiment_describes(own_files):
    second = printed(["experiment=mine", own_files])[1]
    config = compose(second)
    check(config)
    assert (
        set(config["teacher"]) == {"run", "which", "normalisation", "cache", "cache_dtype", "cache_codec"}
        and config["teacher"]["normalisation"] is None
    )


def test_a_network_without_weights_is_trained_with_the_classes_of_the_data(workplace):
    with pytest.raises(InputError, match=r"it has no trained weights") as error:
        train(["teacher=network", "teacher._target_=kdlab.models.MLP", "+teacher.classes=7", "+teacher.shape=[1,8,8]"])
    assert "+student.classes=10" in str(error.value)


@pytest.mark.parametrize("revision", ["1234567", "12e5", "true", "null"])
def test_a_text_stays_a_text(revision):
    [*_, override] = as_student(
        {"_target_": "kdlab.models.HuggingFaceClassifier", "model": "a/b", "revision": revision}
    )
    assert compose(["student=huggingface", "student.model=a/b", override])["student"]["revision"] == revision


def test_data_whose_file_is_not_found_do_not_hide_what_is_wrong(own_files, monkeypatch):
    """As in a worker of a sweep with hydra.searchpath: nothing there names the folder."""
    config = compose(["experiment=mine", own_files])
    monkeypatch.setattr("sys.argv", ["kdlab train", "experiment=mine"])
    text = commands(config, "teacher", as_student(MLP, 10, 10))
    assert "kdlab train data=mine " in text and "++data.fraction=0.5" in text and "runs/fine_tuned/…" in text
