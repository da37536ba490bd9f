"""A teacher for data that no experiment trains one for: a network that learns their labels by the run's own recipe."""

import shlex

import pytest
import yaml

from kdlab.config.check import check, problems
from kdlab.config.compose import compose
from kdlab.config.references import reference
from kdlab.data import Digits
from kdlab.errors import InputError
from kdlab.runs.identity import group_hash, run_hash
from kdlab.training.ensure import ensure

IMAGES = ["data=image_folder", "data.folder=pictures", "data.classes=4", "data.size=32", "student=cnn"]


class Mine(Digits):
    """Data of a user's own: the digits 0 to 4."""

    CLASSES, SHAPE = 5, (1, 8, 8)

    def read(self):
        return tuple(
            type(split)(split.inputs[split.target < 5], split.target[split.target < 5]) for split in super().read()
        )


MINE = ["data._target_=tests.config.test_teacher_of_own_data.Mine", "data.classes=5"]


def teacher(*overrides):
    return compose([*IMAGES, *overrides])["teacher"]


def test_own_images_have_a_teacher_that_learns_their_labels():
    config = compose(IMAGES)
    check(config)
    node, theirs = config["teacher"], config["teacher"]["config"]
    assert node["student"] == "cnn_wide" and "experiment" not in node and node["seed"] == 1
    assert (
        theirs["student"]["widths"] == [32, 64, 128] and theirs["student"]["classes"] == 4 and theirs["teacher"] is None
    )
    assert (
        theirs["strategy"]["_target_"] == "kdlab.strategies.Supervised"
        and list(theirs["loss"]) == ["ce"]
        and theirs["loss"]["ce"]["weight"] == 1.0
    )
    assert (
        theirs["data"] == config["data"]
        and theirs["trainer"] == config["trainer"]
        and theirs["optimizer"] == config["optimizer"]
    )
    assert theirs["name"] == "teachers" and reference(node, "teacher").name == "cnn_wide on image_folder (seed 1)"


def test_its_command_line_is_the_run():
    theirs = teacher(
        "optimizer=sgd",
        "optimizer.lr=0.2",
        "scheduler=none",
        "trainer.max_epochs=3",
        "trainer.precision=bf16-mixed",
        "data.augment=null",
        "+trainer.limit_train_batches=5",
        "~trainer.accumulate_grad_batches",
        "threads=2",
    )["config"]
    assert run_hash(compose(theirs["overrides"])) == run_hash(theirs)
    assert theirs["optimizer"]["lr"] == 0.2 and theirs["data"]["augment"] is None and theirs["threads"] == 2
    assert (
        theirs["trainer"]["limit_train_batches"] == 5
        and "accumulate_grad_batches" not in theirs["trainer"]
        and theirs["trainer"]["max_epochs"] == 3
    )


def test_it_is_shared_over_students_seeds_losses_strategies_and_parts_of_the_data():
    hashes = {
        run_hash(teacher(*more)["config"])
        for more in (
            [],
            ["student=mlp"],
            ["seed=5"],
            ["loss.kd.temperature=9"],
            ["loss=[ce,dkd]"],
            ["data.fraction=0.5"],
            ["data.omit_classes=[1]"],
            ["mixing=mixup"],
            ["name=other"],
            ["student=timm", "student.model=resnet18"],
            ["initial=checkpoint", "student.initial.checkpoint=x.ckpt"],
            ["teacher.student=cnn_wide"],
            ["strategy=offline"],
        )
    }
    assert len(hashes) == 1
    for more in (
        ["teacher.seed=2"],
        ["teacher.student=resnet8"],
        ["data.size=16"],
        ["trainer.max_epochs=2"],
        ["optimizer.lr=0.5"],
        ["data.batch_size=8"],
        ['teacher.overrides=["trainer.max_epochs=7"]'],
    ):
        assert run_hash(teacher(*more)["config"]) not in hashes, more


def test_students_of_other_seeds_stand_in_one_group(tmp_path):
    one, two = (compose([*IMAGES, f"seed={seed}"]) for seed in (1, 2))
    assert run_hash(one) != run_hash(two) and group_hash(one) == group_hash(two)


def test_its_overrides_come_last():
    theirs = teacher(
        "teacher.student=resnet20",
        'teacher.overrides=["optimizer=sgd","optimizer.lr=0.3","student.widths=[8,16,32]","data.fraction=0.5"]',
        "teacher.seed=4",
    )["config"]
    assert theirs["student"]["_target_"].endswith("CIFARResNet") or "resnet" in str(theirs["choices"]["student"])
    assert theirs["optimizer"]["_target_"] == "torch.optim.SGD" and theirs["optimizer"]["lr"] == 0.3
    assert theirs["data"]["fraction"] == 0.5 and theirs["seed"] == 4


def test_inputs_that_are_no_images_have_another_default():
    assert compose([*MINE, "data.shape=[64]"])["teacher"]["student"] == "mlp_wide"


def test_data_of_the_users_own_class():
    """By a name of its own, or by the name of the data whose file it was put into."""
    for name in (["data.name=mine"], []):
        config = compose([*MINE, *name, "data.shape=[1,8,8]"])
        assert config["teacher"]["student"] == "cnn_wide" and config["teacher"]["config"]["data"]["_target_"].endswith(
            "Mine"
        )
        assert config["teacher"]["config"]["student"]["classes"] == 5
    # as many classes, the same inputs: its experiment may be meant
    same = compose(["data._target_=tests.config.test_teacher_of_own_data.Mine"])
    assert same["teacher"]["experiment"] == "teacher/digits" and run_hash(same["teacher"]["config"]) == run_hash(
        compose([])["teacher"]["config"]
    )


def test_data_of_the_users_own_file_without_a_name(workplace, kdlab):
    folder = workplace / "cfg" / "data"
    folder.mkdir(parents=True)
    node = {**compose([])["data"], "_target_": "tests.config.test_teacher_of_own_data.Mine", "classes": 5}
    node.pop("name"), node.pop("mixing", None)
    (folder / "mine.yaml").write_text(yaml.safe_dump(node))
    code, out, err = kdlab(
        "train", "--config-dir", "cfg", "data=mine", "student=cnn", "trainer.max_epochs=2", "progress=none"
    )
    assert code == 0 and "teacher: training cnn_wide on mine (seed 1)" in out, (out, err)


def test_an_experiment_of_the_users_own(workplace, kdlab):
    """What it says of student, loss and teacher is not the teacher's."""
    folder = workplace / "cfg" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n"
        "  - override /student: cnn\n"
        "student: {widths: [4, 4, 4]}\n"
        "loss: {kd: {weight: 0.5}}\n"
        "teacher: {seed: 3}\n"
        "trainer: {max_epochs: 2}\n"
        "data: {_target_: tests.config.test_teacher_of_own_data.Mine, classes: 5}\n"
    )
    code, out, err = kdlab("train", "--config-dir", "cfg", "experiment=mine", "progress=none")
    assert code == 0 and "teacher: training cnn_wide on digits (seed 3)" in out, (out, err)


def test_an_experiment_for_the_data_stays_the_teacher():
    config = compose([])
    assert config["teacher"]["experiment"] == "teacher/digits" and "student" not in config["teacher"]
    wide = compose(["teacher.student=cnn_wide"])["teacher"]
    assert wide["experiment"] == "teacher/digits" and run_hash(wide["config"]) == run_hash(
        compose(['teacher.overrides=["student=cnn_wide"]'])["teacher"]["config"]
    )
    own = compose(["teacher.experiment=null", "teacher.student=cnn_wide", "trainer.max_epochs=2"])["teacher"]
    assert "experiment" not in own and own["config"]["trainer"]["max_epochs"] == 2


def test_members_of_an_ensemble_and_the_teacher_behind_assistants():
    members = compose([*IMAGES, "teacher=ensemble"])["teacher"]["members"]
    assert [(node["student"], node["config"]["seed"]) for node in members.values()] == [
        ("cnn_wide", 1),
        ("cnn_wide", 2),
        ("cnn_wide", 3),
    ]
    of_network = compose([*IMAGES, "teacher=ensemble", "+teacher.members.own={student: resnet8, seed: 4}"])["teacher"][
        "members"
    ]["own"]
    assert of_network["config"]["choices"]["student"] == "resnet8" and of_network["config"]["seed"] == 4
    config = compose([*IMAGES, "strategy=assistant", "teacher.student=resnet8"])
    check(config)
    assert config["teacher"]["config"]["teacher"]["config"]["choices"]["student"] == "resnet8"


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["teacher.student=resnet21"], "teacher.student=resnet21: student=resnet21: there is no 'resnet21'"),
        (["teacher.experiment=teacher/mine"], "teacher.experiment=teacher/mine"),
        (["teacher.seed=x"], "teacher.seed must be a whole number"),
        (["teacher.overrides=3"], "teacher.overrides must be a list"),
        (['teacher.overrides=["trainer.max_epcohs=3"]'], "did you mean 'max_epochs'"),
        (["teacher=run", "teacher.run=x", "+teacher.student=cnn"], "given in one way"),
        (["initial=trained", "student.initial.experiment=teacher/image_folder"], "there is no 'teacher/image_folder'"),
    ],
)
def test_what_is_wrong_is_named(overrides, words):
    try:
        found = list(problems(compose([*IMAGES, *overrides])))
    except InputError as error:
        found = error.problems
    assert any(words in text for text in found), found


@pytest.mark.parametrize(
    "given, cure",
    [
        (["student=cnn_wide", "teacher=none"], '["student=cnn_wide","teacher=none","strategy=supervised"]'),
        (["student=cnn_wide", "strategy=supervised"], '["student=cnn_wide","strategy=supervised","teacher=none"]'),
        (["student=cnn_wide"], '["student=cnn_wide","teacher=none","strategy=supervised"]'),
    ],
)
def test_a_chain_that_ends_badly_is_answered_with_one_that_works(given, cure):
    import shlex

    def typed(argument):
        config = compose([*IMAGES, "teacher=same_but", argument])
        check(config)
        return config

    with pytest.raises(InputError) as error:
        typed(f"teacher.same_but=[{','.join(given)}]".replace("[", '["').replace("]", '"]').replace(",", '","'))
    printed = str(error.value).partition("Type ")[2]
    (argument,) = shlex.split(printed)
    assert argument == f"teacher.same_but={cure}"
    assert typed(argument)["teacher"]["config"]["choices"]["student"] == "cnn_wide"


def test_a_run_with_own_data_finds_its_teacher_again(workplace):
    said = []
    for seed in (1, 2):
        ensure(
            compose([*MINE, "data.name=mine", "student=cnn", "trainer.max_epochs=2", f"seed={seed}", "progress=none"]),
            said.append,
        )
    assert (
        sum(
            line.startswith("teacher: training cnn_wide on mine (seed 1), once for all runs that share it; it learns")
            for line in said
        )
        == 1
    )
    assert [
        path.name.rpartition("-")[0] for path in (workplace / "runs" / "teachers").iterdir() if path.name != ".locks"
    ] == ["supervised-ce-cnn_wide-s1"]


def test_a_rate_that_follows_from_another_follows_from_the_teachers_own():
    recipe = ["scheduler=onecycle", "optimizer.lr=0.5"]
    assert teacher(*recipe)["config"]["scheduler"]["max_lr"] == 0.5
    theirs = teacher(*recipe, 'teacher.overrides=["optimizer.lr=0.01"]')["config"]
    assert (theirs["optimizer"]["lr"], theirs["scheduler"]["max_lr"]) == (0.01, 0.01)
    theirs = teacher(*recipe, "scheduler.max_lr=0.3", 'teacher.overrides=["optimizer.lr=0.01"]')["config"]
    assert (theirs["optimizer"]["lr"], theirs["scheduler"]["max_lr"]) == (0.01, 0.3)


def test_other_classes_are_mended_where_they_were_said(workplace):
    network = ["teacher.experiment=null", "teacher.student=mlp_wide", 'teacher.overrides=["student.classes=7"]']
    with pytest.raises(
        InputError, match=r"answers with 7 classes, but the data have 10; .* to 10 in teacher\.overrides$"
    ):
        ensure(compose([*network, "progress=none"]))


@pytest.mark.parametrize(
    "typed, problem",
    [
        (
            [*IMAGES, "teacher.student=torchvision"],
            "teacher.student=torchvision: student.model has no value; give it with "
            """'teacher.overrides=["student.model=…"]'""",
        ),
        (
            [*IMAGES, "teacher.student=timm", 'teacher.overrides=["seed=3"]'],
            "teacher.student=timm: student.model has no value; give it with "
            """'teacher.overrides=["seed=3","student.model=…"]'""",
        ),
        (
            ["teacher.student=timm"],  # in place of that of the experiment
            "teacher.experiment=teacher/digits: student.model has no value; give it with "
            """'teacher.overrides=["student.model=…"]'""",
        ),
        (
            ['teacher.overrides=["student=timm"]'],
            "teacher.experiment=teacher/digits: student.model has no value; give it with "
            """'teacher.overrides=["student=timm","student.model=…"]'""",
        ),
    ],
)
def test_what_the_teacher_lacks_is_given_to_the_teacher(typed, problem):
    assert list(problems(compose(typed))) == [problem]
    cure = shlex.split(problem.partition("give it with ")[2].replace("…", "resnet18"))
    check(compose([*(text for text in typed if not text.startswith("teacher.overrides")), *cure]))


def test_student_and_teacher_lack_the_same_value_each():
    typed = ["student=torchvision", "teacher.student=torchvision"]
    assert list(problems(compose([*IMAGES[:-1], *typed]))) == [
        "student.model has no value; give it with student.model=…",
        "teacher.student=torchvision: student.model has no value; give it with "
        """'teacher.overrides=["student.model=…"]'""",
    ]
