"""Mixup and CutMix: by hand, the same in every view, a function of seed, epoch and first sample; training batches
alone."""

import numpy as np
import pytest
import torch

from kdlab.batch import Batch
from kdlab.data import Augment, CutMix, Digits, ImageFolder, Mixup
from kdlab.data.loader import Share
from kdlab.errors import InputError
from tests.data.images.pictures import folder_of_pictures

MIXINGS = [Mixup(alpha=1.0), CutMix(probability=1.0)]


def images(count=6, views=1, epoch=0, first=10):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(count, 2, 6, 8, generator=generator) for _ in range(views)]
    return Batch(
        inputs[0],
        torch.arange(count) % 3,
        torch.arange(count) + first,
        further_views=tuple(inputs[1:]),
        normaliser=5.0,
        epoch=epoch,
    )


def partners(batch, mixed):
    """Whom each image of a mixed batch was mixed with: the only image that gives it, found by trying all."""
    share = mixed.share[0]

    def fits(place, other):
        return torch.allclose(mixed.inputs[place], share * batch.inputs[place] + (1 - share) * batch.inputs[other])

    return [next(other for other in range(len(batch)) if fits(place, other)) for place in range(len(batch))]


# -- the mixture -------------------------------------------------------------------------------------------------------


def test_mixup_is_a_weighted_mean_with_one_share_a_batch():
    batch = images()
    mixed = Mixup(alpha=1.0)(batch, seed=3)
    assert len(mixed.share.unique()) == 1 and 0 < mixed.share[0] < 1 and mixed.share.shape == (6,)
    found = partners(batch, mixed)
    assert sorted(found) == list(range(6)) and torch.equal(mixed.partner_target, batch.target[found])
    assert mixed.target is batch.target and mixed.index is batch.index and (mixed.normaliser, mixed.epoch) == (5.0, 0)


def test_cutmix_is_a_box_whose_share_is_its_area():
    for seed in range(30):
        batch = images()
        mixed = CutMix(alpha=1.0, probability=1.0)(batch, seed)
        changed = (mixed.inputs != batch.inputs).any(0).any(0)  # (6, 8): some partner is another image
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        area = len(rows) * len(columns)
        assert changed.sum() == area, "a box"
        if area:
            assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (len(rows), len(columns)), (
                "in one piece"
            )
            place = rows[0], columns[0]
            found = [
                next(
                    other
                    for other in range(6)
                    if torch.equal(mixed.inputs[own][(slice(None), *place)], batch.inputs[other][(slice(None), *place)])
                )
                for own in range(6)
            ]
            assert torch.equal(mixed.partner_target, batch.target[found]) and sorted(found) == list(range(6))
            assert torch.equal(mixed.inputs, torch.where(changed, batch.inputs[found], batch.inputs))
        assert mixed.share.tolist() == pytest.approx([1 - area / 48] * 6)


def test_the_size_of_the_box():
    """Without clipping, the square root of what is left out on either side; over many boxes the share never falls below
    what was drawn."""
    for drawn, height, width in ((0.75, 3, 4), (0.0, 6, 8), (1.0, 0, 0)):
        sizes = set()
        for seed in range(200):
            share, (view,) = CutMix().blended(
                [torch.stack([torch.zeros(1, 6, 8), torch.ones(1, 6, 8)])],
                torch.tensor([1, 0]),
                drawn,
                np.random.default_rng(seed),
            )
            assert share == pytest.approx(1 - view[0].mean().item()) and share >= drawn - 1e-9
            sizes.add((int(view[0, 0].any(1).sum()), int(view[0, 0].any(0).sum())) if view[0].any() else (0, 0))
        assert max(sizes) == (height, width)


def test_the_share_follows_the_beta_distribution():
    """Mean 1/2; variance 1 / (4 (2 alpha + 1))."""
    for alpha, variance in ((0.2, 1 / 5.6), (1.0, 1 / 12), (4.0, 1 / 36)):
        shares = torch.stack([Mixup(alpha)(images(2, first=first), seed=1).share[0] for first in range(1000)])
        assert shares.mean().item() == pytest.approx(0.5, abs=0.04) and shares.var().item() == pytest.approx(
            variance, rel=0.15
        )


def test_probability_is_of_mixing_a_batch():
    batches = [CutMix(probability=0.3)(images(first=first), seed=1) for first in range(1000)]
    untouched = [batch for batch in batches if batch.share[0] == 1 and torch.equal(batch.partner_target, batch.target)]
    assert len(untouched) / 1000 == pytest.approx(0.7, abs=0.05)
    assert all(torch.equal(batch.inputs, images().inputs) for batch in untouched)
    assert Mixup(probability=0.0)(images(), seed=1).share.tolist() == [1.0] * 6


@pytest.mark.parametrize("mixing", MIXINGS, ids=["mixup", "cutmix"])
def test_all_views_are_mixed_alike(mixing):
    batch = images(views=3)
    mixed = mixing(batch, seed=2)
    for number in range(3):
        alone = mixing(batch.view(number), seed=2)
        assert torch.equal(mixed.view(number).inputs, alone.inputs) and not torch.equal(
            alone.inputs, batch.view(number).inputs
        )
        assert torch.equal(alone.share, mixed.share) and torch.equal(alone.partner_target, mixed.partner_target)


@pytest.mark.parametrize("mixing", MIXINGS, ids=["mixup", "cutmix"])
def test_a_mixture_is_a_function_of_seed_epoch_and_first_sample(mixing):
    torch.manual_seed(0), np.random.seed(0)
    before = torch.random.get_rng_state()
    once = mixing(images(), seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(7), np.random.seed(7)
    again = mixing(images(), seed=1)
    assert all(torch.equal(getattr(once, name), getattr(again, name)) for name in ("inputs", "share", "partner_target"))
    for other in (mixing(images(), seed=2), mixing(images(epoch=1), seed=1), mixing(images(first=11), seed=1)):
        assert not torch.equal(other.inputs, once.inputs)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: Mixup(alpha=0), "alpha must be greater than 0"),
        (lambda: CutMix(alpha=float("inf")), "alpha"),
        (lambda: Mixup(probability=1.1), "probability must be between 0 and 1, got 1.1"),
        (lambda: CutMix(probability=float("nan")), "probability"),
        (lambda: Digits(mixing="mixup"), "mixing=mixup or mixing=cutmix"),
    ],
)
def test_bad_arguments_name_themselves(make, told):
    with pytest.raises(ValueError, match=told):
        make()


@pytest.mark.parametrize(
    "mixing, inputs, told",
    [
        (CutMix(), torch.rand(4, 5), r"data.mixing: CutMix .*shape \(5,\); take mixing=mixup"),
        (Mixup(), torch.ones(4, 5, dtype=torch.long), "floating-point"),
        (Mixup(), {"ids": torch.rand(4, 5)}, "one tensor of floating-point numbers.*mixing=none"),
    ],
)
def test_inputs_that_cannot_be_mixed(mixing, inputs, told):
    with pytest.raises(InputError, match=told):
        mixing(Batch(inputs, torch.arange(4), torch.arange(4)), seed=1)


# -- in the data -------------------------------------------------------------------------------------------------------


def digits(mixing, rank=0, world=1, views=1):
    data = Digits(batch_size=40, augment=Augment(crop_padding=1), mixing=mixing)
    data.seed, data.share, data.views = 5, Share(rank, world), views
    return data


def first_of(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return next(iter(loader))


@pytest.mark.parametrize("mixing", MIXINGS, ids=["mixup", "cutmix"])
def test_the_loader_mixes_training_batches_alone(mixing):
    plain, mixed = first_of(digits(None, views=2), 3), first_of(digits(mixing, views=2), 3)
    expected = mixing(plain, seed=5)
    assert torch.equal(mixed.inputs, expected.inputs) and torch.equal(mixed.further_views[0], expected.further_views[0])
    assert (
        torch.equal(mixed.target, plain.target)
        and torch.equal(mixed.index, plain.index)
        and plain.share is None is plain.partner_target
    )
    for split in ("val_dataloader", "test_dataloader"):
        for a, b in zip(getattr(digits(mixing), split)(), getattr(digits(None), split)(), strict=True):
            assert torch.equal(a.inputs, b.inputs) and a.share is None


def test_a_process_mixes_its_own_share():
    mixed = [first_of(digits(Mixup(1.0), rank, 2)) for rank in range(2)]
    for rank, batch in enumerate(mixed):
        expected = Mixup(1.0)(first_of(digits(None, rank, 2)), seed=5)
        assert len(batch) == 20 and torch.equal(batch.inputs, expected.inputs)
    assert mixed[0].share[0] != mixed[1].share[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_images_in_folders_too(tmp_path, workers):
    folder = str(folder_of_pictures(tmp_path, train=4, test=1))
    plain, mixed = (
        ImageFolder(folder, size=8, batch_size=4, validation=0.25, workers=workers, mixing=mixing)
        for mixing in (None, CutMix(probability=1.0))
    )
    for one, other in zip(plain.train_dataloader(), mixed.train_dataloader(), strict=True):
        assert torch.equal(CutMix(probability=1.0)(one, seed=1).inputs, other.inputs)
    plain.teardown(), mixed.teardown()
