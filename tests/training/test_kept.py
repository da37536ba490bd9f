"""A run that keeps another network than its student is, for every later run, that network."""

import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.models import MLP
from kdlab.runs.checkpoints import load_student

SHORT = ["data.fraction=0.2", "trainer.max_epochs=2", "progress=none"]
WIDE = [
    "strategy=online",
    "student=mlp",
    "student.hidden=[16]",
    "+student@strategy.peers.wide=mlp",
    "strategy.peers.wide.hidden=[24]",
    "strategy.peers.wide.dropout=0.0",
    "strategy.keep=wide",
]


@pytest.fixture
def kept(workplace):
    return kdlab.train([*WIDE, *SHORT])


def _sizes(network: MLP) -> int:
    return next(network.parameters()).shape[0]


def test_it_is_what_the_run_gives_and_teaches(kept):
    assert _sizes(kept.student) == 24 and kept.record["parameters"] == sum(
        value.numel() for value in kept.student.parameters()
    )
    assert kept.record["kept"]["rule"] == "wide" and set(kept.record["networks"]) == {"student", "wide"}
    for teacher in (
        ["teacher=run", f"teacher.run={kept.path}"],
        ["teacher=checkpoint", f"teacher.checkpoint={kept.checkpoint('last')}"],
    ):
        taught = kdlab.train([*teacher, *SHORT, "student.hidden=[8]"])
        assert taught.record["teacher"]["test"]["accuracy"] == pytest.approx(kept.metrics["test/accuracy"], abs=1e-6)


@pytest.mark.parametrize("form", ["run", "checkpoint"])
def test_it_is_what_a_student_begins_with(kept, form):
    source = kept.path if form == "run" else kept.checkpoint("last")
    begun = ["strategy=supervised", f"initial={form}", f"student.initial.{form}={source}", *SHORT, "optimizer.lr=1e-12"]
    run = kdlab.train([*begun, "student.hidden=[24]"])
    first, second = (
        torch.nn.utils.parameters_to_vector(network.parameters()) for network in (kept.student, run.student)
    )
    assert torch.allclose(first, second, atol=1e-6)
    with pytest.raises(InputError, match="does not fit"):
        kdlab.train([*begun, "student.hidden=[16]"])


def test_weights_of_another_architecture_are_refused(kept):
    with pytest.raises(InputError, match=r"last\.ckpt does not fit MLP: 'stage1\.linear\.weight' is \(24, 64\) in the"):
        load_student(MLP(10, (1, 8, 8), hidden=(16,)), kept.checkpoint("last"), module="peers.wide")
    load_student(MLP(10, (1, 8, 8), hidden=(16,)), kept.checkpoint("last"))


def test_so_it_is_before_it_is_trained(workplace):
    """An untrained network stands in for it, and it must be of its shape."""
    before = ",".join(f'"{text}"' for text in (*WIDE, "loss=[ce,mutual_kl]", "initial=none"))
    run = kdlab.train(
        [
            "strategy=supervised",
            "student.hidden=[24]",
            "initial=same_but",
            f"student.initial.same_but=[{before}]",
            *SHORT,
        ]
    )
    assert run.record["initial"] is not None and run.finished
