"""Estimates of memory and operations, against what torch counts in real steps of small models."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, ForwardKL, JensenShannon, ReverseKL, TotalVariation
from kdlab.measure.estimate import (
    activations,
    attention_flops,
    forward_bytes,
    gradient_bytes,
    is_checkpointed,
    logits_bytes,
    multiplied,
    optimizer_bytes,
    step_flops,
    weight_bytes,
)
from kdlab.measure.memory import tensors_at_once
from kdlab.models import CausalModel
from kdlab.models.published import planned
from kdlab.objective import Objective
from kdlab.outputs import LazyLogits, Outputs

SIZES = {"vocabulary": 300, "layers": 4, "width": 64, "heads": 4, "positions": 64}
TEXTS, TOKENS = 3, 48


def both(architecture="llama", **options):
    """A small model with values, and the same without."""
    options = {"architecture": architecture, **SIZES, **options}
    if architecture == "gpt2":  # dropout keeps masks of its own kind on each device
        options["options"] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    torch.manual_seed(0)
    return CausalModel(**options), planned(**options)


def batch(padded=True):
    ids = torch.arange(TEXTS * TOKENS).view(TEXTS, TOKENS) % 300
    mask = torch.ones_like(ids)
    if padded:
        mask[0, TOKENS // 2 :] = 0
    return ids, mask


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize(
    "make",
    [torch.optim.AdamW, lambda params: torch.optim.SGD(params, 0.1, momentum=0.9)],
    ids=["AdamW", "SGD"],
)
def test_weights_gradients_and_states_are_exactly_those_of_a_real_step(architecture, make):
    model, plan = both(architecture, lora={"rank": 2} if architecture == "llama" else None)
    optimizer = make(params=[one for one in model.parameters() if one.requires_grad])
    model(*batch()).logsumexp(-1).mean().backward()
    optimizer.step()
    weights = [*model.parameters(), *model.buffers()]
    states = [one for state in optimizer.state.values() for one in state.values() if isinstance(one, torch.Tensor)]
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    real = [sum(one.numel() * one.element_size() for one in found) for found in (weights, gradients, states)]
    assert [weight_bytes(plan), gradient_bytes(plan), optimizer_bytes(make, plan)] == real
    assert weight_bytes(plan.to(torch.bfloat16)) == weight_bytes(model.to(torch.bfloat16))


def test_an_optimiser_that_needs_a_closure_is_not_known():
    assert optimizer_bytes(torch.optim.LBFGS, nn.Linear(2, 2)) is None


def kept(model, padded, half):
    """The bytes that a real forward pass keeps, to the last hidden state."""
    known = {one.untyped_storage()._cdata for one in (*model.parameters(), *model.buffers())}
    found = {}

    def keep(value):
        found.setdefault(value.untyped_storage()._cdata, value.detach())

    ids, mask = batch(padded)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None),
    ):
        hidden = model.train().network.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        keep(hidden.last_hidden_state)
    sizes = {place: one.untyped_storage().nbytes() for place, one in found.items() if place not in known}
    return sum(sizes.values())


@pytest.mark.parametrize("half", [None, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2", "qwen3"])
def test_activations_are_those_of_a_real_pass(architecture, half):
    model, plan = both(architecture)
    real = kept(model, True, half)
    found = activations(plan, TEXTS, TOKENS, half)
    assert (found.whole + found.copies) / real == pytest.approx(1, abs=0.01)
    checkpointed, plan = both(architecture, gradient_checkpointing=True)
    inputs = kept(checkpointed, True, half)
    assert activations(plan, TEXTS, TOKENS, half) == found and is_checkpointed(plan)
    assert found.checkpointed / (inputs + (real - found.copies) / SIZES["layers"]) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_teachers_values_are_those_of_a_real_pass(architecture):
    model, plan = both(architecture)
    ids, mask = batch()

    @torch.no_grad()
    def run():
        model.eval().network.base_model(input_ids=ids, attention_mask=mask, use_cache=False)

    real = tensors_at_once([*model.parameters(), *model.buffers(), ids, mask], run)

    assert 0.9 <= forward_bytes(plan, TEXTS, TOKENS) / real <= 1.1


ROWS, WIDTH, WORDS = 96, 8, 2000


def real_logits(taught, rows_at_once):
    """The most bytes of a step from hidden states to the gradient of the head, without these."""
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, requires_grad=True)
    head, theirs = nn.Linear(WIDTH, WORDS, bias=False), nn.Linear(WIDTH, WORDS, bias=False).requires_grad_(False)
    terms = {"ce": CrossEntropy(), **({} if taught is None else {"kd": taught()})}
    objective = Objective(terms, dict.fromkeys(terms, 0.5))
    rows = Batch(None, torch.arange(ROWS) % WORDS, torch.arange(ROWS), normaliser=float(ROWS))
    student = Outputs(LazyLogits(hidden, head, tuple(head.parameters()), rows_at_once, linear=True))
    teacher = None if taught is None else Outputs(LazyLogits(hidden.detach(), theirs, (), rows_at_once))

    def step():
        objective(student, teacher, rows).total.backward()

    own = [hidden, *head.parameters(), *theirs.parameters(), rows.target, rows.index]
    return tensors_at_once(own, step) - gradient_bytes(head) - hidden.nbytes


@pytest.mark.parametrize("rows_at_once", [None, 16])
@pytest.mark.parametrize("taught", [None, ForwardKL, ReverseKL, JensenShannon, TotalVariation])
def test_logits_take_no_more_than_is_said(taught, rows_at_once):
    said = logits_bytes(ROWS, WORDS, taught is not None, rows_at_once, "cpu")
    assert 0.55 <= real_logits(taught, rows_at_once) / said <= 1.02


def test_rows_at_once_make_the_memory_independent_of_the_tokens():
    few, many = (logits_bytes(rows, 49152, True, 256) for rows in (512, 100_000))
    assert few == many == 4 * 49152 * (2 * 256 + 8 * 256)
    assert logits_bytes(100, 10, False) == 4 * 100 * 10 * 4


def test_operations_are_those_that_torch_counts():
    options = {"attention": "eager", "key_value_heads": 2, "tied": False}
    model, plan = both(**options)
    ids = torch.zeros(2, 32, dtype=torch.long)
    with FlopCounterMode(display=False) as forward:
        loss = model(ids).logsumexp(-1).mean()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    found = step_flops(plan, [plan], 2, 32)
    assert found.forward == pytest.approx(forward.get_total_flops(), rel=0.01)
    assert found.backward == pytest.approx(backward.get_total_flops(), rel=0.01)
    assert found.teacher == found.forward and found.again == 0
    weights, trained = multiplied(plan)
    assert weights == trained == sum(one.numel() for one in model.parameters() if one.dim() > 1) - 300 * 64
    assert attention_flops(plan, 2, 32) == 4 * 2 * 32**2 * 4 * 64
    assert found.total == 4 * 2 * weights * 64 + 4 * attention_flops(plan, 2, 32)


def test_adapters_and_checkpointing_change_the_backward_pass():
    _, plan = both()
    _, adapted = both(lora={"rank": 2})
    _, spared = both(gradient_checkpointing=True)
    whole, part, twice = (step_flops(one, [], 2, 32) for one in (plan, adapted, spared))
    assert part.backward < 0.6 * whole.backward + attention_flops(plan, 2, 32)
    assert twice.again == whole.forward - 2 * 300 * 64 * 64 and twice.backward == whole.backward
    assert multiplied(plan)[0] == sum(one.numel() for one in plan.parameters() if one.dim() > 1), "the head is tied"
