"""Every argument of every strategy changes a run, or is refused. An argument without a line here fails."""

import inspect

import pytest
import torch

import kdlab
from kdlab import strategies
from kdlab.config.keys import GIVEN
from kdlab.errors import InputError
from kdlab.strategies.base import Strategy

SHORT = [
    "data.fraction=0.1",
    "data.batch_size=16",
    "student.hidden=[8,8]",
    "trainer.max_epochs=3",
    "data.augment.crop_padding=1",
    "progress=none",
]

# strategy, what both runs have, and what one of them has besides
CHANGES = {
    "online": [
        ([], ["strategy.peers=2"]),
        (["strategy.peers=2"], ["strategy.teachers=sum"]),
        (["strategy.peers=2"], ["strategy.teachers=mean_logits"]),
        (["strategy.peers=2", "strategy.teachers=mean_logits"], ["strategy.teachers=mean_probabilities"]),
        ([], ["strategy.update=alternating"]),
        ([], ["strategy.decay=0.9"]),
        (["strategy.decay=0.9"], ["strategy.decay=0.5"]),
        ([], ["strategy.views=different"]),
        ([], ["strategy.keep=peer2"]),
    ],
    "kdcl": [
        *(([], [f"strategy.rule={rule}"]) for rule in ("naive", "linear", "general", "mean")),
        *((["strategy.rule=" + rule], ["strategy.per_sample=true"]) for rule in ("naive", "linear")),
        (["strategy.rule=general"], ["strategy.ridge=10"]),
        ([], ["strategy.views=same"]),
    ],
    "cotrain": [
        ([], ["strategy.feedback=0.5"]),
        (["strategy.feedback=0.5"], ["strategy.feedback=1.0"]),
        ([], ["strategy.peers.teacher.hidden=[12,12]"]),
        ([], ["strategy.keep=teacher"]),
    ],
    "ema": [([], ["strategy.decay=0.5"]), ([], ["strategy.views=same"]), ([], ["strategy.keep=average"])],
    "one": [([], ["strategy.peers=1"]), ([], ["strategy.split=stage2"])],
    "byot": [
        (["student.hidden=[8,8,8]"], ["strategy.exits=[stage1]"]),
        (["strategy.feature_weight=0.1"], ["strategy.feature=stage1"]),
        ([], ["strategy.deepest_weight=3"]),
        ([], ["strategy.feature_weight=0.1"]),
        (["strategy.feature_weight=0.1"], ["strategy.feature_reduction=mean"]),
    ],
    "previous_checkpoint": [([], ["strategy.every=2"]), ([], ["strategy.start=2"])],
    "ps_kd": [([], ["strategy.store=float16"])],
}
REFUSED = {
    "one": [["+strategy.keep=branch2"], ["+strategy.views=different"]],
    "supervised": [["+strategy.generation=1"]],
}
# tests/training/test_chains.py; features below 0 in test_own_teacher.py; test_on_policy.py and test_privileged.py
ELSEWHERE = {
    "born_again": {"generation"},
    "byot": {"positive_only"},
    "on_policy": {
        "capacity",
        "longest",
        "overlap",
        "rise",
        "share",
        "teacher_mix",
        "temperature",
        "tolerance",
        "warm_up",
    },
    "privileged": {"decay", "teaches"},
}
CLASSES = {
    "Supervised": "supervised",
    "Online": "online",
    "Collaborative": "kdcl",
    "CoTrained": "cotrain",
    "MeanTeacher": "ema",
    "NativeEnsemble": "one",
    "OwnTeacher": "byot",
    "PreviousCheckpoint": "previous_checkpoint",
    "Progressive": "ps_kd",
    "BornAgain": "born_again",
    "ClassWise": "cs_kd",
    "LastBatch": "dlb",
    "Offline": "offline",
    "OnPolicy": "on_policy",
    "Privileged": "privileged",
}


def _arguments(kind) -> set[str]:
    """What a class's own constructor takes, without what a run gives and what it hands on."""
    own = {
        name
        for name, one in inspect.signature(kind.__init__).parameters.items()
        if one.kind is one.KEYWORD_ONLY and "__init__" in vars(kind)
    }
    return own - GIVEN["strategy"]


def test_every_argument_has_its_line():
    public = {
        name
        for name in strategies.__all__
        if inspect.isclass(getattr(strategies, name)) and issubclass(getattr(strategies, name), Strategy)
    }
    assert set(CLASSES) == public - {"Strategy"}
    for name, short in CLASSES.items():
        kind = getattr(strategies, name)
        changed = {pair[1][0].lstrip("+").partition("=")[0].split(".")[1] for pair in CHANGES.get(short, [])}
        changed |= {
            one[0].lstrip("+").partition("=")[0].split(".")[1] for one in REFUSED.get(short, [])
        } | ELSEWHERE.get(short, set())
        expected = _arguments(kind) | (_arguments(Strategy) if short == "supervised" else set())
        assert expected <= changed, f"{name}: {expected - changed}"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What a run of these overrides says of test; a base is trained once for all that differ from it."""
    folder, found = tmp_path_factory.mktemp("arguments"), {}

    def of(overrides):
        if tuple(overrides) not in found:
            found[tuple(overrides)] = kdlab.train([*SHORT, f"paths.runs={folder}", *overrides]).predictions()["last"]
        return found[tuple(overrides)]

    return of


CASES = [
    pytest.param([f"strategy={strategy}", *both], changed, id=" ".join([strategy, *both, *changed]))
    for strategy, pairs in CHANGES.items()
    for both, changed in pairs
]


@pytest.mark.parametrize("both, changed", CASES)
def test_an_argument_changes_the_run(both, changed, outcome):
    """To the bit, on one machine and one build: that two runs of one config are the same is tested with resuming."""
    assert not torch.equal(outcome(both), outcome([*both, *changed]))


@pytest.mark.parametrize(
    "strategy, overrides", [(strategy, overrides) for strategy, several in REFUSED.items() for overrides in several]
)
def test_or_it_is_refused(strategy, overrides, workplace):
    with pytest.raises(InputError, match=overrides[0].lstrip("+").partition("=")[0]):
        kdlab.train([*SHORT, f"strategy={strategy}", *overrides])
