"""Losses of a value a row, a sample and a position: right whatever the masks of accumulated batches and of several
processes are."""

import pytest
import torch

import kdlab
from kdlab.batch import Batch
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.functional import token_rows
from kdlab.losses import HiddenMSE, HintonKD, Loss, SequenceFSP
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.runs.curve import MetricsFile
from kdlab.training.assemble import assembled
from tests.tasks.tagging import CONFIG, Tagged, Tagging

TWO = ["trainer.devices=2", "trainer.strategy=ddp"]
LOSSES = [
    "loss=[ce,kd]",
    *(
        f"+loss.{average}={{_target_: kdlab.losses.HiddenMSE, student_tap: hidden, teacher_tap: hidden, "
        f"average: {average}}}"
        for average in ("tokens", "samples")
    ),
]
PARTS = ("loss_ce", "loss_kd", "loss_tokens", "loss_samples")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagging")
    run = kdlab.train([*CONFIG, "strategy=supervised", "trainer.max_epochs=8", f"paths.runs={folder}"])
    assert run.metrics["val/accuracy"] > 0.9, "padding would count as class 0"
    return run


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="accumulate1"),
        pytest.param(["trainer.accumulate_grad_batches=3"], id="accumulate3", marks=pytest.mark.slow),
    ],
)
def test_two_processes_give_the_curve_of_one(workplace, teacher, forked, options):
    common = [*CONFIG, *LOSSES, "teacher=run", f"teacher.run={teacher.path}", "trainer.max_epochs=3", *options]
    one, two = (
        MetricsFile(kdlab.train([*common, *extra]).metrics_file).load().rows
        for extra in (["name=one"], ["name=two", *TWO])
    )
    for first, second in zip(one, two, strict=True):
        assert first["step"] == second["step"]
        for key in (*(f"train/{part}" for part in PARTS), "val/accuracy", "val/nll"):
            assert second[key] == pytest.approx(first[key], rel=1e-5), key
    assert one[-1]["train/loss_tokens"] != pytest.approx(one[-1]["train/loss_samples"], rel=1e-3)


def gradients(strategy, data, rank, world, accumulate):
    """The sum over the batches of one optimiser step of one process's gradients."""
    data.share.rank, data.share.world, data.share.accumulate = rank, world, accumulate
    strategy.zero_grad()
    batches = iter(data.train_dataloader())
    for _ in range(accumulate):
        (strategy.distill(next(batches)).loss.total / accumulate).backward()
    found = {name: value.grad for name, value in strategy.named_parameters()}
    return {name: value.clone() for name, value in found.items() if value is not None}


@pytest.mark.parametrize("part", PARTS)
def test_the_gradient_of_a_step_does_not_depend_on_how_its_samples_are_dealt(workplace, teacher, part):
    """Four batches of 12 at once, accumulated, on two and on three processes: the same mean over the same values."""
    typed = [*CONFIG, *LOSSES, "teacher=run", f"teacher.run={teacher.path}"]
    typed += [f"loss.{name}.weight=0" for name in ("ce", "kd") if f"loss_{name}" != part]
    typed += [f"++loss.{name}.weight={int(f'loss_{name}' == part)}" for name in ("tokens", "samples")]
    found = []
    for size, worlds, accumulate in ((48, 1, 1), (12, 1, 4), (24, 2, 2), (12, 3, 4)):
        parts = assembled(compose([*typed, f"data.batch_size={size}"]))
        of_ranks = [gradients(parts.strategy.train(), parts.data, rank, worlds, accumulate) for rank in range(worlds)]
        found.append({name: sum(one[name] for one in of_ranks) / worlds for name in of_ranks[0]})
    whole = found[0]
    assert any(value.abs().sum() > 0 for value in whole.values())
    for other in found[1:]:
        for name, value in whole.items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-7)


def test_the_normalisers_of_a_batch(workplace):
    data = Tagged(batch_size=10, drop_last=False)
    data.row_counts = Tagging(4).row_counts
    data.share.accumulate, data.share.world = 2, 2
    first, second = (batch for batch, _ in zip(data.train_dataloader(), range(2)))
    data.share.rank = 1
    others = [batch for batch, _ in zip(data.train_dataloader(), range(2))]
    step = [first, second, *others]
    tokens = sum(float(batch.mask.sum()) for batch in step)
    assert len({float(batch.mask.sum()) for batch in step}) > 1, "the masks are uneven"
    for batch in step:
        assert batch.normaliser == pytest.approx(tokens / 4) and batch.position_normaliser == pytest.approx(tokens / 4)
        assert batch.sample_normaliser == 20 / 4


# -- by hand -----------------------------------------------------------------------------------------------------------


def outputs(seed):
    torch.manual_seed(seed)
    features = {"a": torch.randn(2, 4, 3, requires_grad=True), "b": torch.randn(2, 4, 3)}
    return torch.randn(2, 4, 7), features


def rows_of(mask, normalisers):
    labels = torch.arange(8).view(2, 4) % 7
    (student, mine), (teacher, theirs) = outputs(1), outputs(2)
    rows, target, weights = token_rows(student, labels)
    batch = Batch(None, target, torch.arange(2).repeat_interleave(3), mask=mask, weights=weights, **normalisers)
    return Outputs(rows, mine), Outputs(token_rows(teacher, labels)[0], theirs), batch


def test_losses_of_samples_and_positions_beside_rows_of_tokens():
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    student, teacher, batch = rows_of(mask, dict(normaliser=12.0, sample_normaliser=4.0, position_normaliser=10.0))
    values = ((student.features["a"] - teacher.features["b"]) ** 2).mean(-1)
    tokens, samples = HiddenMSE("a", "b"), HiddenMSE("a", "b", average="samples")
    for loss in (tokens, samples):
        loss.per = "position" if loss is tokens else "sample"  # what prepare decides from the features
    fsp = SequenceFSP(("a", "b"), ("a", "b"))
    objective = Objective(
        {"kd": HintonKD(), "tokens": tokens, "samples": samples, "fsp": fsp}, dict(kd=1, tokens=1, samples=1, fsp=1)
    )
    parts = objective(student, teacher, batch).parts
    assert parts["tokens"].item() == pytest.approx(((values * mask).sum() / 10).item(), rel=1e-5)
    by_sample = (values * mask).sum(1) / mask.sum(1)
    assert parts["samples"].item() == pytest.approx((by_sample.sum() / 4).item(), rel=1e-5)
    assert parts["fsp"].item() == pytest.approx((fsp(student, teacher, batch).sum() / 4).item(), rel=1e-5)
    assert parts["kd"].item() == pytest.approx((HintonKD()(student, teacher, batch).sum() / 12).item(), rel=1e-5)


class WholeBatch(Loss):
    per, needs_teacher = "batch", False

    def forward(self, student, teacher, batch):
        return student.logits.square().mean() if self.training else student.logits.square().mean(1)


def test_a_loss_over_the_batch_is_divided_by_nothing():
    student, teacher, batch = rows_of(None, dict(normaliser=12.0))
    objective = Objective({"whole": WholeBatch()}, {"whole": 1.0})
    assert objective(student, teacher, batch).parts["whole"] == student.logits.square().mean()
    with pytest.raises(ValueError, match="WholeBatch.per is 'batch', so it returns a scalar; got"):
        objective.eval()(student, teacher, batch)
    with pytest.raises(ValueError, match="per must be row, sample, position or batch, got 'token'"):
        batch.weighting("token", 1)


def test_a_value_a_sample_where_rows_are_tokens_is_refused_unless_it_is_declared():
    student, teacher, batch = rows_of(None, {})
    loss = SequenceFSP(("a", "b"), ("a", "b"))
    loss.per = "row"
    with pytest.raises(ValueError, match=r"one weight per row: values \(2,\) and weights \(6,\) differ"):
        Objective({"fsp": loss}, {"fsp": 1.0})(student, teacher, batch)


def test_a_target_that_is_no_task_is_refused():
    with pytest.raises(InputError, match="task: .*Tagged is no kdlab.tasks.Task.*task=classification"):
        assembled(compose([*CONFIG, "task._target_=tests.tasks.tagging.Tagged", "strategy=supervised"]))
