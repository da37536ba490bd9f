import struct

import pytest
import torch

from kdlab.config.compose import compose
from kdlab.data import MNIST
from kdlab.errors import InputError

IMAGES = torch.arange(6 * 28 * 28).reshape(6, 28, 28).remainder(256).to(torch.uint8)
LABELS = torch.tensor([0, 0, 1, 1, 4, 5], dtype=torch.uint8)


def write(folder):
    folder.mkdir(parents=True)
    for part, rows in (("train", slice(4)), ("t10k", slice(4, None))):
        for name, array in (("images-idx3", IMAGES[rows]), ("labels-idx1", LABELS[rows])):
            header = bytes([0, 0, 8, array.dim()]) + struct.pack(f">{array.dim()}i", *array.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.numpy().tobytes())


@pytest.mark.parametrize("holds, given", [("data/mnist", "data"), ("data/MNIST/raw", "data"), ("my/MNIST", "my/MNIST")])
def test_it_is_found_where_a_folder_is_named_after_it(tmp_path, holds, given):
    write(tmp_path / holds)
    train, test = MNIST(folder=str(tmp_path / given)).read()
    assert torch.equal(train.inputs, IMAGES[:4, None]) and train.target.tolist() == [0, 0, 1, 1]
    assert torch.equal(test.inputs, IMAGES[4:, None]) and test.target.tolist() == [4, 5]


@pytest.mark.parametrize("other", [".", "fashion_mnist", "FashionMNIST/raw"])
def test_other_images_in_the_same_files_are_not_taken_for_it(tmp_path, other):
    write(tmp_path / "data" / other)
    with pytest.raises(InputError, match="MNIST was not found.*data/mnist.*data/MNIST/raw.*data.download=true"):
        MNIST(folder=str(tmp_path / "data")).read()


def test_its_pixels_are_normalised_by_its_own_mean_and_deviation(tmp_path):
    write(tmp_path / "mnist")
    data = MNIST(folder=str(tmp_path), batch_size=1, validation=0.5)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert torch.allclose(batch.inputs[:, 0], (IMAGES[batch.index].float() / 255 - 0.1307) / 0.3081, atol=1e-6)


def test_the_choice_composes():
    config = compose(["data=mnist"])
    assert config["data"]["_target_"] == "kdlab.data.MNIST" and config["data"]["shape"] == [1, 28, 28]
