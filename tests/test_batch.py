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
    assert (given.mask, given.further_views, given.weights, given.normaliser, given.partner_target, given.share) == (
        None,
        (),
        None,
        None,
        None,
        None,
    )
    assert (given.split, given.epoch, given.view_number) == ("train", 0, 0)


def test_to_moves_every_tensor_and_keeps_the_rest():
    given = batch(
        mask=torch.ones(3, 2),
        weights=torch.ones(3),
        share=torch.ones(3),
        partner_target=torch.zeros(3, dtype=torch.long),
        normaliser=1.5,
        split="test",
        epoch=4,
        further_views=(torch.ones(3, 2), torch.ones(3, 2)),
    )
    moved = given.to("meta")
    for name in ("inputs", "target", "index", "mask", "weights", "share", "partner_target"):
        assert getattr(moved, name).device.type == "meta", name
        assert getattr(given, name).device.type == "cpu", name
    assert [view.device.type for view in moved.further_views] == ["meta", "meta"]
    assert (moved.normaliser, moved.split, moved.epoch, moved.view_number) == (1.5, "test", 4, 0)


@pytest.mark.parametrize(
    "inputs", [{"ids": torch.ones(3, 2), "mask": torch.ones(3, 2)}, (torch.ones(3, 2), torch.ones(3, 2))]
)
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


# -- views and parts ---------------------------------------------------------------------------------------------------


def test_a_view_is_the_batch_as_that_view_has_it():
    given = batch(
        further_views=(torch.full((3, 2), 5.0), torch.full((3, 2), 6.0)), share=torch.ones(3), normaliser=1.5, epoch=4
    )
    assert given.view(0) is given
    for number, value in ((1, 5.0), (2, 6.0)):
        seen = given.view(number)
        assert seen.inputs.unique().tolist() == [value] and (seen.further_views, seen.view_number) == ((), number)
        assert seen.target is given.target and seen.share is given.share and (seen.normaliser, seen.epoch) == (1.5, 4)


@pytest.mark.parametrize(
    "views, number, told",
    [
        ((), 1, "no view 1, only view 0;"),
        ((torch.ones(3, 2),), 2, "no view 2, only the views 0 to 1;"),
        ((torch.ones(3, 2),), -1, "no view -1"),
    ],
)
def test_a_view_that_is_not_there(views, number, told):
    with pytest.raises(ValueError, match=f"{told}.*`views`"):
        batch(further_views=views).view(number)


@pytest.mark.parametrize(
    "wrap",
    [lambda x: x, lambda x: {"ids": x, "types": x + 10}, lambda x: [x, x + 10]],
    ids=["tensor", "mapping", "list"],
)
def test_a_part_cuts_all_that_has_one_entry_a_sample(wrap):
    inputs = torch.arange(10.0).view(5, 2)
    given = Batch(
        wrap(inputs),
        torch.arange(5),
        torch.arange(5) + 20,
        mask=torch.arange(10).view(5, 2),
        further_views=(wrap(inputs + 1), wrap(inputs + 2)),
        weights=torch.arange(5.0),
        normaliser=2.5,
        partner_target=torch.arange(5) + 1,
        share=torch.arange(5) / 5,
        split="test",
        epoch=3,
        view_number=1,
    )
    part = given.part(1, 4)

    def same(value, expected):
        if isinstance(expected, torch.Tensor):
            assert torch.equal(value, expected[1:4])
        else:
            assert type(value) is type(expected)
            for key in expected if isinstance(expected, dict) else range(len(expected)):
                same(value[key], expected[key])

    for name in ("inputs", "target", "index", "mask", "further_views", "weights", "partner_target", "share"):
        same(getattr(part, name), getattr(given, name))
    assert len(part) == 3 and (part.normaliser, part.split, part.epoch, part.view_number) == (2.5, "test", 3, 1)
    assert len(given) == 5 and torch.equal(inputs, torch.arange(10.0).view(5, 2))


def test_a_value_over_mixed_labels_counts_the_share_of_the_own_one():
    given = Batch(torch.zeros(3, 1), torch.tensor([1, 2, 3]), torch.arange(3))
    assert given.over_labels(lambda target: 10.0 * target).tolist() == [10.0, 20.0, 30.0]
    mixed = given.replace(partner_target=torch.tensor([3, 3, 1]), share=torch.tensor([0.75, 1.0, 0.25]))
    assert mixed.over_labels(lambda target: 10.0 * target).tolist() == [15.0, 20.0, 15.0]


@pytest.mark.parametrize("start, stop", [(0, 4), (-1, 2), (2, 2), (2, 1)])
def test_a_part_that_is_not_there(start, stop):
    with pytest.raises(ValueError, match=f"3 samples, and so no part from {start} to {stop}"):
        batch().part(start, stop)


def test_labels_that_are_not_there():
    assert Batch(torch.zeros(2, 1), torch.tensor([3, 4]), torch.arange(2)).labels.tolist() == [3, 4]
    without = Batch(torch.zeros(2, 1), None, torch.arange(2))
    with pytest.raises(ValueError, match="the batch has no labels"):
        _ = without.labels
    mixed = without.replace(target=torch.tensor([3, 4]), share=torch.ones(2))
    with pytest.raises(ValueError, match="share without partner_target"):
        mixed.over_labels(lambda target: target)
