"""From a folder of images to a table with three methods, by the commands of README; what damaged images and sweeps
say."""

import csv
import threading

import pytest

import kdlab as package
from kdlab.runs.run import find_runs
from tests.data.images.pictures import folder_of_pictures, picture

OWN = [
    "data=image_folder",
    "data.folder=pictures",
    "data.classes=3",
    "data.size=8",
    "data.batch_size=8",
    "data.workers=0",
    "data.validation=0.25",
    "student=cnn",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
]


@pytest.fixture
def pictures(workplace):
    folder_of_pictures(workplace / "pictures")
    return workplace


@pytest.mark.slow
def test_from_a_folder_to_a_table(pictures, kdlab):
    code, out, err = kdlab("train", *OWN)
    assert code == 0 and "teacher: training cnn_wide on image_folder (seed 1)" in out, err
    for methods in (["strategy=supervised"], ["loss=[ce,kd],[ce,dkd]"]):
        code, out, err = kdlab("train", "-m", *OWN, *methods, "seed=1,2")
        assert code == 0, (out, err)
    code, out, err = kdlab("compare", "runs/quickstart")
    assert code == 0, err
    with open("runs/quickstart/compare.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["role"] == "teacher" and rows[0]["variant"].startswith("cnn_wide on image_folder")
    assert {(row["variant"].split("  ")[0], row["role"]) for row in rows[1:]} == {
        ("supervised ce", "student baseline"),
        ("offline ce+kd", "variant"),
        ("offline ce+dkd", "variant"),
    }
    assert len(list(find_runs(["runs/teachers"]))) == 1, "one teacher for all"


def test_a_damaged_image_in_the_middle_of_a_run(pictures, kdlab):
    path = pictures / "pictures" / "train" / "green" / "007.png"
    path.write_bytes(path.read_bytes()[:300])
    command = ["train", *OWN, "strategy=supervised", "progress=none", "data.drop_last=false"]
    code, out, err = kdlab(*command)
    assert code == 1 and "green/007.png cannot be read as an image" in err
    assert "after that a new run begins" in err and "kdlab check data=image_folder data.folder=… --images" in err
    assert "finished epochs are kept" in err and "resumes there" not in err
    path.unlink()
    code, out, err = kdlab(*command)
    assert code == 0 and len(list(find_runs(["runs"]))) == 2, "as it was said: a new run"


def test_a_file_that_is_no_image_is_found_before_training(pictures, kdlab):
    (pictures / "pictures" / "train" / "green" / "007.png").write_bytes(b"<html>")
    code, out, err = kdlab("train", *OWN, "strategy=supervised")
    assert code == 2 and "green/007.png cannot be read as an image" in err and not (pictures / "runs").exists()


def test_a_pass_over_the_images(pictures, kdlab):
    folder = pictures / "pictures"
    code, out, err = kdlab("check", "data=image_folder", "data.folder=pictures", "--images")
    assert code == 0 and out == "48 of 48 images can be read\n", (out, err)
    for name in ("train/green/007.png", "test/red/002.jpg"):
        picture((1, 2, 3), 40, 40, 0).save(folder / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:400])
    (folder / "train" / "blue" / "000.png").write_bytes(b"<html>")
    (folder / "train" / "blue" / "x.heic").write_bytes(b"x")
    code, out, err = kdlab("check", *OWN, "--images")
    assert code == 2 and "45 of 48 images can be read" in out and "left out: 1 file (.heic 1)" in out
    wrong = [line for line in out.splitlines() if line.startswith("wrong")]
    assert [line.split()[1] for line in wrong] == [
        "pictures/train/blue/000.png:",
        "pictures/train/green/007.png:",
        "pictures/test/red/002.jpg:",
    ]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--images"], "--images needs the data set"),
        (["data=digits", "--images"], "--images is for images"),
        (["data=image_folder", "data.folder=nowhere", "--images"], "no image folder nowhere"),
        (["teacher/digits", "--images"], "--images is for images"),
    ],
)
def test_a_pass_over_no_images(workplace, kdlab, arguments, words):
    code, out, err = kdlab("check", *arguments)
    assert code == 2 and words in err, (out, err)


def test_the_check_of_a_command_line(pictures, kdlab):
    assert kdlab("check", *OWN)[0] == 0
    code, out, err = kdlab("check", *OWN, "+trainer.max_epcohs=3")
    assert code == 2 and "did you mean 'max_epochs'" in out and "0 of 1 are right" in out


@pytest.mark.slow
def test_a_sweep_says_what_is_odd_about_the_data_once(pictures, kdlab):
    for name in ("a.heic", "b.heic"):
        (pictures / "pictures" / "train" / "red" / name).write_bytes(b"x")
    code, out, err = kdlab("train", "-m", *OWN, "strategy=supervised", "seed=1,2", "progress=none")
    assert code == 0 and out.count("left out: 2 files (.heic 2)") == 1, (out, err)


def test_validation_of_so_few_samples_that_chance_cannot_be_told(pictures, kdlab):
    code, out, err = kdlab("train", *OWN, "data.validation=0.1", "progress=none")
    assert (
        code == 0
        and "teacher: warning: 3 validation samples are too few to tell whether it is better than chance" in out
    ), (out, err)


def test_a_run_and_its_teacher_say_it_once(pictures, kdlab):
    (pictures / "pictures" / "train" / "red" / "a.heic").write_bytes(b"x")
    code, out, err = kdlab("train", *OWN, "trainer.max_epochs=1")
    assert code == 0 and out.count("left out: 1 file (.heic 1)") == 1, (out, err)


def test_runs_of_two_threads_take_turns(workplace):
    """Each is the run that it is alone: nothing of the other's random numbers is in it."""
    command = ["strategy=supervised", "student.dropout=0.3", "trainer.max_epochs=2", "progress=none"]
    found = {}

    def train(seed):
        try:
            found[seed] = package.train([*command, f"seed={seed}", "name=threads"]).metrics
        except Exception as error:
            found[seed] = error

    threads = [threading.Thread(target=train, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        alone = package.train([*command, f"seed={seed}", "name=alone"]).metrics
        assert found[seed] == alone, found[seed]
