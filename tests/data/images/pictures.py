"""Small folders of images for the tests."""

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 40, 220), "green": (40, 210, 50), "red": (220, 30, 40)}


def picture(colour, width, height, number):
    """Noise around a colour, so that a network can tell the classes and no two images are the same."""
    noise = np.random.default_rng([number, *colour]).integers(-30, 31, (height, width, 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


def folder_of_pictures(root, train=12, test=4, test_name="test", colours=COLOURS, side=12):
    """``root/train/CLASS/*.png`` and ``root/test/CLASS/*.jpg`` of several sizes."""
    for split, count, ending in (("train", train, "png"), (test_name, test, "jpg")):
        for name, colour in colours.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                picture(colour, side + number % 5, side + 3 * (number % 3), number).save(
                    root / split / name / f"{number:03}.{ending}"
                )
    return root
