"""ONE and BYOT, and the gate, beyond the contract."""

import pytest
import torch

from kdlab import functional
from kdlab.models.gate import BranchGate


def logits(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(number)], torch.arange(4)


def test_gate_is_linear_norm_relu_softmax_of_the_pooled_map():
    gate = BranchGate(6, 3).double()
    shared = torch.randn(5, 6, 2, 3, dtype=torch.float64)
    scores = shared.mean((2, 3)) @ gate.linear.weight.T + gate.linear.bias
    scores = (scores - scores.mean(0)) / (scores.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(gate(shared), scores.clamp(min=0).softmax(-1))
    torch.testing.assert_close(gate.eval()(shared), gate(shared.mean((2, 3))))
    for wrong in (torch.ones(5, 7), torch.ones(5, 6, 2)):
        with pytest.raises(ValueError, match="6"):
            gate(wrong.double())
    with pytest.raises(ValueError, match="branches"):
        BranchGate(6, 1)


def test_the_ensemble_teaches_as_a_constant_unless_asked():
    """And so the gate learns nothing from what the ensemble teaches."""
    branches, _ = logits(3)
    scores = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    ensemble = functional.ensemble_logits(branches, scores.softmax(-1))
    for detach in (True, False):
        gradient, = torch.autograd.grad(functional.one_kl(branches[0], ensemble, detach=detach).sum(), scores, allow_unused=True, retain_graph=True)
        assert (gradient is None) == detach


def test_byot_switches():
    """The deepest classifier's cross-entropy has its own weight; a sum over the batch is B times the mean; features may be absent."""
    (deepest, *exits), target = logits(3)
    (deepest_feature, *features), _ = logits(3, seed=1)
    terms = functional.byot(deepest, exits, target, deepest_feature, features, kd_weight=0.2, feature_weight=0.5)
    expected = terms.sum_of("ce_deepest") + 0.8 * (terms.sum_of("ce_0") + terms.sum_of("ce_1")) + 0.2 * terms.sum_of("kd_")
    torch.testing.assert_close(terms.total(), expected + 0.5 * terms.sum_of("feature_"))
    summed = functional.byot(deepest, exits, target, deepest_feature, features, feature_reduction="sum")
    torch.testing.assert_close(summed.sum_of("feature_"), 4 * terms.sum_of("feature_"))
    assert list(functional.byot(deepest, exits, target).parts) == ["ce_deepest", "ce_0", "ce_1", "kd_0", "kd_1"]
    with pytest.raises(ValueError, match="1 for 2 exits"):
        functional.byot(deepest, exits, target, deepest_feature, features[:1])


def test_byot_teaches_the_deepest_only_by_labels():
    (deepest, *exits), target = logits(3)
    (deepest_feature, *features), _ = logits(3, seed=1)
    terms = functional.byot(deepest, exits, target, deepest_feature, features)
    assert torch.autograd.grad(terms.sum_of("feature_"), deepest_feature, allow_unused=True) == (None,)
    total, = torch.autograd.grad(terms.total(), deepest)
    alone, = torch.autograd.grad(functional.cross_entropy(deepest, target).mean(), deepest)
    torch.testing.assert_close(total, alone)


def test_cross_entropy_form_has_the_gradient_of_the_kl():
    (student, deepest), _ = logits(2)
    first, second = (torch.autograd.grad(functional.byot_kd(student, deepest, entropy=entropy).sum(), student)[0] for entropy in (True, False))
    torch.testing.assert_close(first, second)
