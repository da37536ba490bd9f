"""Every argument of every data set, augmentation and mixing changes the batches. An argument without a line here
fails."""

import inspect
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from kdlab import data
from kdlab.data import Augment, CutMix, Diabetes, DigitAttributes, ImageFolder, InMemoryData, Mixup, RandomResizedCrop
from tests.data.images.pictures import COLOURS, folder_of_pictures, picture
from tests.data.images.test_memory import toy

# argument -> what both have, and another value than its default
COMMON = {
    "batch_size": ({}, 8),
    "evaluation_batch_size": ({}, 7),
    "validation": ({}, 0.3),
    "split_seed": ({}, 1),
    "fraction": ({}, 0.5),
    "omit_classes": ({}, [1]),
    "drop_last": ({"batch_size": 7}, False),
    "mixing": ({}, Mixup(1.0)),
    "augment_seed": ({"augment": lambda inputs, index, seed, epoch, view: torch.full_like(inputs, seed % 200)}, 5),
    "replicas": ({"augment": lambda inputs, index, seed, epoch, view: torch.full_like(inputs, epoch % 200)}, 1),
}
#: of data without classes: nothing is omitted
WITHOUT_CLASSES = {name: change for name, change in COMMON.items() if name != "omit_classes"}
CHANGES = {
    Diabetes: {**WITHOUT_CLASSES, "augment": ({}, Augment(crop_padding=1))},
    DigitAttributes: {**WITHOUT_CLASSES, "augment": ({}, Augment(crop_padding=1))},
    InMemoryData: {**COMMON, "augment": ({}, Augment(crop_padding=1))},
    ImageFolder: {
        **COMMON,
        "augment": ({}, RandomResizedCrop()),
        "augment_seed": ({"augment": RandomResizedCrop()}, 5),
        "replicas": ({"augment": RandomResizedCrop()}, 1),
        "size": ({"resize": 12}, 6),
        "resize": ({}, 11),
        "mean": ({}, 0.1),
        "std": ({}, [0.5, 0.4, 0.3]),
        "bits": ({}, 12),
        "value_range": ({}, [0, 4095]),
        "exif_rotation": ({}, True),
        "validation_folder": ({}, lambda folder: str(folder / "held_out")),
    },
    Augment: {"crop_padding": ({}, 1), "flip": ({}, 0.5)},
    RandomResizedCrop: {"scale": ({}, (0.5, 0.6)), "ratio": ({}, (0.2, 0.3)), "flip": ({}, 0.0)},
    Mixup: {"alpha": ({}, 3.0), "probability": ({}, 0.0)},
    CutMix: {"alpha": ({"probability": 1.0}, 3.0), "probability": ({}, 0.0)},
}
# where the data lie, how they are read and fetched: the tests of each
NOT_BATCHES = {"folder", "download", "workers", "options"}


def _arguments(kind) -> set[str]:
    return (
        {
            name
            for one in kind.__mro__
            if "__init__" in vars(one) and one.__module__.startswith("kdlab.")
            for name in inspect.signature(one.__init__).parameters
        }
        - {"self"}
        - NOT_BATCHES
    )


def test_every_argument_has_its_line():
    bases = ("CausalText", "ClassificationData", "Data", "Images", "InMemory", "TextData")
    texts = ("CausalTextFiles", "HuggingFaceCausalTexts", "HuggingFaceTexts", "MaskTokens", "Sums", "TextFiles")
    for kind in (getattr(data, name) for name in data.__all__ if name not in (*bases, *texts)):
        (listed,) = [changes for one, changes in CHANGES.items() if issubclass(kind, one)]
        assert _arguments(kind) == set(listed), kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Besides usual images, one of 12 bits in 16 and one that its EXIF data turn; and a folder for validation."""
    root = folder_of_pictures(tmp_path_factory.mktemp("pictures"))
    Image.fromarray(np.linspace(0, 4095, 12 * 12).reshape(12, 12).astype(np.uint16)).save(
        root / "test" / "blue" / "deep.png"
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(COLOURS["red"], 20, 12, 99).save(root / "test" / "red" / "turned.jpg", exif=turned)
    shutil.copytree(root / "test", root / "held_out")
    return root


def _seen(loaded) -> list[torch.Tensor]:
    """All that a run is given in two epochs, and of validation and test."""
    training, seen = loaded.train_dataloader(), []
    for epoch in (0, 1):
        training.sampler.set_epoch(epoch)
        seen += [*training]
    seen += [*loaded.val_dataloader(), *loaded.test_dataloader()]
    return [
        value for batch in seen for value in (batch.inputs, batch.target, batch.index, batch.share) if value is not None
    ]


def _same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(
        one.shape == other.shape and bool((one == other).all()) for one, other in zip(first, second)
    )


@pytest.mark.parametrize("argument", CHANGES[InMemoryData])
def test_of_data_in_memory(argument):
    both, changed = CHANGES[InMemoryData][argument]
    first, again, other = (_seen(toy(**{**both, **more})) for more in ({}, {}, {argument: changed}))
    assert _same(first, again) and not _same(first, other)


@pytest.mark.parametrize("argument", CHANGES[ImageFolder])
def test_of_an_image_folder(argument, folder):
    def made(**more):
        loaded = ImageFolder(
            **{"folder": str(folder), "size": 8, "batch_size": 6, "workers": 0, "validation": 0.2, **both, **more}
        )
        loaded.setup()
        return loaded

    both, changed = CHANGES[ImageFolder][argument]
    changed = changed(folder) if inspect.isfunction(changed) else changed
    first, again, other = (_seen(made(**more)) for more in ({}, {}, {argument: changed}))
    assert _same(first, again) and not _same(first, other)


@pytest.mark.parametrize(
    "kind, argument",
    [(kind, argument) for kind in (Augment, Mixup, CutMix) for argument in CHANGES[kind]],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_of_what_changes_images(kind, argument):
    both, changed = CHANGES[kind][argument]
    role = "augment" if kind is Augment else "mixing"
    first, again, other = (_seen(toy(**{role: kind(**both, **more)})) for more in ({}, {}, {argument: changed}))
    assert _same(first, again) and not _same(first, other)


@pytest.mark.parametrize("argument", CHANGES[RandomResizedCrop])
def test_of_crops(argument):
    """The box in an image of 64 x 48 pixels, and whether it is mirrored, of 40 samples."""
    both, changed = CHANGES[RandomResizedCrop][argument]
    first, other = (RandomResizedCrop(**both, **more) for more in ({}, {argument: changed}))
    drawn = first.draw(torch.arange(40), 1, 0)
    assert [first.box(one, 64, 48) for one in drawn] != [other.box(one, 64, 48) for one in drawn]


@pytest.mark.parametrize("kind", [Diabetes, DigitAttributes])
@pytest.mark.parametrize("argument", sorted(set(WITHOUT_CLASSES) - {"mixing"}))
def test_of_data_without_classes(kind, argument):
    both, changed = WITHOUT_CLASSES[argument]
    first, again, other = (_seen(kind(**{**both, **more})) for more in ({}, {}, {argument: changed}))
    assert _same(first, again) and not _same(first, other)
