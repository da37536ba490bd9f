import gzip
import struct

import pytest
import torch

from kdlab.data import FashionMNIST
from kdlab.data.images import fashion_mnist
from kdlab.errors import InputError

TRAIN, TEST = 40, 10
IMAGES = torch.randint(0, 256, (TRAIN + TEST, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(TRAIN + TEST, dtype=torch.uint8) % 10


@pytest.fixture(autouse=True)
def no_copy_of_the_system(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_FOLDER", tmp_path / "system")


def idx(array):
    return bytes([0, 0, 8, array.dim()]) + struct.pack(f">{array.dim()}i", *array.shape) + array.numpy().tobytes()


def write(folder, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(TRAIN)), ("t10k", slice(TRAIN, None))):
        for name, array in (("images-idx3", IMAGES[rows]), ("labels-idx1", LABELS[rows])):
            content = idx(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def data(folder):
    return FashionMNIST(folder=str(folder), batch_size=4, validation=0.25)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", [".", "fashion_mnist", "fashion-mnist", "FashionMNIST/raw"])
def test_it_reads_plain_and_packed_files_in_the_usual_folders(tmp_path, packed, below):
    write(tmp_path / "my-fashion" / below, packed)
    train, test = data(tmp_path / "my-fashion").read()
    assert torch.equal(train.inputs, IMAGES[:TRAIN, None]) and torch.equal(test.inputs, IMAGES[TRAIN:, None])
    assert train.target.dtype is torch.int64 and train.target.tolist() == LABELS[:TRAIN].tolist()
    assert test.target.tolist() == LABELS[TRAIN:].tolist()


def test_the_copy_of_the_system_is_found_after_the_users_own(tmp_path):
    write(tmp_path / "system")
    assert len(data(tmp_path / "my-fashion").read()[0].target) == TRAIN
    mine = write(tmp_path / "my-fashion")
    (mine / "train-labels-idx1-ubyte").write_bytes(idx(torch.full((TRAIN,), 9, dtype=torch.uint8)))
    assert set(data(mine).read()[0].target.tolist()) == {9}


def test_its_batches(tmp_path):
    given = data(write(tmp_path / "my-fashion"))
    given.setup()
    batch = next(iter(given.train_dataloader()))
    assert batch.inputs.shape == (4, 1, 28, 28)
    assert torch.allclose(batch.inputs[:, 0], (IMAGES[batch.index].float() / 255 - 0.2860) / 0.3530, atol=1e-6)
    assert len(given.part("validation")) == 10


def test_missing_data_name_the_folders_and_the_cure(tmp_path):
    with pytest.raises(InputError) as error:
        data(tmp_path / "my-fashion").setup()
    message = str(error.value)
    for folder in ("my-fashion", "my-fashion/fashion_mnist", "my-fashion/FashionMNIST/raw", "system"):
        assert str(tmp_path / folder) in message
    assert "data.download=true" in message and "apt-get install dataset-fashion-mnist" in message


def test_an_incomplete_folder_names_the_missing_file(tmp_path):
    (write(tmp_path / "my-fashion") / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte"):
        data(tmp_path / "my-fashion").read()


@pytest.mark.parametrize(
    "packed, spoil",
    [
        pytest.param(False, lambda content: content[:-100], id="truncated"),
        pytest.param(False, lambda content: b"", id="empty"),
        pytest.param(False, lambda content: content[:3], id="first bytes"),
        pytest.param(False, lambda content: content[:9], id="half a header"),
        pytest.param(False, lambda content: b"<html>" + content, id="web page"),
        pytest.param(False, lambda content: content + b"x", id="too long"),
        pytest.param(True, lambda content: content[:-100], id="truncated gz"),
        pytest.param(True, lambda content: b"", id="empty gz"),
        pytest.param(True, lambda content: b"<html>" + content, id="web page gz"),
        pytest.param(True, lambda content: content[:10] + b"\xff" * 20 + content[30:], id="damaged gz"),
        pytest.param(True, lambda content: content[:-8] + bytes(8), id="wrong checksum gz"),
    ],
)
def test_a_spoilt_file_is_named(tmp_path, packed, spoil):
    path = write(tmp_path / "my-fashion", packed) / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=path.name) as error:
        data(tmp_path / "my-fashion").read()
    assert "again" in str(error.value)


def test_images_and_labels_of_different_length_are_refused(tmp_path):
    path = write(tmp_path / "my-fashion") / "train-labels-idx1-ubyte"
    path.write_bytes(idx(LABELS[:7]))
    with pytest.raises(InputError, match="40.*7|7.*40"):
        data(tmp_path / "my-fashion").setup()
