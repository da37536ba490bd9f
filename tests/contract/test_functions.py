"""Every pure function of a method keeps the same promises."""

import pytest
import torch
from torch.func import vmap

from .spec import Spec
from .specs import SPECS

#: the first spec of each function; a graph takes a second to trace, so its variants are not traced too
FIRST = list({spec.function: spec for spec in reversed(SPECS)}.values())


def asked(property: str, specs: list[Spec] = SPECS):
    """Parametrises over the specs; those to which the property does not apply are skipped, with the reason."""
    cases = [
        pytest.param(
            spec, id=spec.name, marks=[pytest.mark.skip(reason=spec.skips[property])] if property in spec.skips else []
        )
        for spec in specs
    ]
    return pytest.mark.parametrize("spec", cases)


def leaves(spec: Spec, arguments: dict, names) -> dict:
    return {**arguments, **{name: arguments[name].clone().requires_grad_() for name in names}}


@asked("equality")
def test_equality(spec):
    """Student equals teacher: the value is 0, or the constant that the spec documents; the gradient is finite."""
    arguments = spec.make()
    for mine, theirs in zip(spec.student, spec.teacher):
        arguments[theirs] = arguments[mine].clone()
    arguments = leaves(spec, arguments, spec.student)
    value = spec(arguments)
    expected = spec.equality(arguments) if callable(spec.equality) else torch.full_like(value, spec.equality)
    torch.testing.assert_close(value.detach(), expected.detach().to(value), rtol=1e-9, atol=1e-10)
    gradients = torch.autograd.grad(value.sum(), [arguments[name] for name in spec.student], allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@asked("gradients")
def test_gradients(spec):
    """Derivatives are those of the value, in float64."""
    arguments = leaves(spec, spec.make(1), spec.student)

    def value(*tensors):
        return spec({**arguments, **dict(zip(spec.student, tensors))})

    assert torch.autograd.gradcheck(value, [arguments[name] for name in spec.student], eps=1e-6, atol=1e-6, rtol=1e-5)


@asked("reference")
def test_reference(spec):
    """The value is that of a slow and obvious computation."""
    for seed in range(3):
        arguments = spec.make(seed)
        expected = spec.reference(**arguments, **spec.options)
        torch.testing.assert_close(
            spec(arguments), torch.as_tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-11
        )


def low(spec: Spec, dtype: torch.dtype) -> None:
    floating = {name: value for name, value in spec.make(2).items() if value.is_floating_point()}
    scaled = {
        name: value * (spec.largest / value.abs().amax() if name in (*spec.student, *spec.teacher) else 1.0)
        for name, value in floating.items()
    }
    arguments = leaves(
        spec, {**spec.make(2), **{name: value.to(dtype) for name, value in scaled.items()}}, spec.student
    )
    value = spec(arguments)
    assert value.dtype == torch.float32, f"{dtype} must be promoted to float32, got {value.dtype}"
    assert value.isfinite().all(), value
    gradients = torch.autograd.grad(value.sum(), [arguments[name] for name in spec.student], allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
    assert spec(spec.make()).dtype == torch.float64, "float64 must not be demoted"


@asked("float16")
def test_float16(spec):
    """Finite, value and gradient, with half-precision inputs as large as they come; computed in float32."""
    low(spec, torch.float16)


@asked("bfloat16")
def test_bfloat16(spec):
    low(spec, torch.bfloat16)


@asked("autocast")
def test_autocast(spec):
    """Under autocast, float32 arguments have the float32 value and gradient that they have without it."""
    values, gradients = [], []
    for enabled in (False, True):
        arguments = leaves(spec, spec.make(1, torch.float32), spec.student)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            values.append(spec(arguments))
        gradients.append(
            torch.autograd.grad(values[-1].sum(), [arguments[name] for name in spec.student], allow_unused=True)
        )
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-8)
    assert values[1].dtype == torch.float32
    for outside, within in zip(*gradients):
        assert (outside is None) == (within is None)
        if outside is not None:
            torch.testing.assert_close(within, outside, rtol=1e-5, atol=1e-8)


@asked("batch")
def test_batch(spec):
    """A permuted batch has the permuted values (a relation within the batch: the same value); a repeated batch repeats
    them."""
    arguments = spec.make()
    size = len(arguments[spec.student[0]])
    order = torch.randperm(size, generator=torch.Generator().manual_seed(3))
    value, permuted = spec(arguments), spec({name: tensor[order] for name, tensor in arguments.items()})
    if not spec.rows:
        torch.testing.assert_close(permuted, value)
        return
    assert value.shape[:1] == (size,)
    torch.testing.assert_close(permuted, value[order])
    torch.testing.assert_close(
        spec({name: torch.cat([tensor, tensor]) for name, tensor in arguments.items()}), torch.cat([value, value])
    )


@asked("mask")
def test_mask(spec):
    """Masked rows have exactly no gradient, whatever stands in them, and change no value."""
    arguments = spec.make()
    size = len(arguments[spec.student[0]])
    shape = spec.mask(size) if spec.mask is not None else spec(arguments).shape if spec.rows else (size,)
    mask = torch.ones(shape)
    # a relation within the batch is one number already
    reduction = {"reduction": "mean"} if spec.rows or spec.mask is not None else {}
    padded = {name: torch.cat([tensor, tensor[:2]]) for name, tensor in arguments.items()}
    for name in (*spec.student, *spec.teacher):
        padded[name][size] = float("inf")
        padded[name][size + 1] = float("nan")
    mask = torch.cat([mask, torch.zeros_like(mask[:2])])
    padded = leaves(spec, padded, spec.student)
    value = spec(padded, mask=mask, **reduction)
    torch.testing.assert_close(value, spec(arguments, **reduction))
    for gradient in torch.autograd.grad(value, [padded[name] for name in spec.student]):
        assert (gradient[size:] == 0).all() and gradient.isfinite().all()


@pytest.mark.slow
@asked("compile", FIRST)
def test_compile(spec):
    """torch.compile traces it whole, without a break in the graph, to the same value and gradient."""
    torch._dynamo.reset()
    values, gradients = [], []
    for call in (spec.function, torch.compile(spec.function, backend="aot_eager", fullgraph=True)):
        arguments = leaves(spec, spec.make(), spec.student)
        values.append(call(**arguments, **spec.options))
        gradients.append(
            torch.autograd.grad(values[-1].sum(), [arguments[name] for name in spec.student], allow_unused=True)
        )
    torch.testing.assert_close(values[1], values[0])
    for eager, compiled in zip(*gradients):
        if eager is not None:
            torch.testing.assert_close(compiled, eager)


@asked("vmap")
def test_vmap(spec):
    """Over a stack of problems, it is each problem by itself."""
    problems = [spec.make(seed) for seed in range(3)]
    names = list(problems[0])
    stacked = [torch.stack([problem[name] for problem in problems]) for name in names]
    together = vmap(lambda *tensors: spec(dict(zip(names, tensors))))(*stacked)
    torch.testing.assert_close(together, torch.stack([spec(problem) for problem in problems]))


@asked("shapes")
def test_shapes(spec):
    """What does not fit is refused, in words, with the shapes."""
    arguments = spec.misfit()
    with pytest.raises(ValueError) as error:
        spec(arguments)
    shapes = {str(tuple(tensor.shape)) for name, tensor in arguments.items()}
    told = [shape for shape in shapes if shape in str(error.value)]
    assert len(told) >= min(2, len(shapes)), f"both shapes of {sorted(shapes)} must be told: {error.value}"
