"""Files that hold more than weights, or none: what is read, what is refused, and that nothing in them is run."""

import argparse
import collections
import datetime
import gzip
import pathlib
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from kdlab.errors import InputError
from kdlab.weights.reading import StandIn, read_checkpoint

WEIGHTS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.zeros(2)}


class Options(dict):
    """As EasyDict, yacs and omegaconf have it: a mapping with attributes."""


class History(list):
    pass


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, milestones=[1, 2]),
        np.float64(90.5),
        np.arange(3),
        np.dtype("f4"),
        pathlib.PurePosixPath("a/b"),
        datetime.datetime(2024, 1, 2),
        datetime.timedelta(3),
        collections.defaultdict(list, a=[1]),
        collections.OrderedDict(a=1),
        Options(lr=0.1, deep=Options(a=1)),
        History([1, Options(a=2)]),
        torch.float16,
        torch.device("cpu"),
        {1, 2},
        slice(1, 2),
        frozenset({3}),
        pytest.param(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), id="optimiser"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_weights_are_read_whatever_lies_beside_them(tmp_path, beside, zipped):
    torch.save({"args": beside, "model": WEIGHTS}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "x.pth")
    assert torch.equal(found["model"]["weight"], WEIGHTS["weight"]) and torch.equal(
        found["model"]["bias"], WEIGHTS["bias"]
    )


def test_what_lies_beside_them_is_not_read_as_what_it_is(tmp_path):
    torch.save({"args": argparse.Namespace(lr=0.1), "model": WEIGHTS}, tmp_path / "x.pth")
    found = read_checkpoint(tmp_path / "x.pth")["args"]
    assert isinstance(found, StandIn) and type(found).__name__ == "Namespace" and found.state == {"lr": 0.1}


class Runs:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize(
    "function, name",
    [
        (exec, "builtins.exec"),
        (eval, "builtins.eval"),
        (subprocess.call, "subprocess.call"),
        (shutil.rmtree, "shutil.rmtree"),
    ],
)
def test_a_file_that_would_call_something_is_refused_and_calls_nothing(tmp_path, function, name):
    (tmp_path / "kept").mkdir()
    argument = {
        exec: f"open({str(tmp_path / 'ran')!r}, 'w')",
        eval: f"open({str(tmp_path / 'ran')!r}, 'w')",
        subprocess.call: ["touch", str(tmp_path / "ran")],
        shutil.rmtree: str(tmp_path / "kept"),
    }[function]
    torch.save({"model": WEIGHTS, "x": Runs(function, argument)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=f"x.pth is refused: .* would call {name}"):
        read_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "ran").exists() and (tmp_path / "kept").exists()


def test_a_function_of_anyone_is_not_called_either(tmp_path):
    torch.save({"model": WEIGHTS, "x": Runs(pathlib.Path.touch, tmp_path / "ran")}, tmp_path / "x.pth")
    try:
        read_checkpoint(tmp_path / "x.pth")
    except InputError:
        pass
    assert not (tmp_path / "ran").exists()


def test_the_beginning_of_a_file_says_what_it_is_and_not_its_name(tmp_path):
    from safetensors.torch import save_file

    save_file(WEIGHTS, tmp_path / "a.pth")
    torch.save(WEIGHTS, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        assert torch.equal(read_checkpoint(tmp_path / name)["weight"], WEIGHTS["weight"])


def _tar(path):
    (path.parent / "inner").write_bytes(b"1")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "inner", "inner")


def _zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.pth", b"1")


def _cut(path):
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-200])


def _cut_safetensors(path):
    from safetensors.torch import save_file

    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    "make, words",
    [
        (b"", "it is empty .0 bytes."),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page .HTML."),
        (b"<html>404</html>", "a web page .HTML."),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
        (b'{"message": "Not Found"}', 'a text that begins \'{"message"'),
        (b"Entry not found", "a text that begins 'Entry not found'"),
        (gzip.compress(b"1", mtime=0), "compressed by gzip"),
        (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
        (b"\x89HDF\r\n\x1a\n....", "HDF5"),
        (b"\x00\x01\x02\x03" * 10, "damaged or cut short"),
        (_tar, "a tar archive; unpack it"),
        (_zip, "a zip archive of model.pth; unpack it"),
        (_cut, "cut short"),
        (_cut_safetensors, "damaged or cut short"),
        (lambda path: np.savez(path.open("wb"), a=np.ones(1)), "NumPy's arrays"),
    ],
)
def test_what_holds_no_weights_is_named_for_what_it_is(tmp_path, make, words):
    path = tmp_path / "x.pth"
    path.write_bytes(make) if isinstance(make, bytes) else make(path)
    with pytest.raises(InputError, match=f"x.pth cannot be read as a checkpoint: .*{words}"):
        read_checkpoint(path)


def test_a_network_of_torchscript_and_how_to_save_its_weights(tmp_path):
    torch.jit.script(nn.Linear(3, 2)).save(tmp_path / "x.pth")
    with pytest.raises(InputError, match="TorchScript") as raised:
        read_checkpoint(tmp_path / "x.pth")
    command = next(line for line in str(raised.value).splitlines() if line.startswith("  python -c")).replace(
        "python", sys.executable, 1
    )
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert set(read_checkpoint(tmp_path / "x_weights.pth")) == {"weight", "bias"}


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_network_of_the_old_format_and_how_to_save_its_weights(tmp_path):
    torch.save(nn.Linear(3, 2), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="whole network .in the format before torch 1.6.") as raised:
        read_checkpoint(tmp_path / "x.pth")
    command = next(line for line in str(raised.value).splitlines() if line.startswith("  python -c")).replace(
        "python", sys.executable, 1
    )
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert set(read_checkpoint(tmp_path / "x_weights.pth")) == {"weight", "bias"}


def test_a_folder_and_nothing(tmp_path):
    with pytest.raises(InputError, match="there is no checkpoint .*, but a folder of that name"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="there is no checkpoint .*none.pth$"):
        read_checkpoint(tmp_path / "none.pth")
