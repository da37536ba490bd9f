import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from kdlab.data import ImageFolder, RandomResizedCrop
from kdlab.data.images.image_folder import read_image
from kdlab.data.images.listing import content, listing
from kdlab.data.loader import Share
from kdlab.errors import InputError
from tests.data.images.pictures import COLOURS, folder_of_pictures, picture


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return folder_of_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def own(tmp_path):
    """A folder that a test may spoil."""
    return folder_of_pictures(tmp_path / "own", train=2, test=1)


def data(folder, rank=0, world=1, accumulate=1, seed=1, **options):
    made = ImageFolder(
        **{
            "folder": str(folder),
            "size": 8,
            "batch_size": 7,
            "validation": 0.25,
            "workers": 0,
            "augment": RandomResizedCrop(),
            **options,
        }
    )
    made.seed, made.share = seed, Share(rank, world, accumulate)
    return made


def epoch_of(loader, epoch=0):
    loader.sampler.set_epoch(epoch)
    return list(loader)


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.target, b.target) and torch.equal(a.index, b.index)
        assert (a.normaliser, a.epoch, a.split) == (b.normaliser, b.epoch, b.split)
        assert len(a.further_views) == len(b.further_views) and all(map(torch.equal, a.further_views, b.further_views))


# -- what is in the folder ---------------------------------------------------------------------------------------------


def test_classes_are_the_sorted_folders_and_files_are_sorted_within_them(root):
    given = data(root)
    assert given.class_names == ("blue", "green", "red") and given.classes == 3 and given.shape == (3, 8, 8)
    train, test = given.read()
    assert train.target.tolist() == [0] * 12 + [1] * 12 + [2] * 12 and test.target.bincount().tolist() == [4, 4, 4]
    assert [train.path(row) for row in (0, 11, 12, 35)] == [
        str(root / "train" / name) for name in ("blue/000.png", "blue/011.png", "green/000.png", "red/011.png")
    ]
    assert test.path(11) == str(root / "test" / "red" / "003.jpg")


def test_val_is_the_test_split_where_there_is_no_test(tmp_path):
    folder_of_pictures(tmp_path, train=2, test=1, test_name="val")
    assert data(tmp_path).read()[1].path(0) == str(tmp_path / "val" / "blue" / "000.jpg")
    before = content(tmp_path)
    os.rename(tmp_path / "val", tmp_path / "test")
    assert data(tmp_path).read()[1].path(0) == str(tmp_path / "test" / "blue" / "000.jpg")
    assert content(tmp_path) == before, "however the split is called, it is the same"


def test_folders_in_a_class_other_files_and_strange_names(own):
    (own / "train" / "red" / "images").mkdir()
    picture((1, 2, 3), 4, 4, 0).save(own / "train" / "red" / "images" / "größe 1.JPEG")
    for name in ("notes.txt", ".hidden.png"):
        (own / "train" / "red" / name).write_text("")
    (own / "train" / ".cache").mkdir()
    train, _ = data(own).read()
    assert train.classes == ("blue", "green", "red")
    assert [os.path.relpath(train.path(row), own) for row in range(4, 7)] == [
        "train/red/000.png",
        "train/red/001.png",
        "train/red/images/größe 1.JPEG",
    ]


def test_the_content_is_names_and_sizes(own):
    before = content(own)
    assert before == content(own) == content(f"{own}/")
    (own / "train" / "red" / "notes.txt").write_text("no image")
    assert content(own) == before
    path = own / "train" / "red" / "001.png"
    os.rename(path, path.with_name("002.png"))
    renamed = content(own)
    assert renamed != before
    with open(path.with_name("002.png"), "ab") as file:
        file.write(b"x")
    # a file that only grew is seen in the next process, or when something moves
    os.utime(own / "train" / "red", ns=(1, 1))
    assert content(own) not in (before, renamed)


def test_the_identity_of_a_run(own, tmp_path):
    from kdlab.config.compose import compose
    from kdlab.runs.identity import run_hash

    def of(folder, *more):
        return run_hash(
            compose(
                [
                    "data=image_folder",
                    f"data.folder={folder}",
                    "data.classes=3",
                    "teacher=none",
                    "strategy=supervised",
                    *more,
                ]
            )
        )

    before = of(own)
    os.rename(own, tmp_path / "moved")
    assert of(tmp_path / "moved") == before, "wherever it lies, it is the same"
    assert of(tmp_path / "moved", "data.workers=0") == before, "who decodes does not matter"
    assert of(tmp_path / "moved", "data.size=32") != before
    picture((1, 2, 3), 4, 4, 0).save(tmp_path / "moved" / "train" / "red" / "more.png")
    assert of(tmp_path / "moved") != before


def test_the_list_of_files_is_arrays(root):
    train = listing(root).train
    assert train.names.dtype == np.uint8 and train.ends.dtype == np.int64
    assert train.names.nbytes == 12 * sum(len(f"{name}/000.png") for name in COLOURS)


# -- batches -----------------------------------------------------------------------------------------------------------


def test_evaluation_reads_the_centre_and_normalises_every_channel(root):
    given = data(root, augment=None, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7], evaluation_batch_size=5)
    batches = list(given.test_dataloader())
    assert [len(batch) for batch in batches] == [5, 5, 2] and batches[0].split == "test"
    inputs = torch.cat([batch.inputs for batch in batches])
    assert inputs.shape == (12, 3, 8, 8) and inputs.dtype is torch.float32
    # the colours of the classes, whatever was cropped
    means = torch.tensor([COLOURS[name] for name in given.class_names]) / 255
    expected = ((means - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.6, 0.7])).repeat_interleave(4, 0)
    assert torch.allclose(inputs.mean((2, 3)), expected, atol=0.15)
    transforms = pytest.importorskip("torchvision.transforms")
    theirs = transforms.Compose(
        [
            transforms.Resize(9),
            transforms.CenterCrop(8),
            transforms.ToTensor(),
            transforms.Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]),
        ]
    )
    with Image.open(given.read()[1].path(6)) as image:
        assert torch.allclose(inputs[6], theirs(image), atol=1e-6)


def test_training_crops_are_a_function_of_seed_epoch_view_and_sample(root):
    loader = data(root).train_dataloader()
    rows = torch.tensor([3, 14, 30, 8])
    together = loader.batch(rows, epoch=2).inputs
    for number, row in enumerate(rows):
        assert torch.equal(loader.batch(row[None], epoch=2).inputs[0], together[number])
    assert not torch.equal(loader.batch(rows, epoch=3).inputs, together)
    assert not torch.equal(data(root, seed=2).train_dataloader().batch(rows, epoch=2).inputs, together)


def test_two_views_are_of_the_same_samples_and_the_first_stays_as_it_was(root):
    given = data(root)
    alone = epoch_of(given.train_dataloader())[0]
    given.views = 2
    both = epoch_of(given.train_dataloader())[0]
    assert alone.further_views == () and torch.equal(both.inputs, alone.inputs)
    (second,) = both.further_views
    assert second.shape == both.inputs.shape and not torch.equal(second, both.inputs)
    assert next(iter(given.val_dataloader())).further_views == ()


def test_without_augmentation_training_reads_the_centre_too(root):
    batch = data(root, augment=None).train_dataloader().batch(torch.tensor([5]))
    transforms = pytest.importorskip("torchvision.transforms")
    with Image.open(root / "train" / "blue" / "005.png") as image:
        theirs = transforms.CenterCrop(8)(transforms.Resize(9)(image))
    assert torch.allclose(
        batch.inputs[0] * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        + torch.tensor([0.485, 0.456, 0.406])[:, None, None],
        torch.from_numpy(np.array(theirs)).permute(2, 0, 1) / 255,
        atol=1e-6,
    )


def test_validation_is_held_out_and_a_strategy_may_give_its_own_order(root):
    given = data(root, fraction=0.5, omit_classes=[1])
    train, validation = given.part("train").tolist(), given.part("validation").tolist()
    assert len(validation) == 9 and not set(train) & set(validation) and given.train_size == 36
    loader = given.train_dataloader()
    assert loader.target[given.part("train")].bincount(minlength=3).tolist() == [4, 0, 4]
    given.order = lambda epoch: given.part("train").flip(0)
    assert torch.equal(epoch_of(given.train_dataloader())[0].index, given.part("train").flip(0)[:7])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_bit(root, workers):
    options = dict(drop_last=False, evaluation_batch_size=4)
    alone, helped = data(root, **options), data(root, workers=workers, **options)
    alone.views = helped.views = 3
    ours, theirs = alone.train_dataloader(), helped.train_dataloader()
    for epoch in (0, 1, 5):
        same(epoch_of(ours, epoch), epoch_of(theirs, epoch))
    same(list(alone.val_dataloader()), list(helped.val_dataloader()))
    same(list(alone.test_dataloader()), list(helped.test_dataloader()))
    assert theirs._pool._iterator is not None, "the workers stay from epoch to epoch"
    workers = theirs._pool._iterator._workers
    helped.teardown()
    for process in workers:
        process.join(10)
    assert not any(process.is_alive() for process in workers)
    same(epoch_of(ours, 2), epoch_of(theirs, 2))


def test_an_epoch_left_early_does_not_disturb_the_next(root):
    loader = data(root, workers=2).train_dataloader()
    next(iter(loader))
    same(epoch_of(data(root).train_dataloader(), 1), epoch_of(loader, 1))


def test_an_epoch_set_behind_the_iterator_still_counts(root):
    # on resume the iterator exists before the epoch is known
    loader = data(root, workers=1).train_dataloader()
    iterator = iter(loader)
    loader.sampler.set_epoch(7)
    same([next(iterator)], epoch_of(data(root).train_dataloader(), 7)[:1])


def test_more_workers_than_processors_are_the_users_to_choose(root, recwarn):
    loader = data(root, workers=(os.cpu_count() or 1) + 1).train_dataloader()
    list(loader)
    loader.close()
    assert not [str(one.message) for one in recwarn.list if "DataLoader will create" in str(one.message)]


def test_workers_leave_the_global_random_numbers_alone(root):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(data(root, workers=1).train_dataloader())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_shares_of_two_ranks_make_up_the_batches_of_one_process(root, workers):
    options = dict(drop_last=False, batch_size=7)
    alone = epoch_of(data(root, **options).train_dataloader())
    shares = [epoch_of(data(root, rank, 2, 2, workers=workers, **options).train_dataloader()) for rank in range(2)]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(torch.cat([part.index for part in parts]), whole.index)
        assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
    # 27 samples in batches of 7, 7, 7, 6, two of them a step, on two ranks
    assert [batch.normaliser for batch in shares[0]] == [3.5, 3.5, 3.25, 3.25]


# -- images of every kind ----------------------------------------------------------------------------------------------


PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "1", "P", "CMYK", "I;16"])
def test_every_mode_is_read_as_rgb(tmp_path, mode):
    if mode == "I;16":
        image, expected = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), np.repeat(PIXELS[..., :1], 3, 2)
    else:
        image = Image.fromarray(PIXELS).convert(mode)
        expected = np.asarray(image.convert("RGB"))
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    found = read_image(str(path))
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), expected)


def test_a_palette_with_a_transparent_colour(tmp_path, recwarn):
    image = Image.fromarray(PIXELS).convert("P")
    image.save(tmp_path / "image.png", transparency=bytes(range(16)))
    assert np.array_equal(np.asarray(read_image(str(tmp_path / "image.png"))), np.asarray(image.convert("RGB")))
    assert not recwarn.list


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[: len(content) // 2], lambda content: b"<html>", lambda content: content[:20]],
    ids=["truncated", "web page", "first bytes"],
)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_damaged_image_is_named(tmp_path, spoil, ending):
    path = tmp_path / f"image.{ending}"
    picture((9, 99, 199), 40, 40, 0).save(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=f"image.{ending} cannot be read as an image .*fetch it again or remove it"):
        read_image(str(path))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named_in_the_middle_of_an_epoch(own, workers):
    path = own / "train" / "green" / "001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="^data: .*green/001.png cannot be read as an image") as error:
        list(data(own, batch_size=3, validation=0.5, workers=workers).train_dataloader())
        list(data(own, batch_size=3, validation=0.5, workers=workers).val_dataloader())
    assert "Traceback" not in str(error.value)


# -- folders that do not do --------------------------------------------------------------------------------------------


def _remove(path):
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


SPOILT = {
    "no folder": (
        lambda own: os.rename(own, own.with_name("away")),
        ["no image folder", "own", "train/CLASS", "data.folder"],
    ),
    "no train": (lambda own: os.rename(own / "train", own / "away"), ["no folder train;", "train/CLASS"]),
    "no test": (lambda own: os.rename(own / "test", own / "away"), ["no folder test (and no val);"]),
    "no classes": (
        lambda own: [_remove(own / "train" / name) for name in COLOURS],
        ["train holds 0 class folders (none)"],
    ),
    "one class": (
        lambda own: [_remove(own / split / name) for split in ("train", "test") for name in ("red", "blue")],
        ["train holds 1 class folders (green)", "at least two"],
    ),
    "a class that train lacks": (
        lambda own: _remove(own / "train" / "red"),
        ["test has classes that train lacks: red"],
    ),
    "a class that test lacks": (lambda own: _remove(own / "test" / "red"), ["test lacks classes that train has: red"]),
    "an empty class": (
        lambda own: [file.unlink() for file in (own / "train" / "blue").iterdir()],
        ["train has class folders without images", "blue"],
    ),
    "an empty file": (lambda own: (own / "train" / "blue" / "000.png").write_bytes(b""), ["blue/000.png is empty"]),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_folder_that_does_not_do(own, name):
    spoil, words = SPOILT[name]
    spoil(own)
    with pytest.raises(InputError) as error:
        data(own).setup()
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"size": 0}, "^size "),
        ({"resize": 7}, "^resize must be at least size=8"),
        ({"workers": -1}, "^workers "),
        ({"augment": print}, "^augment "),
        ({"mean": [0.1, 0.2]}, "mean and std"),
        ({"std": [0.1, 0.0, 0.1]}, "std must be greater"),
    ],
)
def test_bad_arguments(root, arguments, words):
    with pytest.raises(ValueError, match=words):
        data(root, **arguments)


def test_a_class_to_omit_that_is_none(root):
    with pytest.raises(InputError, match="data.omit_classes names classes from 0 to 2"):
        data(root, omit_classes=[3]).setup()


def test_a_list_of_many_files_is_quick(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(1000):
                (tmp_path / split / name / f"{number}.jpg").write_bytes(b"x")
    began = time.perf_counter()
    first = listing(tmp_path)
    assert listing(tmp_path) is first and len(first.train.target) == 2000 and time.perf_counter() - began < 2
