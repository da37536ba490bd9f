"""An answer is kept only where the data give the same inputs again, and is used only for these inputs."""

import random
import sys

import numpy as np
import pytest
import torch
from torch import nn

from kdlab import train
from kdlab.cache import Cached, Contents, Store, fill
from kdlab.cache.contents import code_digest
from kdlab.cache.filling import check_room
from kdlab.cache.inputs import check_repeatable, inputs_digest
from kdlab.cache.store import CannotKeep
from kdlab.config.compose import compose
from kdlab.data import Augment, Digits
from kdlab.tasks import Classification
from kdlab.teachers import Frozen
from kdlab.training.ensure import ensure

SHORT = ["trainer.max_epochs=1", "progress=none", 'teacher.overrides=["trainer.max_epochs=2","data=digits"]']


class Loose:
    """Draws from torch's own random numbers."""

    def __call__(self, images, index, seed, epoch, view=0):
        return images.float() + torch.randn(images.shape)


class OwnLoader(Digits):
    """Its loader draws; ``augment`` does not."""

    def loader(self, stored, **options):
        if options["split"] == "train":
            options["augment"] = lambda images, index, seed, epoch, view: images.float() + epoch
        return super().loader(stored, **options)


class Noisy(Digits):
    """Its preparation draws, also on validation."""

    def prepare_images(self, images):
        return super().prepare_images(images) + random.random() + np.random.rand()


class Mirrored(Digits):
    mirrored = False

    def read(self):
        train, test = super().read()
        if Mirrored.mirrored:
            train.inputs = train.inputs.flip(-1)
        return train, test


def made(kind=Digits, **options):
    data = kind(batch_size=32, validation=0.2, **options)
    data.seed = 5
    data.setup()
    return data


@pytest.mark.parametrize(
    ("data", "fixed", "message"),
    [
        ({"augment": Loose()}, False, "data.augment: the same train samples have other inputs each time"),
        ({"kind": Noisy}, True, "data: the same train samples have other inputs each time"),
        ({"kind": OwnLoader}, True, "data: OwnLoader gives other train inputs in other epochs .*; teacher.cache=views"),
    ],
)
def test_inputs_that_are_not_given_again_are_refused(data, fixed, message):
    with pytest.raises(CannotKeep, match=message):
        check_repeatable(made(**data), fixed)


@pytest.mark.parametrize(
    ("data", "fixed"),
    [({}, True), ({"augment": Augment(crop_padding=1, flip=0.5)}, False), ({"kind": OwnLoader}, False)],
)
def test_inputs_that_are_given_again(data, fixed):
    check_repeatable(made(**data), fixed)


def test_looking_at_the_data_draws_no_random_numbers_of_the_run():
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seeded():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seeded()
    expected = drawn()
    seeded()
    inputs_digest(made(Noisy))
    with pytest.raises(CannotKeep):
        check_repeatable(made(Noisy), True)
    assert drawn() == expected


def test_the_digest_of_data(monkeypatch):
    one = inputs_digest(made(Mirrored))
    assert one == inputs_digest(made(Digits)) == inputs_digest(made(Digits, augment=Augment()))
    assert one != inputs_digest(made(Digits, augment=Augment(crop_padding=1)))
    monkeypatch.setattr(Mirrored, "mirrored", True)
    assert one != inputs_digest(made(Mirrored))
    other = made()
    other._both()[0].inputs[-1, 0, 0, 0] += 1  # one pixel of one sample
    assert one != inputs_digest(other)


def test_the_digest_of_own_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "mine_for_digest.py"
    file.write_text("def net():\n    return 1\n")
    node = {"a": [{"_target_": "mine_for_digest.net"}]}
    one = code_digest(node, None)
    assert one == code_digest(None, node) and len(one) == 64
    file.write_text("def net():\n    return 2\n")
    sys.modules.pop("mine_for_digest")
    assert code_digest(node) != one
    assert code_digest({"_target_": "kdlab.models.MLP"}) == ""


def test_other_inputs_by_the_same_config_have_answers_of_their_own(workplace, monkeypatch):
    own = [*SHORT, f"data._target_={__name__}.Mirrored"]
    first = train([*own, "name=before", "teacher.cache=fixed"])
    again = train([*own, "name=again", "teacher.cache=fixed"])
    monkeypatch.setattr(Mirrored, "mirrored", True)
    live = train([*own, "name=live", "teacher.cache=live"])
    kept = train([*own, "name=kept", "teacher.cache=fixed"])
    assert [one.record["cache"]["computed"] for one in (first, again, kept)] == [1, 0, 1]
    assert kept.record["metrics"] == live.record["metrics"] != first.record["metrics"]
    assert {**kept.record["teacher"], "runs": 0} == {**live.record["teacher"], "runs": 0}


def test_a_sweep_asks_live_where_inputs_are_not_given_again(workplace):
    own = [*SHORT, f"data._target_={__name__}.OwnLoader"]
    live = train([*own, "name=live", "teacher.cache=live"])
    config = compose([*own, "name=kept", "teacher.cache=fixed"])
    config["teacher"]["cache_auto"] = True
    lines = []
    kept = ensure(config, lines.append)
    assert sum("asked in every step: data: OwnLoader gives other train inputs" in line for line in lines) == 1
    assert kept.record["metrics"] == live.record["metrics"] and kept.record["cache"]["computed"] == 0


class Longest(nn.Module):
    """Answers whose second dimension is that of the batch's longest sample."""

    def forward(self, inputs):
        longest = int((inputs.flatten(1) > 0).sum(1).max())
        return torch.zeros(len(inputs), longest)


def test_answers_of_a_size_that_differs_from_batch_to_batch(tmp_path):
    data = made()
    contents = Contents({}, "w", {}, {}, "", "fixed", None, 32, "cpu, 1 threads", torch.__version__)
    teacher = Cached(lambda: Frozen(Longest(), Classification(classes=10)), Store.of(tmp_path, "t", contents), True)
    with pytest.raises(CannotKeep, match="the size of logits differs from batch to batch"):
        fill(teacher, data, "train", rows=32)
    assert not teacher.store.files()
    loader = data.in_order("train")
    plain = type(loader).batch

    def masked(self, rows, epoch=0, normalisers=None):
        return plain(self, rows, epoch, normalisers).replace(mask=torch.ones(len(rows), 64))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(loader), "batch", masked)
        with pytest.raises(CannotKeep, match="the size of logits differs from batch to batch"):
            check_room(teacher, data, epochs=1, views=1, limit=1e9)


def test_what_a_teacher_reads_counts(tmp_path):
    """Two tokenizers of the same numbers, of which one also makes types."""
    pytest.importorskip("transformers")
    from kdlab.data import TextFiles
    from tests.data.text.texts import options, text_file
    from tests.data.text.tiny_tokenizer import tokenizer_folder

    path, given = text_file(tmp_path / "t.tsv"), options(tmp_path)
    folders = [tokenizer_folder(tmp_path / str(types), types=types) for types in (False, True)]
    one, other = (inputs_digest(TextFiles(path, **given, teacher_tokenizer=folder)) for folder in folders)
    assert one != other
