"""What may be wrong with data."""

import shutil
import struct

import numpy as np

from .table import Mistake, Place

PICTURES = [
    "train",
    "strategy=supervised",
    "trainer.max_epochs=1",
    "student=cnn",
    "data=image_folder",
    "data.folder=pictures",
    "data.size=8",
    "data.workers=0",
    "data.batch_size=8",
]
THREE = [*PICTURES, "data.classes=3"]
FASHION = ["train", "strategy=supervised", "trainer.max_epochs=1", "data=fashion_mnist"]
CIFAR = ["train", "strategy=supervised", "trainer.max_epochs=1", "data=cifar10", "student=resnet8"]


def _pictures(change=None):
    """A folder of pictures of three classes, changed."""

    def setup(place: Place) -> None:
        from tests.data.images.pictures import folder_of_pictures

        folder = folder_of_pictures(place.folder / "pictures")
        if change is not None:
            change(folder)

    return setup


def _emptied(folder):
    shutil.rmtree(folder / "train" / "red")
    (folder / "train" / "red").mkdir()


def _broken(content):
    return lambda folder: (folder / "train" / "red" / "004.png").write_bytes(content)


def _all_broken(folder):
    for path in (folder / "train" / "red").iterdir():
        path.write_bytes(b"no picture")


def _idx(array) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def _fashion(labels=None, side=28, count=200, change=None):
    """Fashion-MNIST in small, changed."""

    def setup(place: Place) -> None:
        folder = place.folder / "data" / "fashion_mnist"
        folder.mkdir(parents=True)
        for part in ("train", "t10k"):
            images = np.random.default_rng(0).integers(0, 255, (count, side, side))
            (folder / f"{part}-images-idx3-ubyte").write_bytes(_idx(images))
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(
                _idx(np.arange(count) % 10 if labels is None else labels)
            )
        if change is not None:
            change(folder / "train-labels-idx1-ubyte")

    return setup


def _cifar(place: Place) -> None:
    folder = place.folder / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"<html>")


MISTAKES = [
    Mistake(
        "number of classes of a folder",
        [*PICTURES, "data.classes=4"],
        ["data.classes=4", "set data.classes=3"],
        setup=_pictures(),
        given="three class folders",
    ),
    Mistake(
        "number of classes left out",
        PICTURES,
        ["data.classes has no value", "data.classes=…"],
        setup=_pictures(),
        given="three class folders",
    ),
    Mistake("folder that is not there", THREE, ["there is no image folder pictures", "train/CLASS"]),
    Mistake(
        "folder that is a file",
        THREE,
        ["there is no image folder pictures"],
        given="pictures is a file",
        setup=lambda place: (place.folder / "pictures").write_text(""),
    ),
    Mistake(
        "empty folder",
        THREE,
        ["holds no folder train"],
        given="an empty folder",
        setup=lambda place: (place.folder / "pictures").mkdir(),
    ),
    Mistake(
        "empty class",
        THREE,
        ["pictures/train", "red", "without images"],
        given="train/red is empty",
        setup=_pictures(_emptied),
    ),
    Mistake(
        "class that test lacks",
        THREE,
        ["pictures/test lacks classes", "red"],
        given="test/red was removed",
        setup=_pictures(lambda folder: shutil.rmtree(folder / "test" / "red")),
    ),
    Mistake(
        "empty picture", THREE, ["004.png is empty"], given="train/red/004.png is empty", setup=_pictures(_broken(b""))
    ),
    Mistake(
        "pictures that are none",
        THREE,
        ["pictures/train/red", "cannot be read as an image"],
        given="train/red holds other files named .png",
        setup=_pictures(_all_broken),
    ),
    Mistake(
        "size of nothing", [*THREE, "data.size=0"], ["size must be at least 1"], setup=_pictures(), given="pictures"
    ),
    Mistake(
        "size in words", [*THREE, "data.size=large"], ["data.size", "whole number"], setup=_pictures(), given="pictures"
    ),
    Mistake(
        "size too small for the student",
        [*THREE, "data.size=1"],
        ["student", "too small"],
        setup=_pictures(),
        given="pictures",
    ),
    Mistake(
        "size that the student does not read",
        [*THREE, "student=mlp", "student.shape=[3,16,16]"],
        ["student", "(4, 3, 8, 8)"],
        setup=_pictures(),
        given="pictures",
    ),
    Mistake(
        "channels that the student does not read",
        [*THREE, "student.shape=[1,8,8]"],
        ["student", "(4, 3, 8, 8)"],
        setup=_pictures(),
        given="pictures",
    ),
    Mistake(
        "crop larger than the picture",
        [*THREE, "data.resize=4"],
        ["resize must be at least size=8"],
        setup=_pictures(),
        given="pictures",
    ),
    Mistake(
        "mean of two channels",
        [*THREE, "data.mean=[0.5,0.5]"],
        ["data: mean and std"],
        setup=_pictures(),
        given="pictures",
    ),
    Mistake("shape of the data", ["train", "strategy=supervised", "data.shape=[1,9,9]"], ["data.shape", "(1, 8, 8)"]),
    Mistake("CIFAR-10 that is not there", CIFAR, ["CIFAR-10 was not found", "data.download=true"]),
    Mistake("number of classes of CIFAR-10", [*CIFAR, "data.classes=100"], ["data.classes=100", "CIFAR10 has 10"]),
    Mistake(
        "page in the place of CIFAR-10",
        CIFAR,
        ["data_batch_1 cannot be read", "fetch it again"],
        given="data_batch_1 is HTML",
        setup=_cifar,
    ),
    Mistake(
        "labels that are no classes",
        FASHION,
        ["the labels of the training split go from 0 to 11", "10 classes"],
        given="labels up to 11",
        setup=_fashion(labels=np.arange(200) % 12),
    ),
    Mistake(
        "fewer labels than images",
        FASHION,
        ["do not belong together"],
        given="200 images, 100 labels",
        setup=_fashion(labels=np.arange(100) % 10),
    ),
    Mistake(
        "labels cut short",
        FASHION,
        ["train-labels-idx1-ubyte cannot be read"],
        given="half of the file is missing",
        setup=_fashion(change=lambda path: path.write_bytes(path.read_bytes()[:100])),
    ),
    Mistake(
        "labels that are no labels",
        FASHION,
        ["does not begin as an IDX file", "fetch it again"],
        given="the file is HTML",
        setup=_fashion(change=lambda path: path.write_bytes(b"<html>")),
    ),
    Mistake(
        "labels that are missing",
        FASHION,
        ["holds no train-labels-idx1-ubyte"],
        given="the file was removed",
        setup=_fashion(change=lambda path: path.unlink()),
    ),
    Mistake(
        "images of another size",
        FASHION,
        ["shape (1, 14, 14), not (1, 28, 28)"],
        given="images of 14 x 14 pixels",
        setup=_fashion(side=14),
    ),
    Mistake("no images at all", FASHION, ["holds no samples"], given="files of no images", setup=_fashion(count=0)),
    Mistake(
        "file in the place of the folder of data",
        FASHION,
        ["Fashion-MNIST was not found"],
        given="data is a file",
        setup=lambda place: (place.folder / "data").write_text(""),
    ),
]
