"""What a distillation framework gets wrong in silence. First weights are compared to the bit: of one seed, on one
machine, with one build."""

import pytest
import torch
from torch import nn

import kdlab
from kdlab.config.compose import compose
from kdlab.strategies.base import Strategy
from kdlab.training.assemble import assembled

HINT = ["student=cnn", "student.widths=[4,6,8]", "loss=[ce,kd,hint]", "data.fraction=0.5", "progress=none"]


@pytest.fixture(scope="module")
def conv_teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conv")
    return kdlab.train(
        ["experiment=teacher/digits", "student=cnn", "trainer.max_epochs=3", f"paths.runs={folder}", "progress=none"]
    )


@pytest.fixture
def watched(monkeypatch):
    """What the networks' modes were at the first step of every epoch, and the strategy itself."""
    seen = {"modes": [], "teacher modes": [], "strategy": None, "buffers": None}
    step = Strategy.training_step

    def training_step(self, batch, index):
        if index == 0:
            seen["modes"].append(all(module.training for module in self.student.modules()))
            if self.teacher is not None:
                seen["teacher modes"].append(any(module.training for module in self.teacher.network.modules()))
        if seen["buffers"] is None and self.teacher is not None:
            seen["buffers"] = {name: value.clone() for name, value in self.teacher.network.named_buffers()}
        seen["strategy"] = self
        return step(self, batch, index)

    monkeypatch.setattr(Strategy, "training_step", training_step)
    return seen


def test_hint_learns_and_the_teacher_does_not(workplace, conv_teacher, watched):
    run = kdlab.train([*HINT, "teacher=run", f"teacher.run={conv_teacher.path}", "trainer.max_epochs=3"])
    strategy = watched["strategy"]

    assert watched["modes"] == [True, True, True], "the student must be in train mode at step 1 of every epoch"
    assert watched["teacher modes"] == [False, False, False]
    teacher = strategy.teacher.network
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(value, watched["buffers"][name]) for name, value in teacher.named_buffers())

    # the connector (6 -> 16 channels) moved, is optimised, and is in the checkpoint
    content = torch.load(run.checkpoint("last"), weights_only=True)
    connector = {name: value for name, value in content["state_dict"].items() if "connector" in name}
    assert connector["objective.terms.hint.connector.0.weight"].shape == (16, 6, 1, 1)
    fresh = assembled(
        compose([*HINT, "teacher=run", f"teacher.run={conv_teacher.path}", "trainer.max_epochs=3"])
    ).strategy
    for name, value in fresh.objective.terms["hint"].connector.named_parameters():
        assert not torch.equal(value, connector[f"objective.terms.hint.connector.{name}"]), name
    trainable = sum(1 for _ in strategy.parameters())
    assert len(content["optimizer_states"][0]["state"]) == trainable
    assert {name.split(".")[0] for name in content["state_dict"]} == {"student", "objective"}, (
        "no teacher in a checkpoint"
    )
    rows = run.metrics_file.read_text().splitlines()
    position = rows[0].split(",").index("train/loss_hint")
    losses = [float(row.split(",")[position]) for row in rows[1:]]
    assert losses[-1] < losses[0]
    assert 0 < run.record["teacher_share"] < 1


def test_nothing_of_the_teacher_is_optimised_or_copied(workplace, taught):
    parts = assembled(compose(["teacher=run", f"teacher.run={taught.path}"]))
    teacher = {id(parameter) for parameter in parts.teacher.network.parameters()}
    assert teacher.isdisjoint(id(parameter) for parameter in parts.strategy.parameters())
    assert not any(module is parts.teacher.network for module in parts.strategy.modules())


def test_the_seed_changes_the_initialisation_and_the_losses_do_not(workplace, conv_teacher):
    def weights(*overrides):
        strategy = assembled(compose([*HINT, "teacher=run", f"teacher.run={conv_teacher.path}", *overrides])).strategy
        return nn.utils.parameters_to_vector(strategy.student.parameters())

    assert torch.equal(weights(), weights())
    assert not torch.equal(weights(), weights("seed=2"))
    assert torch.equal(weights(), weights("loss=[ce]"))


def test_a_student_that_arrives_in_evaluation_mode_is_trained(workplace, watched):
    """As networks of other libraries do."""
    kdlab.train(
        [
            "strategy=supervised",
            "student._target_=tests.strategies.networks.asleep",
            "trainer.max_epochs=2",
            "progress=none",
            "~student.hidden",
            "~student.dropout",
            "~student.input_dropout",
        ]
    )
    assert watched["modes"] == [True, True]


@pytest.mark.parametrize(
    "extra",
    [
        ["callbacks=ema"],
        ["trainer.precision=bf16-mixed"],
        ["trainer.precision=bf16-true"],
        pytest.param(["compile=aot_eager"], marks=pytest.mark.slow),
        ["trainer.gradient_clip_val=0.5", "trainer.accumulate_grad_batches=3"],
    ],
    ids=lambda extra: extra[0],
)
def test_options_work_with_features(workplace, conv_teacher, extra):
    run = kdlab.train([*HINT, "teacher=run", f"teacher.run={conv_teacher.path}", "trainer.max_epochs=1", *extra])
    content = torch.load(run.checkpoint("last"), weights_only=True)
    assert {name.split(".")[0] for name in content["state_dict"]} == {"student", "objective"}
    assert not any("_orig_mod" in name for name in content["state_dict"])
    assert all(torch.isfinite(torch.tensor(value)) for value in run.metrics.values())
    assert next(run.student.parameters()).dtype == torch.float32


@pytest.mark.slow
def test_what_one_run_compiled_does_not_serve_the_next(workplace, conv_teacher):
    """The first captures no feature, and the second does."""
    common = [*HINT, "teacher=run", f"teacher.run={conv_teacher.path}", "trainer.max_epochs=1", "compile=aot_eager"]
    for loss in ("loss=[ce,kd]", "loss=[ce,kd,hint]"):
        assert kdlab.train([*common, loss]).finished


def test_ema_is_what_is_kept(workplace, taught):
    """The average lags behind the weights: with a decay of 1 it is the initialisation."""
    run = kdlab.train(
        [
            "teacher=run",
            f"teacher.run={taught.path}",
            "callbacks=ema",
            "callbacks.ema.decay=1.0",
            "trainer.max_epochs=1",
            "progress=none",
        ]
    )
    start = assembled(run.config).strategy.student
    # the average begins at the first step's weights
    distance = (
        nn.utils.parameters_to_vector(run.student.parameters()) - nn.utils.parameters_to_vector(start.parameters())
    ).norm()
    plain = kdlab.train(["teacher=run", f"teacher.run={taught.path}", "trainer.max_epochs=1", "progress=none"])
    moved = (
        nn.utils.parameters_to_vector(plain.student.parameters()) - nn.utils.parameters_to_vector(start.parameters())
    ).norm()
    assert distance < moved / 5


def test_accumulated_batches_are_one_large_batch(workplace, taught):
    """Without shuffling effects: two batches of 32 accumulated give the gradient, and so the curve, of one batch of
    64."""
    common = ["teacher=run", f"teacher.run={taught.path}", "trainer.max_epochs=2", "progress=none", "scheduler=none"]
    large = kdlab.train([*common, "data.batch_size=64"])
    small = kdlab.train(
        [*common, "data.batch_size=32", "trainer.accumulate_grad_batches=2", "+trainer.limit_train_batches=34"]
    )
    first, second = (nn.utils.parameters_to_vector(run.student.parameters()) for run in (large, small))
    assert torch.allclose(first, second, atol=2e-5)


def test_stopped_teacher_is_not_asked(workplace, taught):
    run = kdlab.train(
        [
            "teacher=run",
            f"teacher.run={taught.path}",
            "trainer.max_epochs=2",
            "progress=none",
            "loss.kd.weight={schedule: stop, value: 0.9, epochs: 1}",
        ]
    )
    from kdlab.runs.curve import MetricsFile

    first, second = MetricsFile(run.metrics_file).load().rows
    assert "train/loss_kd" in first and "train/loss_kd" not in second
    assert second["train/teacher_share"] == 0 and second["train/kd.weight"] == 0
    assert second["train/loss"] == pytest.approx(second["train/loss_ce"])  # the tied weight of the labels is 1 again
