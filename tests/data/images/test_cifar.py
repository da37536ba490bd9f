import pickle
import struct

import numpy as np
import pytest
import torch

from kdlab.data import CIFAR10, CIFAR100
from kdlab.data.images import pickled
from kdlab.errors import InputError
from kdlab.normalisation import Normalisation

ROWS = 20  # images a file
PIXELS = np.random.default_rng(0).integers(0, 256, (6 * ROWS, 3072), dtype=np.uint8)
FINE = (np.arange(6 * ROWS) * 7) % 100


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    for kind in (CIFAR10, CIFAR100):
        monkeypatch.setattr(kind, "ROWS", {"train": ROWS, "test": ROWS})


def batches(kind):
    """(file, its rows) of a set whose files hold ``ROWS`` images each."""
    names = [name for split in kind.FILES.values() for name in split]
    return [(name, slice(number * ROWS, (number + 1) * ROWS)) for number, name in enumerate(names)]


def labels(kind, rows):
    return FINE[rows] % kind.CLASSES


def python2_pickle(content: dict) -> bytes:
    """As Python 2 wrote the official files: protocol 2, its plain strings, numpy's old module names."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    out = b"\x80\x02}("
    for key, value in content.items():
        out += text(key)
        if isinstance(value, np.ndarray):
            dtype = (
                b"cnumpy\ndtype\n("
                + text(b"u1")
                + number(0)
                + number(1)
                + b"tR("
                + number(3)
                + text(b"|")
                + b"NNN"
                + number(-1) * 2
                + number(0)
                + b"tb"
            )
            out += b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR("
            out += (
                number(1)
                + b"("
                + b"".join(map(number, value.shape))
                + b"t"
                + dtype
                + b"\x89"
                + text(value.tobytes())
                + b"tb"
            )
        else:
            out += b"](" + b"".join(map(number, value)) + b"e"
    return out + b"u."


def write_python(kind, folder, dump=python2_pickle):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in batches(kind):
        content = {b"data": PIXELS[rows], kind.LABELS[-1]: labels(kind, rows).tolist()}
        if len(kind.LABELS) == 2:
            content[kind.LABELS[0]] = [0] * ROWS
        (folder / name).write_bytes(dump(content))
    return folder


def write_binary(kind, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in batches(kind):
        coarse = [np.full((ROWS, 1), 3, np.uint8)] * (len(kind.LABELS) - 1)
        records = np.hstack([*coarse, labels(kind, rows)[:, None].astype(np.uint8), PIXELS[rows]])
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def data(kind, folder, **options):
    return kind(folder=str(folder), **{"batch_size": 4, "validation": 0.25, **options})


def check_content(kind, folder):
    train, test = data(kind, folder).read()
    count = len(kind.FILES["train"]) * ROWS
    for images, rows in ((train, slice(count)), (test, slice(count, count + ROWS))):
        assert images.inputs.dtype is torch.uint8 and images.target.dtype is torch.int64
        assert torch.equal(images.inputs, torch.from_numpy(PIXELS[rows]).reshape(-1, 3, 32, 32))
        assert images.target.tolist() == labels(kind, rows).tolist()


KINDS = pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])


@KINDS
@pytest.mark.parametrize("below", [".", "cifar{n}", "cifar-{n}", "CIFAR{n}", "cifar{n}/{folder}", "{folder}"])
@pytest.mark.parametrize("version", [0, 1], ids=["python", "binary"])
def test_both_versions_in_the_usual_folders(tmp_path, kind, below, version):
    below = below.format(n=kind.CLASSES, folder=kind.FOLDERS[version])
    (write_python if version == 0 else write_binary)(kind, tmp_path / below)
    check_content(kind, tmp_path)


@KINDS
@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_written_anew_by_python_3(tmp_path, kind, protocol):
    write_python(
        kind, tmp_path, lambda content: pickle.dumps({key.decode(): value for key, value in content.items()}, protocol)
    )
    check_content(kind, tmp_path)


def test_both_sets_in_one_folder_do_not_mix(tmp_path):
    write_python(CIFAR10, tmp_path / "cifar-10-batches-py"), write_python(CIFAR100, tmp_path / "cifar-100-python")
    check_content(CIFAR10, tmp_path), check_content(CIFAR100, tmp_path)


def test_every_channel_has_its_own_normalisation(tmp_path):
    given = data(CIFAR10, write_python(CIFAR10, tmp_path))
    given.setup()
    batch = given.train_dataloader().batch(torch.arange(5))
    pixels = PIXELS[:5].reshape(5, 3, 1024) / 255
    for channel, (mean, std) in enumerate(zip((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))):
        expected = torch.from_numpy((pixels[:, channel] - mean) / std).float()
        assert torch.allclose(batch.inputs[:, channel].flatten(1), expected, atol=1e-6)
    assert batch.inputs.shape == (5, 3, 32, 32) and batch.inputs.dtype is torch.float32


@KINDS
def test_missing_data_name_the_folders_and_the_cure(tmp_path, kind):
    with pytest.raises(InputError) as error:
        data(kind, tmp_path).setup()
    message = str(error.value)
    for folder in (tmp_path, tmp_path / f"cifar{kind.CLASSES}", *(tmp_path / name for name in kind.FOLDERS)):
        assert f"{folder}," in message or f"{folder}." in message
    assert (
        f"CIFAR-{kind.CLASSES} was not found" in message and "data.download=true" in message and "paths.data" in message
    )


def test_a_download_that_fails_says_so(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")

    def fails(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "CIFAR100", fails)
    with pytest.raises(InputError, match="data.download: CIFAR100 could not be fetched .*no route to host"):
        data(CIFAR100, tmp_path, download=True).read()


def test_a_download_is_read(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(
        datasets, "CIFAR10", lambda folder, download: write_python(CIFAR10, tmp_path / "cifar-10-batches-py")
    )
    assert len(data(CIFAR10, tmp_path, download=True).read()[0].target) == 5 * ROWS


@pytest.mark.parametrize("write, name", [(write_python, "data_batch_3"), (write_binary, "test_batch.bin")])
def test_an_incomplete_folder_names_the_missing_file(tmp_path, write, name):
    (write(CIFAR10, tmp_path) / name).unlink()
    with pytest.raises(InputError, match=f"holds no {name}; the data set there is incomplete"):
        data(CIFAR10, tmp_path).read()


@KINDS
@pytest.mark.parametrize("write", [write_python, write_binary])
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda content: content[:-100], id="truncated"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"<html>" + content, id="web page"),
        pytest.param(lambda content: content[:9], id="first bytes"),
        pytest.param(lambda content: content[: len(content) // ROWS], id="a single image"),
    ],
)
def test_a_spoilt_file_is_named(tmp_path, kind, write, spoil):
    name = kind.FILES["test"][0] + (".bin" if write is write_binary else "")
    path = write(kind, tmp_path) / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=f"{name} cannot be read .*fetch it again"):
        data(kind, tmp_path).read()


@pytest.mark.parametrize(
    "content, words",
    [
        ([1, 2], "not a dict"),
        ({}, "no rows of 3072 bytes"),
        ({b"data": PIXELS[:ROWS].astype(np.float32), b"labels": [0] * ROWS}, "no rows of 3072 bytes"),
        ({b"data": PIXELS[:ROWS, :100], b"labels": [0] * ROWS}, "no rows of 3072 bytes"),
        ({b"data": PIXELS[:ROWS]}, "labels"),
        ({b"data": PIXELS[:ROWS], b"labels": [0] * 7}, "20 images and 7 labels"),
        ({b"data": PIXELS[:ROWS], b"labels": [10] * ROWS}, "from 10 to 10"),
        ({b"data": PIXELS[:ROWS], b"labels": ["a"] * ROWS}, "whole numbers"),
    ],
)
def test_a_pickle_of_something_else(tmp_path, content, words):
    (write_python(CIFAR10, tmp_path) / "test_batch").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(InputError, match=words):
        data(CIFAR10, tmp_path).read()


def test_labels_of_the_binary_version_must_be_classes(tmp_path):
    path = write_binary(CIFAR10, tmp_path) / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(InputError, match="not from 0 to 9"):
        data(CIFAR10, tmp_path).read()


# -- the restricted reader ---------------------------------------------------------------------------------------------


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def test_no_code_of_a_file_is_run(tmp_path):
    folder = write_python(CIFAR10, tmp_path / "data")
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Runs(tmp_path / "made")}))
    with pytest.raises(InputError, match="data_batch_1.*asks for 'posix.mkdir'"):
        data(CIFAR10, folder).read()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy._core.multiarray\nscalar\n.",
        b"Pid\n.",
        b"cnumpy\ndtype.names\n.",
        b"\x82\x01.",
    ],
)
def test_what_else_a_pickle_may_try(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError):
        pickled.load(tmp_path / "file")


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3)),
        np.array([True, False]),
    ],
    ids=["big-endian", "fortran", "empty", "bool"],
)
def test_arrays_of_any_number(tmp_path, protocol, array):
    (tmp_path / "file").write_bytes(pickle.dumps({"a": [array], b"n": (1, 2.5, None, True)}, protocol))
    found = pickled.load(tmp_path / "file")
    assert (
        np.array_equal(found["a"][0], array)
        and found["a"][0].dtype == array.dtype
        and found[b"n"] == (1, 2.5, None, True)
    )


@pytest.mark.parametrize("array", [np.array([object()], dtype=object), np.array(["text"])])
@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_of_anything_else_are_refused(tmp_path, array, protocol):
    array = np.array([print], dtype=object) if array.dtype == object else array
    (tmp_path / "file").write_bytes(pickle.dumps(array, protocol))
    with pytest.raises(ValueError):
        pickled.load(tmp_path / "file")


def test_the_sets_say_what_the_config_says():
    from kdlab.config.check import check, check_facts
    from kdlab.config.compose import compose

    for name in ("cifar10", "cifar100"):
        config = compose([f"experiment=teacher/{name}"])
        check(config), check_facts(config)
        assert config["data"]["augment"] == {"_target_": "kdlab.data.Augment", "crop_padding": 4, "flip": 0.5}
        assert (config["trainer"]["max_epochs"], config["optimizer"]["lr"], config["scheduler"]["milestones"]) == (
            240,
            0.05,
            [150, 180, 210],
        )
    assert CIFAR100().normalisation == Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
