import math

import numpy as np
import pytest
import torch
from PIL import Image

from kdlab.data import RandomResizedCrop
from kdlab.data.images.crops import centre_cropped, cropped

INDEX = torch.arange(2000)


def boxes(crop, width, height, *key):
    return [crop.box(drawn, width, height) for drawn in crop.draw(INDEX, *(key or (1, 0)))]


def test_boxes_lie_in_the_image_and_have_the_areas_and_ratios_asked_for():
    found = boxes(RandomResizedCrop(flip=0.25), 400, 300)
    areas, ratios = [], []
    for (left, top, right, bottom), _ in found:
        assert 0 <= left < right <= 400 and 0 <= top < bottom <= 300
        areas.append((right - left) * (bottom - top) / 120_000), ratios.append((right - left) / (bottom - top))
    assert 0.078 < min(areas) and max(areas) <= 1 and 0.73 < min(ratios) and max(ratios) < 1.36
    # large boxes of some ratios do not fit and are drawn again, which moves both means; here the same by rejection
    generator = np.random.default_rng(0)
    area, ratio = generator.uniform(0.08, 1, 100_000), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), 100_000))
    fits = (np.sqrt(120_000 * area * ratio) <= 400) & (np.sqrt(120_000 * area / ratio) <= 300)
    assert np.mean(areas) == pytest.approx(area[fits].mean(), abs=0.02)
    assert np.mean(np.log(ratios)) == pytest.approx(np.log(ratio[fits]).mean(), abs=0.015)
    assert sum(mirrored for _, mirrored in found) / len(found) == pytest.approx(0.25, abs=0.05)
    places = np.array(
        [
            (left / max(400 - right + left, 1), top / max(300 - bottom + top, 1))
            for (left, top, right, bottom), _ in found
        ]
    )
    assert places.mean(0) == pytest.approx([0.5, 0.5], abs=0.03) and places.min() == 0 and places.max() == 1


def test_what_fits_at_once_has_the_area_and_ratio_that_were_drawn():
    crop = RandomResizedCrop((0.1, 0.3), (0.5, 2.0))
    for drawn in crop.draw(INDEX[:50], 3, 4, 1):
        (left, top, right, bottom), _ = crop.box(drawn, 1000, 1000)
        area, ratio = 1e6 * (0.1 + 0.2 * drawn[1]), math.exp(math.log(0.5) + drawn[2] * math.log(4.0))
        assert (right - left, bottom - top) == (round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio)))
        assert (left, top) == (int(drawn[3] * (1001 - (right - left))), int(drawn[4] * (1001 - (bottom - top))))


@pytest.mark.parametrize(
    "width, height, expected", [(1000, 10, (494, 0, 507, 10)), (10, 1000, (0, 494, 10, 507)), (1, 1, (0, 0, 1, 1))]
)
def test_where_no_box_fits_the_largest_centred_one_is_taken(width, height, expected):
    found = {box for box, _ in boxes(RandomResizedCrop((1.0, 1.0)), width, height)}
    assert found == {expected}


def test_the_crop_is_a_function_of_seed_epoch_view_and_index():
    crop = RandomResizedCrop()
    whole = crop.draw(INDEX, 1, 5, 0)
    assert crop.draw(INDEX[[7, 3]], 1, 5, 0) == [whole[7], whole[3]]
    for key in ((2, 5, 0), (1, 6, 0), (1, 5, 1)):
        assert all(a != b for a, b in zip(crop.draw(INDEX[:20], *key), whole))


def test_the_box_is_what_is_resized():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert np.asarray(cropped(image, (2, 3, 6, 7), 4)).tolist() == np.arange(64).reshape(8, 8)[3:7, 2:6].tolist()
    assert (
        np.asarray(cropped(image, (2, 3, 6, 7), 4, True)).tolist()
        == np.arange(64).reshape(8, 8)[3:7, 2:6][:, ::-1].tolist()
    )


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (224, 224), (30, 500), (57, 64)])
def test_the_centre_crop_is_that_of_torchvision(size):
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    theirs = transforms.CenterCrop(56)(transforms.Resize(64)(image))
    assert np.array_equal(np.asarray(centre_cropped(image, 64, 56)), np.asarray(theirs))


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"scale": (0, 1)}, "scale"),
        ({"scale": (0.1,)}, "scale"),
        ({"ratio": (2, 1)}, "ratio"),
        ({"flip": 2}, "flip"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} "):
        RandomResizedCrop(**arguments)
