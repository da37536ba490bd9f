"""Experiment files in a folder of the user's own that are not found, or not read as they are meant."""

import pytest

HEAD = "# @package _global_\n"


@pytest.fixture
def cfg(workplace):
    folder = workplace / "cfg" / "experiment"
    folder.mkdir(parents=True)
    (folder / "good.yaml").write_text(f"{HEAD}seed: 3\n")
    return folder


def refused(kdlab, *arguments):
    code, out, err = kdlab("train", "--config-dir", "cfg", *arguments)
    assert code == 2 and err.startswith("kdlab: ") and "Traceback" not in err, (out, err)
    return err


@pytest.mark.parametrize(
    "content",
    [
        "defaults:\n  - override /strategy: supervised\nseed: 3\n",
        "defaults:\n  - override /data: mnist\n  - override /student: cnn\n",
        "seed: 3\n",
        "# a comment\ndefaults:\n  - override /loss: [ce]\n",
    ],
    ids=["strategy", "data", "no defaults", "loss"],
)
def test_without_its_first_line(kdlab, cfg, content):
    (cfg / "nopkg.yaml").write_text(content)
    err = refused(kdlab, "experiment=nopkg")
    assert "nopkg'" in err and "must begin with the line '# @package _global_'" in err
    (cfg / "nopkg.yaml").write_text(HEAD + content)
    code, out, err = kdlab("train", "--config-dir", "cfg", "experiment=nopkg", "--cfg", "job")
    assert code == 0, err


def test_a_file_that_is_not_there_names_the_users_own_folder_and_files(kdlab, cfg):
    err = refused(kdlab, "experiment=missing")
    assert (
        "experiment=missing: there is no 'missing' in cfg/experiment nor in conf/experiment" in err
        and "cfg/experiment has good;" in err
    )
    assert "did you mean 'good'" in refused(kdlab, "experiment=goood")
    err = refused(kdlab, "student=missing")
    assert "there is no 'missing' in conf/student" in err and "cfg/student" not in err
    (cfg.parent / "student").mkdir()
    (cfg.parent / "student" / "mine.yaml").write_text("{}\n")
    err = refused(kdlab, "student=missing")
    assert "in cfg/student nor in conf/student" in err and "cfg/student has mine" in err and "cnn_wide" in err


@pytest.mark.parametrize("option", [["--config-dir=cfg"], ["-cd", "cfg"]])
def test_however_the_folder_is_named(kdlab, cfg, option):
    code, out, err = kdlab("train", *option, "experiment=missing")
    assert code == 2 and "cfg/experiment has good" in err


@pytest.mark.parametrize("name", ["mine.yml", "mine.YAML", "mine.yaml.txt", "mine.json"])
def test_a_file_by_another_ending(kdlab, cfg, name):
    (cfg / name).write_text(f"{HEAD}seed: 3\n")
    err = refused(kdlab, "experiment=mine")
    assert f"cfg/experiment/{name} is not read by its name" in err and "rename it to cfg/experiment/mine.yaml" in err


def test_a_file_beside_the_folder_of_its_group(kdlab, cfg):
    (cfg.parent / "mine.yaml").write_text(f"{HEAD}seed: 3\n")
    assert "cfg/mine.yaml is not in the group's folder; move it to cfg/experiment/mine.yaml" in refused(
        kdlab, "experiment=mine"
    )


def test_a_file_that_a_file_names(kdlab, cfg):
    (cfg / "teaches.yaml").write_text(f"{HEAD}teacher: {{experiment: missing}}\n")
    err = refused(kdlab, "experiment=teaches")
    assert (
        "there is no 'missing' in cfg/experiment nor in conf/experiment" in err
        or "cfg/experiment has good, teaches" in err
    )


def test_in_a_sweep(kdlab, cfg):
    err = refused(kdlab, "-m", "experiment=missing,good", "seed=1,2")
    assert "in cfg/experiment nor in conf/experiment" in err or "cfg/experiment has good" in err
