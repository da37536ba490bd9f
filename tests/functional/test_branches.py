"""ONE, and the gate, beyond the contract."""

import pytest
import torch

from kdlab import functional
from kdlab.models.gate import BranchGate


def logits(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(number)
    ], torch.arange(4)


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
        (gradient,) = torch.autograd.grad(
            functional.one_kl(branches[0], ensemble, detach=detach).sum(), scores, allow_unused=True, retain_graph=True
        )
        assert (gradient is None) == detach
