from dataclasses import dataclass

import pytest
import torch

from kdlab.batch import Batch


def batch(**more):
    given = dict(inputs=torch.ones(3, 2), target=torch.zeros(3, dtype=torch.long), index=torch.arange(3))
    return Batch(**{**given, **more})


def test_defaults():
    given = batch()
    assert len(given) == 3
    assert (given.mask, given.second_view, given.weights, given.normaliser) == (None, None, None, None)
    assert (given.split, given.epoch, given.view) == ("train", 0, 0)


def test_to_moves_every_tensor_and_keeps_the_rest():
    given = batch(mask=torch.ones(3, 2), second_view=torch.ones(3, 2), weights=torch.ones(3), normaliser=1.5, split="test", epoch=4)
    moved = given.to("meta")
    for name in ("inputs", "target", "index", "mask", "second_view", "weights"):
        assert getattr(moved, name).device.type == "meta", name
        assert getattr(given, name).device.type == "cpu", name
    assert (moved.normaliser, moved.split, moved.epoch, moved.view) == (1.5, "test", 4, 0)


@pytest.mark.parametrize("inputs", [{"ids": torch.ones(3, 2), "mask": torch.ones(3, 2)}, (torch.ones(3, 2), torch.ones(3, 2))])
def test_to_moves_inputs_that_are_collections(inputs):
    moved = batch(inputs=inputs).to("meta").inputs
    assert type(moved) is type(inputs)
    assert {value.device.type for value in (moved.values() if isinstance(moved, dict) else moved)} == {"meta"}


def test_to_copes_without_labels():
    assert batch(target=None).to("meta").target is None


def test_replace_leaves_the_original_alone():
    given = batch()
    changed = given.replace(weights=torch.ones(3), epoch=2)
    assert given.weights is None and given.epoch == 0
    assert changed.epoch == 2 and changed.weights.sum() == 3 and changed.inputs is given.inputs


def test_a_typed_subclass_stays_what_it_is():
    @dataclass
    class Tokens(Batch):
        prompt: torch.Tensor | None = None

    given = Tokens(torch.ones(3, 2), None, torch.arange(3), prompt=torch.ones(3))
    moved = given.to("meta").replace(epoch=1)
    assert type(moved) is Tokens and moved.prompt.device.type == "meta"


def test_replace_refuses_a_field_that_does_not_exist():
    with pytest.raises(TypeError, match="labels"):
        batch().replace(labels=None)
