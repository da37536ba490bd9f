"""``channels_last``: the layout of weights, and runs that have it."""

import pytest
import torch

from kdlab import train
from kdlab.config.compose import compose
from kdlab.models import CNN
from kdlab.models.layout import use_channels_last
from kdlab.runs.identity import run_hash
from kdlab.training.assemble import assembled

RUN = ["student=cnn", "teacher.student=cnn_wide", "loss=[ce,kd,hint]", "optimizer=sgd", "trainer.max_epochs=1"]
QUICK = [*RUN, "data.fraction=0.3", 'teacher.overrides=["trainer.max_epochs=2"]', "progress=none"]
LAST = torch.channels_last


def convolutions(module):
    found = [value for value in module.parameters() if value.dim() == 4 and value.shape[1] > 1]
    assert found
    return found


def test_the_layout_changes_and_nothing_else():
    torch.manual_seed(1)
    network = CNN(classes=3, shape=(2, 8, 8), widths=(8, 16))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    parameters, image = list(network.parameters()), torch.randn(4, 2, 8, 8)
    expected = network.eval()(image)
    use_channels_last(network)
    after = network.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert all(one is other for one, other in zip(parameters, network.parameters()))
    assert all(value.is_contiguous(memory_format=LAST) for value in convolutions(network))
    torch.testing.assert_close(network(image), expected, rtol=1e-5, atol=1e-6)


def test_a_run_with_channels_last(workplace):
    """Student, teacher and connectors have the layout; the weights are those of the plain run but for rounding; kept
    answers are those of the live teacher, bit for bit, and no others."""
    plain = train([*QUICK, "name=plain", "teacher.cache=fixed"])
    live = train([*QUICK, "name=live", "channels_last=true", "teacher.cache=live"])
    kept = train([*QUICK, "name=kept", "channels_last=true", "teacher.cache=fixed"])
    one, other, third = (
        torch.load(run.checkpoint("last"), weights_only=True)["state_dict"] for run in (plain, live, kept)
    )
    assert list(one) == list(other) == list(third) and all(torch.equal(other[name], third[name]) for name in other)
    assert kept.record["cache"]["computed"] == 1, "the answers of the plain run have other last digits"
    assert max((one[name] - other[name]).abs().max().item() for name in one) < 1e-4
    assert live.hash == kept.hash != plain.hash and live.student is not None
    parts = assembled(compose([*QUICK, "channels_last=true"]))
    for module in (parts.strategy.student, parts.strategy.objective, parts.teacher.network):
        assert all(value.is_contiguous(memory_format=LAST) for value in convolutions(module))


@pytest.mark.parametrize(("value", "same"), [("false", True), ("true", False)])
def test_it_counts_in_the_hash_where_it_is_on(value, same):
    assert (run_hash(compose([f"channels_last={value}"])) == run_hash(compose([]))) == same
