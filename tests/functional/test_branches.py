"""ONE, and the gate, beyond the contract."""

import math

import pytest
import torch

from kdlab import functional
from kdlab.models.gate import BranchGate


def logits(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(number)], torch.arange(4)


def test_ramp_up():
    assert functional.ramp_up(20, 80) == math.exp(-5 * 0.75**2)
    assert functional.ramp_up(0, 0) == functional.ramp_up(90.5, 80) == 1.0
    with pytest.raises(ValueError, match="-1"):
        functional.ramp_up(-1)


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


def test_gate_learns_from_the_ensembles_cross_entropy_alone():
    """The ensemble is a constant in the KL; with detach=False it is not."""
    branches, target = logits(3)
    scores = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    for detach in (True, False):
        terms = functional.one(branches, scores.softmax(-1), target, detach=detach)
        assert torch.autograd.grad(terms.parts["ce_ensemble"].sum(), scores, retain_graph=True)[0].abs().sum() > 0
        through_kl = torch.autograd.grad(terms.sum_of("kl_"), scores, allow_unused=True)[0]
        assert (through_kl is None) == detach


def test_one_weighs_the_kl_terms_only():
    branches, target = logits(2)
    gate = torch.full((4, 2), 0.5, dtype=torch.float64)
    terms = functional.one(branches, gate, target, weight=0.25)
    torch.testing.assert_close(terms.total(), terms.sum_of("ce_") + 0.25 * terms.sum_of("kl_"))
