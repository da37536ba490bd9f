import pytest
import torch

from kdlab.data import Augment, Digits, Images, InMemoryData, Mixup
from kdlab.data.loader import Share
from kdlab.errors import InputError

COUNTS = [40, 60, 20, 80]


class Toy(InMemoryData):
    CLASSES, SHAPE = 4, (1, 6, 6)
    SCALE, MEAN, STD = 255.0, 0.5, 0.25

    def read(self):
        generator = torch.Generator().manual_seed(0)
        target = torch.cat([torch.full((count,), number) for number, count in enumerate(COUNTS)])
        target = target[torch.randperm(len(target), generator=generator)]
        pixels = torch.randint(0, 256, (230, 1, 6, 6), generator=generator, dtype=torch.uint8)
        return Images(pixels[:200], target), Images(pixels[200:], torch.arange(30) % 4)


def toy(rank=0, world=1, accumulate=1, seed=1, **options):
    data = Toy(**{"batch_size": 16, **options})
    data.seed, data.share = seed, Share(rank, world, accumulate)
    data.setup()
    return data


def epoch_of(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def labels(data, part):
    return data.train_dataloader().target[data.part(part)]


# -- splits ------------------------------------------------------------------------------------------------------------


def test_validation_is_disjoint_from_train_and_together_they_are_all():
    data = toy(validation=0.2)
    train, validation = data.part("train").tolist(), data.part("validation").tolist()
    assert sorted(train + validation) == list(range(200)) and data.train_size == 200


def test_validation_is_the_same_part_of_every_class():
    assert labels(toy(validation=0.2), "validation").bincount().tolist() == [8, 12, 4, 16]
    assert labels(toy(validation=0.2), "train").bincount().tolist() == [32, 48, 16, 64]


def test_the_split_depends_on_the_split_seed_and_not_on_the_seed():
    one, two, other = toy(seed=1), toy(seed=2), toy(seed=1, split_seed=5)
    for part in ("train", "validation"):
        assert torch.equal(one.part(part), two.part(part))
    assert not torch.equal(one.part("validation"), other.part("validation"))


def test_a_smaller_fraction_is_a_part_of_a_larger_and_validation_stays():
    parts = [toy(fraction=fraction, batch_size=4) for fraction in (0.05, 0.3, 0.7, 1.0)]
    for small, large in zip(parts, parts[1:]):
        assert set(small.part("train").tolist()) < set(large.part("train").tolist())
        assert torch.equal(small.part("validation"), large.part("validation"))
    assert labels(parts[1], "train").bincount().tolist() == [round(0.3 * 0.9 * count) for count in COUNTS]


def test_the_smallest_fraction_keeps_one_of_every_class():
    assert labels(toy(fraction=0.001, batch_size=4), "train").bincount().tolist() == [1, 1, 1, 1]


def test_omitted_classes_are_missing_from_train_alone():
    whole, data = toy(), toy(omit_classes=[1, 3])
    assert labels(data, "train").unique().tolist() == [0, 2]
    kept = torch.isin(labels(whole, "train"), torch.tensor([0, 2]))
    assert torch.equal(data.part("train"), whole.part("train")[kept])
    assert torch.equal(data.part("validation"), whole.part("validation"))
    assert torch.cat([batch.target for batch in data.test_dataloader()]).tolist() == [
        number % 4 for number in range(30)
    ]


# -- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_holds_the_scaled_images_of_its_samples():
    data = toy()
    stored = data.read()[0]
    for batch in epoch_of(data):
        assert (len(batch), batch.inputs.dtype, batch.split) == (16, torch.float32, "train")
        assert torch.equal(batch.target, stored.target[batch.index])
        assert torch.allclose(batch.inputs, (stored.inputs[batch.index].double() / 255 - 0.5).float() / 0.25, atol=1e-6)


def test_an_epoch_holds_every_training_sample_once():
    data = toy(batch_size=50, drop_last=False)
    assert sorted(torch.cat([batch.index for batch in epoch_of(data)]).tolist()) == data.part("train").tolist()


def test_seed_and_epoch_fix_the_batches_to_the_bit():
    options = dict(augment=Augment(crop_padding=1, flip=0.5))
    torch.manual_seed(1)
    one = epoch_of(toy(**options), epoch=3)
    torch.manual_seed(2)
    two = epoch_of(toy(**options), epoch=3)
    assert len(one) == len(two) == 11
    for a, b in zip(one, two):
        assert (
            torch.equal(a.inputs, b.inputs)
            and torch.equal(a.target, b.target)
            and torch.equal(a.index, b.index)
            and a.epoch == 3
        )


@pytest.mark.parametrize("seed, epoch", [(1, 4), (2, 3)])
def test_another_seed_or_epoch_gives_another_order(seed, epoch):
    one = torch.cat([batch.index for batch in epoch_of(toy(seed=1), 3)])
    other = torch.cat([batch.index for batch in epoch_of(toy(seed=seed), epoch)])
    assert (one == other).float().mean() < 0.1


def test_an_epoch_set_behind_the_iterator_still_counts():
    # on resume the iterator exists before the epoch is known
    loader = toy().train_dataloader()
    iterator = iter(loader)
    loader.sampler.set_epoch(7)
    assert torch.equal(next(iterator).index, epoch_of(toy(), 7)[0].index)


def test_augmentation_of_a_sample_does_not_depend_on_its_batch():
    loader = toy(augment=Augment(crop_padding=2, flip=0.5)).train_dataloader()
    rows = torch.tensor([150, 3, 77, 20])
    together = loader.batch(rows, epoch=2).inputs
    for number, row in enumerate(rows):
        assert torch.equal(loader.batch(row[None], epoch=2).inputs[0], together[number])
    assert not torch.equal(loader.batch(rows, epoch=3).inputs, together)


def test_two_views_are_of_the_same_samples_and_the_first_stays_as_it_was():
    data = toy(augment=Augment(crop_padding=2, flip=0.5))
    alone = epoch_of(data)[0]
    data.views = 2
    both = epoch_of(data)[0]
    assert alone.further_views == () and torch.equal(both.inputs, alone.inputs)
    (second,) = both.further_views
    assert second.shape == both.inputs.shape and not torch.equal(second, both.inputs)
    data.views = 3
    three = epoch_of(data)[0]
    assert torch.equal(three.further_views[0], second) and len(three.further_views) == 2
    assert three.view(2).inputs.shape == second.shape and not torch.equal(three.view(2).inputs, second)


def test_validation_and_test_are_neither_shuffled_nor_augmented():
    data = toy(augment=Augment(crop_padding=2, flip=1.0), evaluation_batch_size=7)
    for loader, stored, rows in (
        (data.val_dataloader(), data.read()[0], data.part("validation")),
        (data.test_dataloader(), data.read()[1], torch.arange(30)),
    ):
        batches = list(loader)
        assert len(batches) == len(loader) and [len(batch) for batch in batches[:-1]] == [7] * (len(batches) - 1)
        assert torch.equal(torch.cat([batch.index for batch in batches]), rows)
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), data.prepare_images(stored.inputs[rows]))
    assert batches[0].split == "test" and next(iter(data.val_dataloader())).split == "validation"


def test_the_border_of_a_crop_is_black():
    # zeros laid around an image that is normalised already would be a grey frame
    class Black(Toy):
        def read(self):
            train, test = super().read()
            return Images(torch.zeros_like(train.inputs), train.target), test

    data = Black(batch_size=16, augment=Augment(crop_padding=2))
    data.setup()
    assert epoch_of(data)[0].inputs.unique().tolist() == [-2.0]


def test_a_strategy_may_give_its_own_order():
    data = toy()
    data.order = lambda epoch: data.part("train").flip(0).roll(epoch)
    assert torch.equal(epoch_of(data, 2)[0].index, data.part("train").flip(0).roll(2)[:16])
    assert torch.equal(next(iter(data.val_dataloader())).index, data.part("validation"))


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader", "test_dataloader"])
def test_loaders_need_no_setup_before(loader):
    assert len(next(iter(getattr(Toy(batch_size=16), loader)()))) > 0


# -- shares of several processes ---------------------------------------------------------------------------------------


# 180 samples: tails of 30 and of 8 rows
@pytest.mark.parametrize("batch_size", [50, 43])
@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_all_ranks_make_up_the_batches_of_one_process(world, batch_size):
    options = dict(batch_size=batch_size, drop_last=False, augment=Augment(crop_padding=1))
    alone = epoch_of(toy(**options))
    shares = [epoch_of(toy(rank, world, **options)) for rank in range(world)]
    assert {len(share) for share in shares} == {len(alone)}
    for whole, *parts in zip(alone, *shares):
        assert torch.equal(torch.cat([part.index for part in parts]), whole.index)
        assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


# 180 samples: batches of 50, 50, 50, 30 and of 40, 40, 40, 40, 20, whose last step is a single batch
@pytest.mark.parametrize("batch_size, steps", [(50, [100, 80]), (40, [80, 80, 20])])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_normaliser_makes_a_step_the_mean_over_its_rows(world, batch_size, steps):
    accumulate = 2
    shares = [epoch_of(toy(rank, world, accumulate, batch_size=batch_size, drop_last=False)) for rank in range(world)]
    for number, rows in enumerate(steps):
        batches = [batch for share in shares for batch in share[number * accumulate : (number + 1) * accumulate]]
        assert sum(map(len, batches)) == rows
        assert [batch.normaliser * world * accumulate for batch in batches] == pytest.approx([rows] * len(batches))
        # a loss of 1 a row, averaged as DDP averages over processes and Lightning over accumulated batches
        assert sum(len(batch) / batch.normaliser for batch in batches) / (world * accumulate) == pytest.approx(1.0)


def test_the_validation_of_all_ranks_is_the_whole():
    shares = [toy(rank, 2, evaluation_batch_size=19).val_dataloader() for rank in range(2)]
    rows = torch.cat([batch.index for share in shares for batch in share])
    assert rows.sort().values.tolist() == toy().part("validation").tolist()


# -- the tail ----------------------------------------------------------------------------------------------------------


def test_drop_last():
    for drop_last, sizes in ((True, [50, 50, 50]), (False, [50, 50, 50, 30])):
        data = toy(batch_size=50, drop_last=drop_last)
        assert [len(batch) for batch in epoch_of(data)] == sizes and len(data.train_dataloader()) == len(sizes)
    assert len(epoch_of(toy(batch_size=60, drop_last=True))) == 3


def test_a_tail_too_small_for_batchnorm_is_left_out():
    assert [len(batch) for batch in epoch_of(toy(batch_size=179, drop_last=False))] == [179]
    assert [len(batch) for batch in epoch_of(toy(batch_size=178, drop_last=False))] == [178, 2]
    assert [len(batch) for batch in epoch_of(toy(0, 2, batch_size=177, drop_last=False))] == [89]
    assert [len(batch) for batch in epoch_of(toy(0, 2, batch_size=176, drop_last=False))] == [88, 2]


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value",
    [
        ("batch_size", 0),
        ("evaluation_batch_size", 0),
        ("validation", 0),
        ("validation", 1),
        ("validation", -0.1),
        ("validation", float("nan")),
        ("fraction", 0),
        ("fraction", 1.1),
        ("omit_classes", [4]),
        ("omit_classes", [-1]),
        ("omit_classes", [0, 1, 2, 3]),
    ],
)
def test_bad_arguments_name_themselves(name, value):
    with pytest.raises(ValueError, match=f"^{name} "):
        Toy(**{name: value})


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(InputError, match="batch_size=181.*180.*drop_last"):
        toy(batch_size=181)
    assert [len(batch) for batch in epoch_of(toy(batch_size=181, drop_last=False))] == [180]


def test_a_set_without_read_names_itself():
    class Mine(InMemoryData):
        CLASSES = 2

    with pytest.raises(NotImplementedError, match="Mine"):
        Mine().setup()


# -- digits ------------------------------------------------------------------------------------------------------------


def test_digits():
    data = Digits(batch_size=64)
    data.setup()
    test = list(data.test_dataloader())
    assert (data.train_size, sum(map(len, test))) == (1438, 359)
    images = data.train_dataloader().inputs
    assert images.shape[1:] == (1, 8, 8) and images.dtype is torch.uint8 and images.max() == 16
    scaled = data.prepare_images(images)
    assert scaled.mean().item() == pytest.approx(0, abs=0.01) and scaled.std().item() == pytest.approx(1, abs=0.01)


# -- inputs that are prepared once -------------------------------------------------------------------------------------


class Noisy(Toy):
    """The user's own preparation, which draws."""

    def prepare_images(self, images):
        return super().prepare_images(images) + torch.rand(())


def test_what_nothing_is_drawn_of_is_prepared_once_to_the_same_bits(monkeypatch):
    data = toy(augment=Augment())
    calls = []
    kept = [batch.inputs for batch in epoch_of(data)]
    with monkeypatch.context() as patch:
        patch.setattr("kdlab.data.images.memory.MOST_PREPARED", 0)
        each = [batch.inputs for batch in epoch_of(toy(augment=Augment()))]
    assert len(kept) == 11 and all(torch.equal(one, other) for one, other in zip(kept, each))
    monkeypatch.setattr(type(data.normalisation), "__call__", lambda self, pixels: calls.append(1))
    again = [batch.inputs for batch in [*epoch_of(data, 1), *data.val_dataloader()]]
    assert calls == []
    assert torch.equal(again[0], data._prepared(data._both()[0])[epoch_of(data, 1)[0].index])


def test_each_view_is_a_tensor_of_its_own():
    data = toy()
    data.views = 2
    batch = epoch_of(data)[0]
    batch.inputs.zero_()
    assert batch.view(1).inputs.abs().sum() > 0


def test_drawn_images_and_a_preparation_of_ones_own_are_made_for_each_batch():
    drawn = toy(augment=Augment(flip=0.5))
    assert not torch.equal(epoch_of(drawn, 0)[0].inputs.sum(), epoch_of(drawn, 1)[0].inputs.sum()) and not drawn._whole
    noisy = Noisy(batch_size=16)
    noisy.setup()
    first, second = (list(noisy.val_dataloader())[0].inputs for _ in range(2))
    assert not torch.equal(first, second), "its noise is new in each epoch"


def test_the_augmentation_may_have_a_seed_of_its_own():
    def inputs(**options):
        found = epoch_of(toy(augment=Augment(crop_padding=2), **options))
        return torch.cat([one.inputs for one in found])[torch.cat([one.index for one in found]).argsort()]

    whole = {"drop_last": False, "batch_size": 20}
    shared = inputs(seed=1, augment_seed=9, **whole)
    assert torch.equal(shared, inputs(seed=2, augment_seed=9, **whole))
    assert torch.equal(inputs(seed=9, **whole), shared) and not torch.equal(inputs(seed=1, **whole), shared)
    one, two = (toy(seed=seed, augment_seed=9).train_dataloader().sampler() for seed in (1, 2))
    assert not torch.equal(one, two), "the order is that of the run's seed"
    with pytest.raises(ValueError, match="augment_seed must be at least 0"):
        toy(augment_seed=-1)


def test_replicas_draw_the_first_epochs_again_in_the_order_of_each_epoch():
    """With K = 3 the images of epoch 7 are those of epoch 1; with two views, in both of them."""
    both = [toy(augment=Augment(crop_padding=2), drop_last=False, **more) for more in ({}, {"replicas": 3})]
    for data in both:
        data.views = 2
    plain, repeated = both

    def by_sample(data, epoch):
        batches = epoch_of(data, epoch)
        order = torch.cat([one.index for one in batches])
        views = [torch.cat([one.view(view).inputs for one in batches])[order.argsort()] for view in (0, 1)]
        return order, torch.stack(views), {one.epoch for one in batches}

    for epoch in (0, 2, 3, 7):
        order, images, named = by_sample(repeated, epoch)
        assert torch.equal(order, by_sample(plain, epoch)[0]), "the order is that of the epoch itself"
        assert torch.equal(images, by_sample(plain, epoch % 3)[1]) and named == {epoch % 3}
    assert not torch.equal(by_sample(plain, 7)[1], by_sample(plain, 1)[1])
    assert repeated.val_dataloader().sampler.replicas is None


def test_replicas_that_change_nothing_or_cannot_be_are_refused():
    drawn = {"augment": Augment(flip=0.5)}
    with pytest.raises(ValueError, match="replicas must be at least 1"):
        toy(replicas=0, **drawn)
    with pytest.raises(ValueError, match="replicas=4 uses the same views again, and mixing makes other images"):
        toy(replicas=4, mixing=Mixup(1.0), **drawn)
    for nothing in ({}, {"augment": Augment()}):
        with pytest.raises(InputError, match=r"data.replicas=4: data.augment draws nothing.*teacher.cache=fixed keeps"):
            toy(replicas=4, **nothing)


def test_a_few_samples_to_try_things_out_on_prepare_no_more():
    data = toy()
    data.train_dataloader().first(4)
    assert data._whole == {}
