"""Every loss that a classifier can be given keeps the same promises within a strategy: the CNN pair on digits, nothing
trained."""

import copy
import functools

import pytest
import torch

from kdlab.config.compose import compose
from kdlab.methods import index
from kdlab.training.assemble import assemble

INDEX = index()
NAMES = [name for name, entry in INDEX.items() if entry.kind == "loss" and "classifier" in entry.method.serves]


@functools.lru_cache
def _config(name: str) -> dict:
    student = "cnn_wide" if INDEX[name].loss.needs_equal_widths else "cnn"
    return compose(
        [
            f"loss=[{name}]",
            f"student={student}",
            'teacher.overrides=["student=cnn_wide"]',
            "data.batch_size=16",
            "scheduler=none",
        ]
    )


def parts_with(name: str, seed: int = 1):
    return assemble({**copy.deepcopy(_config(name)), "seed": seed}, lambda config: None)


def step(parts, teacher_leaves: bool = False):
    """The loss on a batch, and what the teacher said of it, as leaves where its gradients are looked at."""
    strategy, batch = parts.strategy.train(), next(iter(parts.data.train_dataloader()))
    teacher = strategy.teach(batch)
    if teacher_leaves:
        teacher = teacher.replace(
            answer=teacher.logits.clone().requires_grad_(),
            features={tap: value.clone().requires_grad_() for tap, value in teacher.features.items()},
        )
    [term] = strategy.objective.terms.values()
    values = term(strategy.observe(batch), teacher, strategy.task.align_batch(batch))
    return values.mean(), teacher


@pytest.mark.parametrize("name", NAMES)
def test_teacher(name):
    """No gradient reaches the teacher; one reaches the student."""
    parts = parts_with(name)
    if not parts.strategy.objective.needs_teacher:
        pytest.skip("it has no teacher")
    value, teacher = step(parts, teacher_leaves=True)
    value.backward()
    assert all(leaf.grad is None for leaf in (teacher.logits, *teacher.features.values()))
    assert any(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in parts.strategy.student.parameters()
    )


@pytest.mark.parametrize("name", NAMES)
def test_parameters(name):
    """Every parameter that it learns is in the optimiser and has a gradient."""
    parts = parts_with(name)
    own = {key: parameter for key, parameter in parts.strategy.objective.named_parameters() if parameter.requires_grad}
    if not own:
        pytest.skip("it owns no parameters")
    optimised = {
        id(parameter) for group in parts.strategy.configure_optimizers().param_groups for parameter in group["params"]
    }
    assert [key for key, parameter in own.items() if id(parameter) not in optimised] == []
    step(parts)[0].backward()
    assert [key for key, parameter in own.items() if parameter.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint(name):
    """Its parameters and buffers are in the state dict (save a table that follows from the data), and bring another one
    to the same value (the same operations on one machine: the same bits)."""
    first, other = parts_with(name), parts_with(name, seed=2)
    state = first.strategy.state_dict()
    buffers, others = dict(first.strategy.objective.named_buffers()), dict(other.strategy.objective.named_buffers())
    left_out = [
        key for key in (*dict(first.strategy.objective.named_parameters()), *buffers) if f"objective.{key}" not in state
    ]
    assert [key for key in left_out if key not in buffers or not torch.equal(buffers[key], others[key])] == []
    other.strategy.load_state_dict(state)
    for parts in (first, other):
        parts.strategy.seed, parts.data.seed = 1, 1
    values = []
    for parts in (first, other):
        torch.manual_seed(0)
        parts.teacher.network.load_state_dict(first.teacher.network.state_dict())
        values.append(step(parts)[0])
    assert torch.equal(*values)
