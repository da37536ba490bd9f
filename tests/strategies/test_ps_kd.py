"""PS-KD: a table of what was said."""

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, SoftCrossEntropy
from kdlab.runs.curve import MetricsFile
from kdlab.strategies import Progressive
from tests.strategies.tiny import RATE, batch_of, ce, linear, made, take_step

SHORT = ["strategy=ps_kd", "data.fraction=0.2", "progress=none"]
TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]


def tiny(batch, target, alpha=0.4, **options):
    terms, weights = (
        {"ce": CrossEntropy(), "soft_cross_entropy": SoftCrossEntropy()},
        {"ce": 1 - alpha, "soft_cross_entropy": alpha},
    )
    return made(Progressive, linear(), terms, weights, batch, target, **options)


def test_two_steps_by_hand():
    """Of 8 samples those with the numbers 2 to 6 are seen: the labels first, then what was said."""
    batch, alpha = batch_of(5, first=2), 0.4
    target = torch.cat([torch.tensor([2, 1]), batch.target, torch.tensor([0])])
    strategy = tiny(batch, target, alpha)
    weight = strategy.student[0].weight.detach().clone().requires_grad_()
    loss = ce(batch.inputs @ weight.T, batch.target)
    torch.testing.assert_close(take_step(strategy, batch).total.detach(), loss.detach())
    said = (batch.inputs @ weight.T).detach().softmax(-1)
    weight = weight.detach() - RATE * torch.autograd.grad(loss, weight)[0]
    now = (batch.inputs @ weight.T).softmax(-1)
    soft = (1 - alpha) * torch.nn.functional.one_hot(batch.target, 3) + alpha * said
    torch.testing.assert_close(strategy.distill(batch).loss.total.detach(), -(soft * now.log()).sum(1).mean())

    table = strategy.table.softmax(-1)
    torch.testing.assert_close(table[2:7], said)
    torch.testing.assert_close(table[[0, 1, 7]], torch.eye(3, dtype=torch.float64)[[2, 1, 0]])
    assert strategy.table.isfinite().all()


def test_samples_of_another_batch_are_left_alone():
    first, second = batch_of(3, seed=1), batch_of(3, seed=2, first=3)
    strategy = tiny(first, torch.cat([first.target, second.target]))
    take_step(strategy, first)
    before = strategy.table[:3].clone()
    take_step(strategy, second, stepped=False)  # an accumulated batch is seen, too
    assert torch.equal(strategy.table[:3], before)
    assert (strategy.table[3:].max(1).values < 0).all(), "log-probabilities now, and no labels"


def test_the_first_epoch_is_that_of_the_labels_and_alpha_rises(workplace):
    run = kdlab.train([*SHORT, "trainer.max_epochs=4"])
    rows = MetricsFile(run.metrics_file).load().rows
    assert rows[0]["train/loss_soft_cross_entropy"] == pytest.approx(rows[0]["train/loss_ce"], rel=1e-6)
    assert rows[1]["train/loss_soft_cross_entropy"] > rows[1]["train/loss_ce"] * 1.01
    assert [row["train/soft_cross_entropy.weight"] for row in rows] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [row["train/ce.weight"] for row in rows] == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_the_table_is_in_the_checkpoint_in_the_type_that_was_asked_for(workplace):
    tables = []
    for store in ("float32", "float16"):
        run = kdlab.train([*SHORT, "trainer.max_epochs=1", f"strategy.store={store}"])
        tables.append(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]["table"])
    assert [table.dtype for table in tables] == [torch.float32, torch.float16] and tables[0].shape == (1438, 10)
    torch.testing.assert_close(tables[1].float(), tables[0], rtol=1e-3, atol=1e-3)
    seen = (tables[0] < 0).all(1)
    assert seen.sum() == 7 * 32 and (tables[0][~seen].sum(1) == 1e4).all()


@pytest.mark.slow
def test_it_is_gathered_over_processes(workplace, forked):
    """Also of uneven shares, and of a last batch that is not full."""
    both = []
    for extra in ([], TWO):
        run = kdlab.train(
            [
                *SHORT,
                "data.batch_size=35",
                "data.drop_last=false",
                "trainer.max_epochs=1",
                f"name=of{len(extra)}",
                *extra,
            ]
        )
        both.append(torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]["table"])
    assert ((both[0] < 0).all(1) == (both[1] < 0).all(1)).all() and (both[0] < 0).all(1).sum() == 231
    torch.testing.assert_close(both[1], both[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "extra, message",
    [
        (["loss=[ce,hint]", "student=cnn"], "loss.hint: it compares features"),
        (["loss=[ce,multi_level]"], "loss.multi_level: it compares two views"),
        (["mixing=mixup"], "Progressive cannot learn from mixed images"),
        (["teacher=trained"], "the student is its own teacher"),
        (["strategy.store=float8"], "strategy.store"),
    ],
)
def test_what_does_not_fit_is_refused(workplace, extra, message):
    with pytest.raises(InputError, match=message):
        kdlab.train([*SHORT, *extra])
