"""Which files of an image folder are read, and what is said of the others; splits that lack classes, or are not
read."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, features

from kdlab.data import ImageFolder
from kdlab.data.images.endings import ALWAYS, readable
from kdlab.data.images.image_folder import read_image
from kdlab.data.images.listing import content, listing
from kdlab.errors import InputError
from tests.data.images.pictures import folder_of_pictures

# Pillow 11 writes no image into an .ico that is smaller than 16 x 16
PIXELS = (np.arange(768) % 256).astype(np.uint8).reshape(16, 16, 3)


@pytest.fixture
def own(tmp_path):
    return folder_of_pictures(tmp_path / "own", train=4, test=2)


def notes(folder, **options):
    return ImageFolder(str(folder), **{"size": 8, "batch_size": 4, "validation": 0.25, **options}).notes()


@pytest.mark.parametrize(
    "ending, format, codec",
    [
        (".jfif", "JPEG", None),
        (".jpe", "JPEG", None),
        (".JFIF", "JPEG", None),
        (".jp2", "JPEG2000", "jpg_2000"),
        (".j2k", "JPEG2000", "jpg_2000"),
        (".avif", "AVIF", "avif"),
        (".WebP", "WEBP", "webp"),
        (".apng", "PNG", None),
        (".tga", "TGA", None),
        (".dib", "DIB", None),
        (".pnm", "PPM", None),
        (".ico", "ICO", None),
        (".pcx", "PCX", None),
        (".qoi", "QOI", None),
    ],
)
def test_what_pillow_opens_is_read(own, ending, format, codec):
    if codec and not features.check(codec):
        pytest.skip(f"this Pillow has no {codec}")
    path = own / "train" / "red" / f"more{ending}"
    try:
        Image.fromarray(PIXELS).save(path, format=format)
    except KeyError:
        pytest.skip(f"this Pillow writes no {format}")
    train = listing(own).train
    assert str(path) in [train.path(row) for row in range(len(train.target))] and read_image(str(path)).mode == "RGB"
    assert notes(own) == []


def test_what_holds_no_pixels_is_no_image():
    assert set(ALWAYS) <= set(readable()) and not {".pdf", ".h5", ".mpg", ".eps", ".txt", ""} & set(readable())


def test_files_that_are_left_out_are_counted_by_their_endings(own):
    for name in ("a.heic", "b.heic", "c.JPG_", "d"):
        (own / "train" / "red" / name).write_bytes(b"x")
    (own / "test" / "blue" / "e.heic").write_bytes(b"x")
    (line,) = notes(own)
    assert line.startswith(f"data: warning: {own}: left out: 5 files (.heic 3, .JPG_ 1, without ending 1)")


def test_what_nobody_takes_for_an_image_is_left_out_silently(own):
    before = content(own)
    for place in (own / "train" / "red", own / "train", own):
        for name in (
            ".DS_Store",
            "Thumbs.db",
            "desktop.ini",
            "._000.png",
            "notes.txt",
            "labels.csv",
            "annotations.json",
            "a.xml",
            "README",
            "list.tsv",
        ):
            (place / name).write_text("x")
    assert notes(own) == [] and content(own) == before


def test_images_in_no_class_folder_are_counted(own):
    Image.fromarray(PIXELS).save(own / "train" / "stray.png")
    before = content(own)
    (line,) = notes(own)
    assert line == f"data: warning: {own / 'train'}: left out: 1 image in no class folder"
    (own / "train" / "stray.png").unlink()
    assert content(own) == before


def test_a_class_of_files_that_are_left_out_names_their_endings(own):
    for path in (own / "train" / "red").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(
        InputError, match=r"class folders without images that Pillow reads: red \(there are files left out: .heic 4\)"
    ):
        listing(own)


def test_the_content_of_a_folder_with_the_endings_of_old_is_as_it_was(tmp_path):
    """Runs that were trained on such folders are found again."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name / "below").mkdir(parents=True)
            for number, ending in enumerate(
                (".jpg", ".JPEG", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
            ):
                (tmp_path / split / name / ("below" if number % 2 else ".") / f"{number}{ending}").write_bytes(
                    b"x" * (number + 1)
                )
    assert content(tmp_path) == "4a581c5f09225601b75d463e3efb0023739ed30f6bfb071c2eacefddbbc62eeb"


def test_the_list_is_made_again_when_a_folder_changes(own):
    first = listing(own)
    assert listing(own) is first
    (own / "train" / "red" / "x.heic").write_bytes(b"x")
    os.utime(own / "train" / "red", ns=(1, 1))
    assert "heic" in listing(own).left_out[0]


# -- classes that a split lacks ----------------------------------------------------------------------------------------


def fewer(folder, name, kept):
    for path in sorted((folder / "train" / name).iterdir())[kept:]:
        path.unlink()


def test_classes_without_a_validation_sample_are_said_with_the_share_that_gives_one(tmp_path):
    own = folder_of_pictures(tmp_path / "own", train=20, test=2)
    fewer(own, "red", 4)
    (line,) = notes(own, validation=0.1)
    assert (
        line
        == "data: warning: validation has no sample of 1 of the 3 classes (red): data.validation=0.1 of 4 samples is"
        " none; data.validation=0.13 holds out one"
    )
    assert notes(own, validation=0.13) == []
    fewer(own, "red", 1)
    (line,) = notes(own, validation=0.1)
    assert line.endswith("(red): the smallest of them has 1 training sample; it needs at least 2")


def test_classes_without_a_training_sample_are_said_unless_they_were_omitted(own):
    fewer(own, "red", 1)
    (line,) = notes(own, validation=0.6)
    assert line == "data: warning: training has no sample of 1 of the 3 classes (red)"
    assert notes(own, validation=0.6, omit_classes=[2], batch_size=2) == [] and notes(
        own, validation=0.6, omit_classes=[0], batch_size=2
    ) == [line]


def test_classes_that_data_in_memory_lack_in_test(tmp_path):
    from kdlab.data.images.digits import Digits

    class Without(Digits):
        def read(self):
            train, test = super().read()
            kept = test.target != 7
            return train, type(test)(test.inputs[kept], test.target[kept])

    assert Digits().notes() == []
    assert Without().notes() == ["data: warning: test has no sample of 1 of the 10 classes (7)"]


# -- a folder of its own for validation --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Validation"])
def test_a_validation_folder_that_is_not_read_is_said_with_the_line_that_reads_it(own, name):
    shutil.copytree(own / "test", own / name)
    (line,) = notes(own)
    assert (
        line
        == f"data: warning: {own / name} is not read: {own / 'test'} is the test split, and validation is held out of"
        f" train; data.validation_folder={own / name} reads it"
    )
    assert notes(own, validation_folder=str(own / name)) == []


def test_files_that_are_left_out_of_it_are_counted_too(own):
    shutil.copytree(own / "test", own / "val")
    (own / "val" / "red" / "a.heic").write_bytes(b"x")
    (line,) = notes(own, validation_folder=str(own / "val"))
    assert line.startswith(f"data: warning: {own / 'val'}: left out: 1 file (.heic 1)")


def test_the_line_that_reads_it_works_in_a_shell(tmp_path):
    import shlex

    from hydra.core.override_parser.overrides_parser import OverridesParser

    own = folder_of_pictures(tmp_path / "my é=data (2)", train=4, test=2)
    shutil.copytree(own / "test", own / "val")
    (line,) = notes(own)
    (argument,) = shlex.split(line.partition("train; ")[2].removesuffix(" reads it"))
    assert OverridesParser.create().parse_override(argument).value() == str(own / "val")


def test_val_that_stands_for_test_is_read(tmp_path):
    own = folder_of_pictures(tmp_path / "own", train=4, test=2, test_name="val")
    assert notes(own) == []


def test_validation_is_read_from_its_folder_and_all_of_train_is_trained_on(own):
    shutil.copytree(own / "test", own / "val")
    (own / "val" / "red" / "000.jpg").unlink()
    held = ImageFolder(
        str(own), size=8, batch_size=4, workers=0, validation_folder=str(own / "val"), augment=None, drop_last=False
    )
    held.setup()
    assert (
        len(held.part("train")) == 12
        and held.part("validation").tolist() == [12, 13, 14, 15, 16]
        and held.train_size == 17
    )
    batch = next(iter(held.val_dataloader()))
    assert batch.target.tolist() == [0, 0, 1, 1, 2] and batch.split == "validation"
    test = next(iter(held.test_dataloader()))
    assert torch.equal(batch.inputs, test.inputs[[0, 1, 2, 3, 5]]), "the same images, by another way"
    trained_on = torch.cat([one.index for one in held.train_dataloader()])
    assert sorted(trained_on.tolist()) == list(range(12))
    fraction = ImageFolder(
        str(own), size=8, batch_size=2, validation_folder=str(own / "val"), fraction=0.5, omit_classes=[1]
    )
    fraction.setup()
    assert len(fraction.part("train")) == 4 and len(fraction.part("validation")) == 5


def test_what_validation_is_read_from_is_part_of_the_identity(own, monkeypatch):
    from kdlab.config.compose import compose
    from kdlab.runs.identity import run_hash

    monkeypatch.chdir(own.parent)
    shutil.copytree(own / "test", own / "val")

    def of(*more):
        return run_hash(
            compose(["data=image_folder", "data.folder=own", "data.classes=3", "strategy=supervised", *more])
        )

    plain, held = of(), of("data.validation_folder=own/val")
    assert plain != held
    shutil.move(own / "val", own / "held")
    assert of("data.validation_folder=own/held") == held, "wherever it lies"
    (own / "held" / "red" / "000.jpg").unlink()
    assert of("data.validation_folder=own/held") != held and of() == plain


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda val: shutil.rmtree(val), "data.validation_folder: there is no folder"),
        (lambda val: shutil.rmtree(val / "red"), "val lacks classes that train has: red"),
        (lambda val: (val / "grey").mkdir(), "val has classes that train lacks: grey"),
        (lambda val: [path.unlink() for path in (val / "red").iterdir()], "class folders without images"),
    ],
    ids=["missing", "too few", "too many", "empty"],
)
def test_a_validation_folder_that_does_not_do(own, spoil, words):
    shutil.copytree(own / "test", own / "val")
    spoil(own / "val")
    with pytest.raises(InputError, match=words):
        notes(own, validation_folder=str(own / "val"))


def test_a_missing_test_says_what_there_is(tmp_path):
    own = folder_of_pictures(tmp_path / "own", train=4, test=2, test_name="valid")
    with pytest.raises(InputError, match=r"no folder test \(and no val\).*\(there are train, valid\)"):
        listing(own)
