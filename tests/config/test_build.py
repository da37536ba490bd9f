"""Building: kdlab's own keys left out, plain partials, messages that name the key."""

import functools
import pickle
from pathlib import Path

import pytest

from kdlab.config.build import build, recipe
from kdlab.config.signature import locate, signature
from kdlab.errors import InputError

MLP = {"_target_": "kdlab.models.MLP", "classes": 3, "shape": [2], "hidden": [4]}


def test_own_keys_are_left_out():
    assert build({**MLP, "taps": {"a": "stage1"}}, "student").classifier.out_features == 3


def test_a_recipe_is_a_plain_partial():
    made = recipe({"_target_": "torch.optim.SGD", "lr": 0.1}, "optimizer")
    assert type(made) is functools.partial and made.keywords == {"lr": 0.1}
    assert pickle.loads(pickle.dumps(made)).keywords == {"lr": 0.1}


def test_complaints_name_the_key():
    with pytest.raises(InputError, match=r"^loss\.kd: temperature must be greater than 0 and finite, got -1"):
        build({"_target_": "kdlab.losses.HintonKD", "temperature": -1, "weight": 1}, "loss.kd")


def test_only_one_module_calls_instantiate():
    package = Path(__file__).parents[2] / "kdlab"
    users = [
        path.relative_to(package).as_posix() for path in package.rglob("*.py") if "hydra.utils" in path.read_text()
    ]
    assert users == ["config/build.py"]


def test_options_are_followed_to_the_base():
    """``**options`` of a data set are the base's arguments, so a misspelling is found."""
    found = signature("kdlab.data.FashionMNIST")
    assert {"folder", "batch_size", "omit_classes"} <= set(found.accepted) and not found.open


@pytest.mark.parametrize(
    "line, words", [("raise SystemExit(4)", "SystemExit: 4"), ("raise StopIteration", "StopIteration")]
)
def test_a_module_that_ends_while_it_is_imported_is_named(tmp_path, monkeypatch, line, words):
    """A script without a main guard ends the process that imports it."""
    (tmp_path / "ends_itself.py").write_text(f"{line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError, match=f"'ends_itself.Network' cannot be imported: {words}$"):
        locate("ends_itself.Network")
