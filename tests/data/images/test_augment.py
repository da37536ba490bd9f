import pytest
import torch

from kdlab.data.images.augment import Augment


def images(count=64, channels=2, height=5, width=7):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) + 0.1


def all_crops(image, padding):
    _, height, width = image.shape
    padded = torch.zeros(image.shape[0], height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    return {
        (down, right): padded[:, down : down + height, right : right + width]
        for down in range(2 * padding + 1)
        for right in range(2 * padding + 1)
    }


def test_nothing_asked_is_nothing_done():
    x = images()
    assert Augment()(x, torch.arange(64), seed=1, epoch=0) is x


def test_every_image_is_one_of_its_crops_and_all_places_occur():
    x, places = images(400), []
    for image, crop in zip(x, Augment(crop_padding=1)(x, torch.arange(400), seed=1, epoch=0)):
        found = [place for place, wanted in all_crops(image, 1).items() if torch.equal(crop, wanted)]
        assert len(found) == 1
        places += found
    # 400 / 9 a place, five standard deviations
    assert all(13 < places.count((down, right)) < 76 for down in range(3) for right in range(3))


@pytest.mark.parametrize("probability, low, high", [(0.5, 425, 575), (0.1, 50, 150), (1.0, 1000, 1000)])
def test_flips(probability, low, high):
    x = images(1000)
    y = Augment(flip=probability)(x, torch.arange(1000), seed=1, epoch=0)
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    kept = (y == x).flatten(1).all(1)
    assert (mirrored ^ kept).all() and low <= mirrored.sum() <= high


def test_crop_and_flip_are_drawn_independently():
    x = torch.zeros(4000, 1, 1, 3)
    x[..., 1] = 1.0
    index = torch.arange(4000)
    crops = Augment(crop_padding=1)(x, index, 1, 0)
    both = Augment(crop_padding=1, flip=0.5)(x, index, 1, 0)
    left, right = crops[:, 0, 0, 0] == 1, crops[:, 0, 0, 2] == 1
    mirrored_left = both[left][:, 0, 0, 2].mean().item()
    mirrored_right = both[right][:, 0, 0, 0].mean().item()
    assert mirrored_left == pytest.approx(0.5, abs=0.1) and mirrored_right == pytest.approx(0.5, abs=0.1)


def test_an_image_is_augmented_the_same_in_any_batch():
    augment, x = Augment(crop_padding=2, flip=0.5), images()
    whole = augment(x, torch.arange(64), 1, 5)
    rows = torch.tensor([40, 3, 17])
    assert torch.equal(augment(x[rows], rows, 1, 5), whole[rows])
    assert torch.equal(augment(x[7:8], torch.tensor([7]), 1, 5), whole[7:8])


@pytest.mark.parametrize("seed, epoch, view", [(2, 0, 0), (1, 1, 0), (1, 0, 1)])
def test_seed_epoch_and_view_change_it(seed, epoch, view):
    augment, x, index = Augment(crop_padding=2, flip=0.5), images(), torch.arange(64)
    one, other = augment(x, index, 1, 0, 0), augment(x, index, seed, epoch, view)
    assert torch.equal(one, augment(x, index, 1, 0, 0))
    assert (one == other).flatten(1).all(1).sum() < 16


@pytest.mark.parametrize("seed, epoch, view", [(2, 0, 0), (1, 1, 0), (1, 0, 1)])
@pytest.mark.parametrize(
    "options, alike", [({"flip": 0.5}, 1 / 2), ({"crop_padding": 2}, 1 / 25)], ids=["flip", "crop"]
)
def test_seed_epoch_and_view_change_each_alone(options, alike, seed, epoch, view):
    """Two independent draws of a fair flip agree on half of the images, of one of 25 places on a 25th of them (five
    standard deviations)."""
    augment, x, index = Augment(**options), images(400), torch.arange(400)
    same = (augment(x, index, 1, 0, 0) == augment(x, index, seed, epoch, view)).flatten(1).all(1).sum().item()
    assert abs(same - 400 * alike) < 5 * (400 * alike * (1 - alike)) ** 0.5


def test_the_images_given_are_left_alone():
    x = images()
    before = x.clone()
    y = Augment(crop_padding=2, flip=1.0)(x.half(), torch.arange(64), 1, 0)
    Augment(crop_padding=2, flip=1.0)(x, torch.arange(64), 1, 0)
    assert torch.equal(x, before) and y.dtype is torch.float16 and y.shape == x.shape


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"crop_padding": -1}, "crop_padding"),
        ({"flip": -0.1}, "flip"),
        ({"flip": 1.5}, "flip"),
        ({"flip": float("nan")}, "flip"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        Augment(**arguments)


class Inverted(Augment):
    def __call__(self, images, index, seed, epoch, view=0):
        return 255 - images


def test_whether_it_draws():
    """With nothing drawn, inputs are prepared once and a teacher is asked once."""
    assert Augment(flip=0.5).draws and Augment(crop_padding=1).draws and not Augment().draws
    assert Inverted().draws, "a class that augments in its own way says nothing of it by these two numbers"
