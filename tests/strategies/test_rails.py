"""The guard rails hold for every strategy that they are about, and each fails when its defect is put in."""

import pytest
import torch
from torch import nn

import kdlab
from kdlab.data import loader
from kdlab.outputs import Outputs
from kdlab.strategies import Offline, Online
from kdlab.strategies.base import Strategy
from kdlab.teachers import Frozen
from kdlab.training import assemble
from tests.strategies import rails


@pytest.fixture(scope="module")
def conv_teacher(tmp_path_factory):
    """A teacher with BatchNorm, whose statistics could drift."""
    folder = tmp_path_factory.mktemp("conv")
    return kdlab.train(
        ["experiment=teacher/digits", "student=cnn", "trainer.max_epochs=1", f"paths.runs={folder}", "progress=none"]
    )


@pytest.fixture
def strategy(workplace, conv_teacher):
    teacher = ["teacher=run", f"teacher.run={conv_teacher.path}"]
    return lambda name: [f"strategy={name.split()[0]}", *name.split()[1:], *(teacher if name == "offline" else [])]


RAILS = {
    "train_mode": ["offline", "online", "cotrain", "ema"],
    "no_drift": ["offline"],
    "detached": ["online", "kdcl", "cotrain"],
    "optimised": ["offline", "online", "kdcl", "one", "cotrain", "byot", "ema", "previous_checkpoint"],
    "saved": [
        "online",
        "kdcl strategy.rule=general",
        "one",
        "byot",
        "cs_kd",
        "dlb",
        "ema",
        "previous_checkpoint",
        "ps_kd",
    ],
    "seeded": ["offline", "online", "one", "ema"],
}


QUICK = ("offline", "online")  # the others with the slow tests


@pytest.mark.parametrize(
    "rail, name",
    [
        pytest.param(rail, name, marks=[] if name in QUICK else pytest.mark.slow)
        for rail, names in RAILS.items()
        for name in names
    ],
)
def test_rail(rail, name, strategy):
    getattr(rails, rail)(strategy(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["supervised", "online", "byot", "ema", "ps_kd"])
def test_the_order_of_the_data(name, strategy):
    rails.ordered(strategy("offline"), strategy(name))


def _student_left_in_evaluation_mode(patch):
    start = Strategy.on_train_epoch_start

    def on_train_epoch_start(self):
        start(self)
        if self.current_epoch > 0:
            self.student.eval()

    patch.setattr(Strategy, "on_train_epoch_start", on_train_epoch_start)


def _teacher_in_train_mode(patch):
    teach = Frozen.teach

    def taught(self, batch):
        self.network.train()
        return teach(self, batch)

    patch.setattr(Frozen, "teach", taught)


def _nothing_detached(patch):
    patch.setattr(Outputs, "detach", lambda self: self)


def _teacher_registered(patch):
    made = Offline.__init__

    def init(self, **base):
        made(self, **base)
        self.leaked = self.teacher.network.requires_grad_(True)

    patch.setattr(Offline, "__init__", init)


def _peers_left_out(patch):
    patch.setattr(Online, "parameter_groups", lambda self: [{"params": list(self.student.parameters())}])


def _peers_not_saved(patch):
    """Peers as plain attributes, as a list of networks would be."""
    states = nn.Module.state_dict
    patch.setattr(
        Online,
        "state_dict",
        lambda self, *args, **kwargs: {
            key: value for key, value in states(self, *args, **kwargs).items() if not key.startswith("peers.")
        },
    )
    loads = nn.Module.load_state_dict
    patch.setattr(Online, "load_state_dict", lambda self, state, **kwargs: loads(self, state, strict=False))


def _seed_ignored(patch):
    seed = assemble.derived_seed
    patch.setattr(assemble, "derived_seed", lambda _, *key: seed(0, *key))


def _one_seed_for_all_networks(patch):
    patch.setattr(assemble, "derived_seed", lambda seed, *key: seed)


def _order_from_the_global_generator(patch):
    patch.setattr(loader, "counter_order", lambda rows, *key: rows[torch.randperm(len(rows))])


@pytest.mark.parametrize(
    "rail, name, defect",
    [
        ("train_mode", "offline", _student_left_in_evaluation_mode),
        ("train_mode", "offline", _teacher_in_train_mode),
        ("no_drift", "offline", _teacher_in_train_mode),
        ("detached", "online", _nothing_detached),
        ("optimised", "offline", _teacher_registered),
        ("optimised", "online", _peers_left_out),
        ("saved", "online", _peers_not_saved),
        ("seeded", "offline", _seed_ignored),
        ("seeded", "online", _one_seed_for_all_networks),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else value,
)
def test_the_rail_notices(rail, name, defect, strategy, monkeypatch):
    defect(monkeypatch)
    with pytest.raises(AssertionError):
        getattr(rails, rail)(strategy(name))


def test_the_order_rail_notices(strategy, monkeypatch):
    _order_from_the_global_generator(monkeypatch)
    with pytest.raises(AssertionError):
        rails.ordered(strategy("offline"), strategy("online"))
