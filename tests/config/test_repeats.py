"""A list of choices that names one twice: Hydra takes it once, silently."""

import pytest
import yaml

from kdlab.config.compose import compose
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["loss=[ce,ce]"],
            "loss=[ce,ce]: 'ce' is chosen 2 times, and counts once; write 'loss=[ce]'. "
            "A term counts double with loss.ce.weight=2",
        ),
        (["loss=[ce,kd,ce,ce]"], "'ce' is chosen 3 times, and counts once; write 'loss=[ce,kd]'"),
        (
            ["callbacks=[ema,ema]"],
            "callbacks=[ema,ema]: 'ema' is chosen 2 times, and counts once; write 'callbacks=[ema]'",
        ),
        (
            ['teacher.overrides=["loss=[ce,ce]"]'],
            "teacher.experiment=teacher/digits: loss=[ce,ce]: 'ce' is chosen 2 times",
        ),
        (
            ["teacher=same_but", 'teacher.same_but=["strategy=supervised","teacher=none","loss=[ce,ce]"]'],
            "teacher.same_but: loss=[ce,ce]: 'ce' is chosen 2 times",
        ),
    ],
)
def test_typed(overrides, message):
    with pytest.raises(InputError) as error:
        compose(overrides)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=[ce,kd]"],
        ["loss=ce"],
        ["loss=[ce]"],
        ["callbacks=[ema]"],
        ["student.hidden=[16,16]"],
        ["data.omit_classes=[1,1]"],
    ],
)
def test_what_is_no_list_of_choices_may_repeat(overrides):
    compose(overrides)


def test_the_cure_works(kdlab, workplace):
    code, out, err = kdlab("train", "loss=[ce,ce]", "strategy=supervised")
    assert code == 2 and not (workplace / "runs").exists()
    cure = err.partition("write '")[2].partition("'")[0]
    assert cure == "loss=[ce]"
    assert kdlab("train", cure, "strategy=supervised", "trainer.max_epochs=1", "progress=none")[0] == 0


def test_in_a_sweep(kdlab, workplace):
    code, out, err = kdlab("train", "-m", "loss=[ce,ce],[ce]", "strategy=supervised")
    assert code == 2 and "'ce' is chosen 2 times" in err and not (workplace / "runs").exists()


@pytest.mark.parametrize("name", ["inner", "outer", "block"])
def test_in_a_file_and_in_one_that_it_takes_in(kdlab, workplace, name):
    folder = workplace / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "inner.yaml").write_text("# @package _global_\ndefaults:\n  - override /loss: [ce, kd, ce]\n")
    (folder / "block.yaml").write_text("# @package _global_\ndefaults:\n  - override /loss:\n      - ce\n      - ce\n")
    (folder / "outer.yaml").write_text("# @package _global_\ndefaults:\n  - /experiment/inner\n")
    code, out, err = kdlab("train", "--config-dir", "conf", f"experiment={name}")
    file = "inner" if name == "outer" else name
    wanted = "ce,kd" if file == "inner" else "ce"
    assert (
        code == 2
        and f"{file}.yaml: " in err
        and f"'ce' is chosen 2 times, and counts once; write '- override /loss: [{wanted}]'" in err
    ), err


def test_kdlabs_own_files_repeat_nothing():
    for file in conf_dir().rglob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        for entry in (content or {}).get("defaults") or []:
            for value in entry.values() if isinstance(entry, dict) else ():
                assert not isinstance(value, list) or len(set(value)) == len(value), file


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["student=[cnn,mlp]"], "student=[cnn,mlp]: one student is chosen, not 2; write student=mlp"),
        (["strategy=[supervised,ema]"], "one strategy is chosen, not 2; write strategy=ema"),
        (['teacher.overrides=["optimizer=[adamw,sgd]"]'], "one optimizer is chosen, not 2; write optimizer=sgd"),
    ],
)
def test_several_of_which_one_can_be_built(overrides, message):
    """Hydra would build the last with arguments of the first."""
    with pytest.raises(InputError) as error:
        compose(overrides)
    assert message in str(error.value)


def test_a_file_that_only_adds_to_a_choice_may_stand_beside_it(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "narrow.yaml").write_text("hidden: [8]\n")
    config = compose(["student=[mlp,narrow]", f"hydra.searchpath=[{tmp_path}]"])
    assert config["student"]["hidden"] == [8]
