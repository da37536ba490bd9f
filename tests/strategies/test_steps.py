"""What each step of a run finds: modes, schedules, random numbers; and what a resumed run finds again."""

import pytest
import torch

import kdlab
from kdlab.losses import CrossEntropy
from kdlab.runs.curve import MetricsFile
from kdlab.strategies import Supervised
from kdlab.strategies.base import Strategy
from tests.strategies.tiny import batch_of, linear, made

SHORT = ["data.fraction=0.2", "trainer.max_epochs=2", "progress=none", "trainer.accelerator=cpu", "student.hidden=[8]"]
BATCHES = 7  # an epoch
SLEEPING = "{_target_: tests.strategies.networks.asleep, classes: 10, shape: [1,8,8]}"


@pytest.fixture
def at_each_step(monkeypatch):
    """What a function finds in the strategy at the beginning of every training step: (epoch, batch, found)."""

    def watch(find):
        found, step = [], Strategy.training_step

        def training_step(self, batch, index):
            found.append((self.current_epoch, index, find(self)))
            return step(self, batch, index)

        monkeypatch.setattr(Strategy, "training_step", training_step)
        return found

    return watch


def test_a_temperature_moves_with_every_step(workplace, at_each_step, taught):
    """And not with the epochs alone: from 8 to 2 within the two."""
    found = at_each_step(lambda strategy: strategy.objective.terms["kd"].temperature)
    kdlab.train(
        [
            *SHORT,
            "teacher=run",
            f"teacher.run={taught.path}",
            "loss.kd.temperature={schedule: linear, start: 8, end: 2, epochs: 2}",
        ]
    )
    assert len(found) == 2 * BATCHES
    for epoch, index, temperature in found:
        assert temperature == pytest.approx(8 - 6 * (epoch + index / BATCHES) / 2, abs=1e-9)


@pytest.mark.parametrize("peers", [1, 2])
def test_the_schedules_of_peers_move_with_the_students(workplace, at_each_step, peers):
    def scheduled(strategy):
        objectives = [strategy.objective, *strategy.objectives.values()]
        return [(objective.weights["kd"], objective.terms["kd"].temperature) for objective in objectives]

    found = at_each_step(scheduled)
    kdlab.train(
        [
            *SHORT,
            "strategy=online",
            "loss=[ce,kd]",
            f"strategy.peers={peers}",
            "loss.kd.weight={schedule: linear, start: 0, end: 1, epochs: 2}",
            "loss.kd.temperature={schedule: linear, start: 8, end: 2, epochs: 2}",
        ]
    )
    for epoch, index, values in found:
        done = (epoch + index / BATCHES) / 2
        assert len(values) == peers + 1
        for weight, temperature in values:
            assert (weight, temperature) == (pytest.approx(done, abs=1e-9), pytest.approx(8 - 6 * done, abs=1e-9))


@pytest.mark.parametrize(
    "overrides, networks",
    [
        (
            [
                "strategy=supervised",
                "student=network",
                "student._target_=tests.strategies.networks.asleep",
                "+student.classes=10",
                "+student.shape=[1,8,8]",
            ],
            1,
        ),
        (["strategy=online", f"strategy.peers={{one: {SLEEPING}, two: {SLEEPING}}}"], 3),
    ],
)
def test_a_network_that_arrives_in_evaluation_mode_is_trained(workplace, at_each_step, overrides, networks):
    """Its dropout too, also after the first validation."""
    found = at_each_step(
        lambda strategy: [
            all(module.training for module in network.modules()) for network in strategy.networks().values()
        ]
    )
    kdlab.train([text for text in SHORT if "hidden" not in text or "student=network" not in overrides] + overrides)
    assert len(found) == 2 * BATCHES and all(modes == [True] * networks for _, _, modes in found)


def test_dropout_differs_from_epoch_to_epoch_from_step_to_step_and_from_seed_to_seed(workplace, at_each_step):
    """And it is the same again in the same run."""

    def drawn(strategy):
        with torch.random.fork_rng(devices=[]):
            return tuple(torch.nn.functional.dropout(torch.ones(64), 0.5).tolist())

    found = at_each_step(drawn)
    for name, seed in (("a", 1), ("a again", 1), ("b", 2)):
        kdlab.train([*SHORT, "strategy=supervised", "student.dropout=0.5", f"seed={seed}", f"name={name}"])
    masks = [mask for _, _, mask in found]
    one, again, other = masks[: 2 * BATCHES], masks[2 * BATCHES : 4 * BATCHES], masks[4 * BATCHES :]
    assert one == again and len(set(one)) == 2 * BATCHES and len({*one, *other}) == 4 * BATCHES


def test_the_optimiser_moves_once_in_so_many_batches(workplace, monkeypatch):
    """And with the last batch, whatever has been accumulated. ``stepped`` says so."""
    found = []
    monkeypatch.setattr(Strategy, "after_step", lambda self, step, batch: found.append(self.stepped))
    kdlab.train([*SHORT, "strategy=supervised", "trainer.max_epochs=1", "trainer.accumulate_grad_batches=2"])
    assert found == [False, True, False, True, False, True, True]


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples(workplace, monkeypatch):
    """Not over its batches: the last is small."""
    steps, step = [], Strategy.training_step

    def training_step(self, batch, index):
        total = step(self, batch, index)
        steps.append((total.item(), len(batch)))
        return total

    monkeypatch.setattr(Strategy, "training_step", training_step)
    overrides = ["trainer.max_epochs=1", "data.drop_last=false", "data.batch_size=100", "optimizer.lr=0.1"]
    run = kdlab.train([*SHORT, "strategy=supervised", *overrides])
    expected = sum(loss * rows for loss, rows in steps) / sum(rows for _, rows in steps)
    (row,) = MetricsFile(run.metrics_file).load().rows
    assert row["train/loss"] == pytest.approx(expected, rel=1e-6) == row["train/loss_ce"]
    assert abs(sum(loss for loss, _ in steps) / len(steps) - expected) > 1e-3


SCHEDULERS = {
    "plateau": [
        "scheduler=none",
        "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau",
        "+scheduler.interval=epoch",
        "+scheduler.mode=max",
        "+scheduler.patience=1",
        "+scheduler.threshold=10",
        "+scheduler.factor=0.5",
    ],
    "by epochs": ["scheduler=multistep", "scheduler.milestones=[1,3]"],
    "exponential": [
        "scheduler=none",
        "scheduler._target_=torch.optim.lr_scheduler.ExponentialLR",
        "+scheduler.interval=epoch",
        "+scheduler.gamma=0.5",
    ],
    "by steps": ["scheduler=onecycle"],
}


@pytest.mark.parametrize(
    "scheduler, epoch",
    [
        ("plateau", 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("plateau", 1), ("plateau", 3), ("by epochs", 1), ("by steps", 3))
        ),
        ("exponential", 2),
    ],
)
def test_the_learning_rate_of_a_resumed_run_is_that_of_an_undisturbed_one(workplace, monkeypatch, scheduler, epoch):
    """On one machine to the bit: the scheduler's state is in the checkpoint as it is after the epoch."""
    step, rates = Strategy.training_step, {"whole": [], "cut": []}

    def train(name, cut=None):
        def training_step(self, batch, index):
            if (self.current_epoch, index) == cut:
                raise KeyboardInterrupt
            rates[name].append((self.trainer.global_step, self.trainer.optimizers[0].param_groups[0]["lr"]))
            return step(self, batch, index)

        monkeypatch.setattr(Strategy, "training_step", training_step)
        return kdlab.train(
            [*SHORT, "strategy=supervised", "trainer.max_epochs=4", f"name={name}", *SCHEDULERS[scheduler]]
        )

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("cut", (epoch, 0))
    resumed = train("cut")
    assert rates["cut"] == rates["whole"] and len({rate for _, rate in rates["whole"]}) > 1
    ends = [torch.load(run.checkpoint("last"), weights_only=True) for run in (whole, resumed)]
    assert ends[0]["lr_schedulers"] == ends[1]["lr_schedulers"]
    assert all(torch.equal(value, ends[1]["state_dict"][name]) for name, value in ends[0]["state_dict"].items())


def test_a_plateau_lowers_the_rate_after_so_many_epochs_without_a_better_score(workplace):
    """The rate in the curve is the one after the epoch, as with all other schedulers."""
    run = kdlab.train([*SHORT, "strategy=supervised", "trainer.max_epochs=5", *SCHEDULERS["plateau"]])
    rates = [row["learning_rate"] for row in MetricsFile(run.metrics_file).load().rows]
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])


def test_a_number_does_not_hide_a_buffer():
    student = linear()
    strategy = made(Supervised, student, {"ce": CrossEntropy()}, {"ce": 1.0}, batch_of(4))
    strategy.register_buffer("count", torch.zeros(()))
    with pytest.raises(TypeError):
        strategy.count = 3.0
    strategy.epochs_done = 1.5
    assert strategy.epochs_done == 1.5 and "count" in strategy.state_dict()
