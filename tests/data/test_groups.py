"""Orders of a strategy's own, of samples and of groups of samples that stay together."""

import pytest
import torch

import kdlab
from kdlab.config.compose import compose
from kdlab.data import Digits, ImageFolder
from kdlab.data.loader import Share
from kdlab.errors import InputError
from kdlab.functional import cross_entropy
from kdlab.strategies import Step, Strategy
from kdlab.training.assemble import assembled
from tests.data.images.pictures import folder_of_pictures


def digits(rank=0, world=1, accumulate=1, limit=None, groups=100, members=2, **options):
    data = Digits(**{"batch_size": 30, "drop_last": False, **options})
    data.share = Share(rank, world, accumulate, limit)
    rows = data.part("train")
    data.order = lambda epoch: (
        rows.roll(epoch)[: groups * members].view(groups, members) if members else rows.roll(epoch)[:groups]
    )
    return data


def epoch_of(data, epoch=0):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == loader.share.taken(len(loader))
    return batches


@pytest.mark.parametrize("members", [2, 3])
def test_a_batch_holds_first_the_first_members_of_all_its_groups(members):
    data = digits(members=members)
    groups, batches = data.order(1), epoch_of(data, 1)
    assert [len(batch) for batch in batches] == [30 * members] * 3 + [10 * members]
    for number, batch in enumerate(batches):
        mine = groups[30 * number : 30 * number + 30]
        for member in range(members):
            part = batch.part(member * len(mine), (member + 1) * len(mine))
            assert torch.equal(part.index, mine[:, member]) and torch.equal(
                part.target, data.train_dataloader().target[mine[:, member]]
            )
            assert torch.equal(part.inputs, data.train_dataloader().batch(part.index).inputs)


def test_the_number_of_batches_follows_from_the_order():
    rows = len(Digits(batch_size=30).part("train"))
    for groups, drop_last, batches in (
        (100, True, 3),
        (100, False, 4),
        (92, False, 4),
        (91, False, 3),
        (90, False, 3),
        (30, True, 1),
    ):
        assert len(digits(groups=groups, drop_last=drop_last).train_dataloader()) == batches
    assert len(digits(groups=100, members=None).train_dataloader()) == 4 and rows > 1000
    # a tail of one sample is too small for BatchNorm; so is one pair, whose two may go through the network one after
    # the other
    assert len(digits(groups=91, members=None).train_dataloader()) == 3
    assert len(digits(groups=93, world=2).train_dataloader()) == 3, "one process would have one pair"
    assert len(digits().val_dataloader()) == 1 and len(next(iter(digits().val_dataloader()))) == len(
        digits().part("validation")
    )


@pytest.mark.parametrize("world", [2, 3])
def test_groups_stay_in_one_process(world):
    groups = digits().order(2)
    shares = [epoch_of(digits(rank, world), 2) for rank in range(world)]
    for number, parts in enumerate(zip(*shares, strict=True)):
        pairs = [part.index.view(2, -1).t() for part in parts]
        assert torch.equal(torch.cat(pairs), groups[30 * number : 30 * number + 30])


# 100 groups in batches of 30, 30, 30, 10
@pytest.mark.parametrize("limit, steps", [(None, [60, 40]), (3, [60, 30])])
@pytest.mark.parametrize("world", [1, 2])
def test_the_normaliser_counts_groups(world, limit, steps):
    shares = [epoch_of(digits(rank, world, 2, limit))[: limit or 4] for rank in range(world)]
    for number, groups in enumerate(steps):
        batches = [batch for share in shares for batch in share[2 * number : 2 * number + 2]]
        assert {batch.normaliser * world * 2 for batch in batches} == {groups}
        assert sum(len(batch) for batch in batches) == 2 * groups


@pytest.mark.parametrize("workers", [0, 1])
def test_images_in_folders_too(tmp_path, workers):
    data = ImageFolder(
        str(folder_of_pictures(tmp_path, train=4, test=1)), size=8, batch_size=2, validation=0.25, workers=workers
    )
    rows = data.part("train")
    data.order = lambda epoch: rows.roll(epoch)[:8].view(4, 2)
    loader = data.train_dataloader()
    assert [batch.index.tolist() for batch in loader] == [rows[[0, 2, 1, 3]].tolist(), rows[[4, 6, 5, 7]].tolist()]
    data.teardown()


@pytest.mark.parametrize(
    "order, told",
    [
        (lambda rows: rows.view(1, 1, -1), r"\(N, G\), got \(1, 1, \d+\) of torch.int64"),
        (lambda rows: rows.float(), "got .* of torch.float32"),
        (lambda rows: rows.tolist(), "got list"),
        (lambda rows: rows[:0], "got"),
        (lambda rows: torch.arange(1438), "samples that are not trained on"),
        (
            lambda rows: rows[:30].view(15, 2),
            "batch_size=30: the strategy's order has 15 samples, or groups of them, .*drop_last=false",
        ),
    ],
)
def test_what_is_no_order_is_refused(order, told):
    data = Digits(batch_size=30)
    with pytest.raises(InputError, match=told):
        data.order = lambda epoch: order(data.part("train"))


def test_an_order_that_changes_its_length():
    data = Digits(batch_size=30)
    rows = data.part("train")
    data.order = lambda epoch: rows[: 90 + epoch]
    with pytest.raises(ValueError, match=r"shape \(91,\) in epoch 1 and \(90,\) in epoch 0"):
        epoch_of(data, 1)


class Pairs(Strategy):
    """Labels for the first of each pair; its partner is the next image."""

    seen: list = []

    def sampler(self, target, rows):
        pairs = torch.stack([rows, rows.roll(-1)], 1)
        return lambda epoch: pairs.roll(epoch, 0)

    def distill(self, batch):
        self.seen.append(batch)
        half = batch.part(0, len(batch) // 2)
        student = self.observe(half)
        return Step(self.compare(student, None, half), {"student": student})


def test_a_strategy_of_pairs(workplace):
    """The loss of pairs is the mean over pairs; the probe holds whole pairs."""
    Pairs.seen.clear()
    overrides = [
        f"strategy._target_={__name__}.Pairs",
        "teacher=none",
        "loss=[ce]",
        "data.batch_size=300",
        "data.drop_last=false",
        "trainer.max_epochs=1",
        "progress=none",
        "optimizer.lr=1e-9",
    ]
    run = kdlab.train(overrides)
    probe, *batches = Pairs.seen
    rows = torch.cat([batch.part(0, len(batch) // 2).index for batch in batches])
    assert torch.equal(probe.index, torch.cat([rows[:4], rows[1:5]])) and (probe.split, probe.epoch) == ("train", 0)
    assert [len(batch) for batch in batches] == [600, 600, 600, 2 * (len(rows) - 900)] and len(rows.unique()) == len(
        rows
    )
    student = assembled(compose(overrides)).strategy.student
    with torch.no_grad():
        halves = [batch.part(0, len(batch) // 2) for batch in batches]
        expected = torch.cat([cross_entropy(student(half.inputs), half.target) for half in halves]).mean().item()
    row = dict(zip(*(line.split(",") for line in run.metrics_file.read_text().splitlines())))
    assert float(row["train/loss"]) == pytest.approx(expected, rel=1e-5)
