"""CS-KD: pairs of a class."""

import pytest
import torch
from torch import nn

import kdlab
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.strategies import ClassWise
from kdlab.strategies.base import Strategy
from kdlab.strategies.cs_kd import partners
from tests.strategies.tiny import batch_of, ce, kd, linear, made

TERMS, WEIGHTS = lambda: {"ce": CrossEntropy(), "kd": HintonKD(4.0)}, {"ce": 1.0, "kd": 0.7}
TARGET = torch.tensor([0, 1, 0, 0, 2, 1, 0, 1, 0])
ROWS = torch.tensor([0, 1, 2, 4, 5, 6, 8])  # of class 0: 0, 2, 6, 8; of class 1: 1, 5; of class 2: 4


def test_a_partner_is_another_of_the_class_unless_there_is_none():
    for epoch in range(50):
        found = partners(TARGET, ROWS, 7, epoch)
        assert torch.equal(TARGET[found[ROWS]], TARGET[ROWS]) and torch.isin(found[ROWS], ROWS).all()
        assert (found[ROWS] == ROWS).tolist() == [row == 4 for row in ROWS.tolist()]
        assert found[3] == found[7] == -1
        assert torch.equal(found, partners(TARGET, ROWS, 7, epoch))


def test_each_other_one_is_as_likely():
    drawn = torch.stack([partners(TARGET, ROWS, 7, epoch)[0] for epoch in range(900)])
    counts = drawn.bincount(minlength=9)
    assert counts[[2, 6, 8]].sum() == 900
    assert all(abs(count - 300) < 4 * (900 * 2 / 9) ** 0.5 for count in counts[[2, 6, 8]].tolist())


def test_the_order_pairs_every_sample_once():
    strategy = made(ClassWise, linear(), TERMS(), WEIGHTS, batch_of(4), seed=3)
    order = strategy.sampler(TARGET, ROWS)
    first, second = order(0), order(1)
    assert first.shape == (7, 2) and torch.equal(first[:, 0].sort().values, ROWS)
    assert torch.equal(TARGET[first[:, 0]], TARGET[first[:, 1]])
    assert torch.equal(first, order(0)) and not torch.equal(first, second)


@pytest.mark.parametrize("seed, epoch", [(3, 1), (4, 0)])
def test_partners_change_with_the_epoch_and_the_seed(seed, epoch):
    """Not the order alone: of 300 samples a class, one in 299 has the same partner by chance."""
    target, rows = torch.arange(900) % 3, torch.arange(900)

    def partner_of(seed, epoch):
        pairs = made(ClassWise, linear(), TERMS(), WEIGHTS, batch_of(4), seed=seed).sampler(target, rows)(epoch)
        return pairs[pairs[:, 0].argsort(), 1]

    same = partner_of(3, 0) == partner_of(seed, epoch)
    assert same.sum() < 20 and torch.equal(partner_of(3, 0), partner_of(3, 0))


def test_a_step_by_hand():
    """The first half learns, the second has neither labels nor gradient; the normaliser counts pairs."""
    batch = batch_of(8, normaliser=4.0)
    strategy = made(ClassWise, linear(), TERMS(), WEIGHTS, batch)
    weight = strategy.student[0].weight.detach().clone().requires_grad_()
    mine, pair = (batch.inputs @ weight.T).split(4)
    expected = ce(mine, batch.target[:4]) + 0.7 * kd(mine, pair.detach(), 4.0)
    loss = strategy.distill(batch).loss.total
    torch.testing.assert_close(loss, expected)
    gradients = [
        torch.autograd.grad(value, into)[0] for value, into in ((loss, strategy.student[0].weight), (expected, weight))
    ]
    torch.testing.assert_close(*gradients)


def test_each_half_has_a_forward_pass_of_its_own_in_train_mode():
    batch = batch_of(8)
    strategy = made(ClassWise, nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).double(), TERMS(), WEIGHTS, batch)
    strategy.distill(batch)
    norm = strategy.student[0]
    first, second = batch.inputs[:4].mean(0), batch.inputs[4:].mean(0)
    torch.testing.assert_close(norm.running_mean, 0.9 * 0.1 * first + 0.1 * second)
    assert norm.num_batches_tracked == 2


def test_batches_of_a_run_are_pairs(workplace, monkeypatch):
    seen = []
    step = Strategy.training_step
    monkeypatch.setattr(
        Strategy, "training_step", lambda self, batch, index: (seen.append(batch), step(self, batch, index))[1]
    )
    run = kdlab.train(["strategy=cs_kd", "data.fraction=0.2", "trainer.max_epochs=2", "progress=none"])
    assert [len(batch) for batch in seen] == [64] * 14
    for batch in seen:
        (mine, pair), (labels, others) = batch.index.split(32), batch.target.split(32)
        assert torch.equal(labels, others) and not (mine == pair).any()
    assert torch.cat([batch.index[:32] for batch in seen[:7]]).unique().numel() == 224
    assert 0 < run.metrics["train/loss_kd"] < 10


@pytest.mark.parametrize(
    "extra, message",
    [
        (["mixing=cutmix"], "ClassWise cannot learn from mixed images"),
        (["teacher=trained"], "the student is its own teacher"),
    ],
)
def test_what_does_not_fit_is_refused(workplace, extra, message):
    with pytest.raises(InputError, match=message):
        kdlab.train(["strategy=cs_kd", "progress=none", *extra])
