import pytest
import torch
from torch import nn

from kdlab.outputs import LazyLogits, Outputs


class Head(nn.Linear):
    """Counts how often logits are made."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return Head(3, 5)


def test_lazy_logits_are_not_made_until_they_are_asked_for_and_then_once(head):
    hidden = torch.ones(2, 7, 3)
    outputs = Outputs(LazyLogits(hidden, head), features={"f": hidden}, mask=torch.ones(2, 7))
    moved = outputs.replace(features={}).detach()
    assert outputs.is_lazy and moved.is_lazy and head.calls == 0
    assert outputs.logits.shape == (2, 7, 5) and outputs.logits is outputs.logits
    assert head.calls == 1 and not outputs.is_lazy and moved.is_lazy
    assert torch.equal(outputs.logits, nn.functional.linear(hidden, head.weight, head.bias))


def test_dense_logits_are_themselves():
    logits = torch.ones(2, 5)
    assert not Outputs(logits).is_lazy and Outputs(logits).logits is logits


def test_features_are_not_shared_between_outputs():
    Outputs(torch.ones(1)).features["f"] = torch.ones(1)
    assert Outputs(torch.ones(1)).features == {}


def test_replace_leaves_the_original_alone():
    outputs = Outputs(torch.ones(2, 5), {"f": torch.ones(2)}, torch.ones(2))
    changed = outputs.replace(answer=torch.zeros(2, 5))
    assert outputs.logits.sum() == 10 and changed.logits.sum() == 0
    assert changed.features is outputs.features and changed.mask is outputs.mask


def test_detach_cuts_logits_and_features_and_keeps_the_mask():
    x = torch.ones(2, 5, requires_grad=True)
    outputs = Outputs(x * 2, {"f": x * 3}, mask=torch.ones(2))
    cut = outputs.detach()
    assert torch.equal(cut.logits, outputs.logits) and torch.equal(cut.features["f"], outputs.features["f"])
    assert not cut.logits.requires_grad and not cut.features["f"].requires_grad and cut.mask is outputs.mask
    assert outputs.logits.requires_grad and outputs.features["f"].requires_grad


def test_detach_cuts_the_second_view_and_each_terms_own():
    def outputs():
        return Outputs(torch.ones(2, 5, requires_grad=True) * 2, {"f": torch.ones(2, requires_grad=True) * 3})

    cut = outputs().replace(second=outputs(), by_term={"kd": outputs()}).detach()
    for inner in (cut.second, cut.by_term["kd"]):
        assert inner.logits.sum() == 20 and not inner.logits.requires_grad and not inner.features["f"].requires_grad


def test_map_reaches_the_second_view_and_each_terms_own():
    def nested(value):
        return Outputs(torch.full((1,), value), {"f": torch.ones(1)}, torch.ones(1))

    said = nested(1.0).replace(second=nested(2.0), by_term={"kd": nested(3.0).replace(second=nested(4.0))})
    mapped = said.map(lambda one: one.replace(answer=one.logits * 10, second=None, by_term={"lost": one}))
    found = [mapped, mapped.second, mapped.by_term["kd"], mapped.by_term["kd"].second]
    assert [one.logits.item() for one in found] == [10.0, 20.0, 30.0, 40.0]
    assert list(mapped.by_term) == ["kd"] and mapped.second.by_term == {} and mapped.features is said.features
    assert said.logits.item() == 1.0 and said.second.logits.item() == 2.0


@pytest.mark.parametrize(
    "read",
    [lambda outputs: outputs.logits, lambda outputs: outputs.answer.head(outputs.answer.hidden)],
    ids=["dense", "chunked"],
)
def test_detached_lazy_logits_reach_neither_the_hidden_states_nor_the_head(head, read):
    # a peer that teaches must not learn through its head what its student is told
    hidden = torch.ones(2, 3, requires_grad=True)
    logits = read(Outputs(LazyLogits(hidden * 2, head)).detach())
    assert torch.equal(logits, head(hidden * 2))
    assert not logits.requires_grad


def test_a_second_view_that_is_not_there():
    first, second = Outputs(torch.zeros(1, 2)), Outputs(torch.ones(1, 2))
    assert first.with_second(second).second_view.logits.tolist() == [[1.0, 1.0]]
    with pytest.raises(ValueError, match="outputs for one view only"):
        _ = first.second_view
