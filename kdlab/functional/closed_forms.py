r"""Divergences whose gradient to the student's logits is computed with the value, in closed form.

The values and gradients are those of :mod:`kdlab.functional.divergences` and of the cross-entropy. Automatic
differentiation keeps a tensor of the logits' size for almost every operation. Here, few of them exist at a time. So for
a large vocabulary this costs less memory and time (:mod:`kdlab.chunks`).

With :math:`q = \mathrm{softmax}(z_s / T)`, a divergence :math:`D` whose derivative by :math:`q_c` is :math:`h_c` has
the gradient :math:`\partial D / \partial z_{s,c} = q_c (h_c - \sum_k q_k h_k) / T`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import divergences, logits
from .kernels import product
from .rows import same_shape

#: from the logits of student and teacher, divided by the temperature, to values ``(N,)`` and the gradients of their
#: sum ``(N, C)`` to the student's divided logits
Closed = Callable[..., tuple[Tensor, Tensor]]


def with_closed_form(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function with its gradient in closed form, if there is one; otherwise the function itself.

    The result takes the function's arguments ``(student, teacher, temperature, **options)``. Logits are ``(N, C)``. Its
    gradient can be taken once. Where a value is not finite (a class that one side excludes), the function itself is
    called.

    >>> student, teacher = torch.tensor([[0.0, 1.0]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    >>> value = with_closed_form(divergences.forward_kl)(student, teacher)
    >>> value, torch.autograd.grad(value.sum(), student)[0]
    (tensor([0.4621], grad_fn=<_GivenBackward>), tensor([[-0.4621,  0.4621]]))
    """
    closed = _CLOSED.get(function)
    if closed is None:
        return function

    def computed(student: Tensor, teacher: Tensor, temperature: float = 1.0, **options: Any) -> Tensor:
        same_shape(student, teacher, function.__name__, "teacher and student must have the same classes")
        with torch.no_grad():
            values, gradient = closed(_scaled(student, temperature), _scaled(teacher, temperature), **options)
        if not bool(values.isfinite().all()):
            return function(student, teacher, temperature, **options)
        return _given(student, values, gradient, 1 / temperature)

    return computed


def cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy to labels ``(N,)`` of logits ``(N, C)``, with its gradient in closed form: q - onehot(y). Where a
    value is not finite, automatic differentiation has the gradient."""
    with torch.no_grad():
        logits_ = _scaled(student, 1.0)
        q, log_sum = _softmax(logits_)
        places = target[:, None]
        values = log_sum - logits_.gather(1, places).squeeze(1)
        q.scatter_add_(1, places, q.new_full(places.shape, -1.0))
    if not bool(values.isfinite().all()):
        return logits.cross_entropy(student, target)
    return _given(student, values, q, 1.0)


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, values: Tensor, gradient: Tensor, factor: float) -> Tensor:
        ctx.gradient, ctx.factor, ctx.kind = gradient, factor, student.dtype
        return values

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, arrived: Tensor) -> Any:
        gradient, ctx.gradient = ctx.gradient, None
        return gradient.mul_((arrived * ctx.factor)[:, None]).to(ctx.kind), None, None, None


def _given(student: Tensor, values: Tensor, gradient: Tensor, factor: float) -> Tensor:
    """The values, with the gradient of each to its row of ``student`` times the factor."""
    found: Tensor = _Given.apply(student, values, gradient, factor)
    return found


def _forward_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """h = -p / q."""
    (q, of_student), (p, of_teacher) = _softmax(student), _softmax(teacher)
    values = _dot(p, teacher - student) - of_teacher + of_student
    return values, q.sub_(p)


def _reverse_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """h = log q - log p + 1."""
    (q, of_student), of_teacher = _softmax(student), _log_sum(teacher)
    ratio = (student - teacher).sub_((of_student - of_teacher)[:, None])
    values = _dot(q, ratio)
    return values, ratio.sub_(values[:, None]).mul_(q)


def _symmetric_kl(student: Tensor, teacher: Tensor, reverse_weight: float = 0.5) -> tuple[Tensor, Tensor]:
    if reverse_weight in (0, 1):
        return (_reverse_kl if reverse_weight else _forward_kl)(student, teacher)
    forward, gradient = _forward_kl(student, teacher)
    reverse, other = _reverse_kl(student, teacher)
    values = forward.mul_(1 - reverse_weight).add_(reverse, alpha=reverse_weight)
    return values, gradient.mul_(1 - reverse_weight).add_(other, alpha=reverse_weight)


def _jensen_shannon(
    student: Tensor, teacher: Tensor, teacher_weight: float = 0.5, scaled: bool = False
) -> tuple[Tensor, Tensor]:
    """h = (1 - w) log(q / m) with the mixture m."""
    end = divergences.next_to_zero(student) if scaled else 0.0
    if teacher_weight <= end or teacher_weight >= 1 - end:
        return (_forward_kl if teacher_weight <= end else _reverse_kl)(student, teacher)
    w, (q, _), (p, _) = teacher_weight, _softmax(student), _softmax(teacher)
    mixture = torch.lerp(q, p, w)
    values = w * _dot(p, _log_ratio(p, mixture))
    ratio = _log_ratio(q, mixture)
    of_student = _dot(q, ratio)
    values += (1 - w) * of_student
    gradient = ratio.sub_(of_student[:, None]).mul_(q).mul_(1 - w)
    if scaled:
        values, gradient = values / (w * (1 - w)), gradient.div_(w * (1 - w))
    return values, gradient


def _skew_forward_kl(student: Tensor, teacher: Tensor, teacher_weight: float = 0.1) -> tuple[Tensor, Tensor]:
    """h = -(1 - alpha) p / m with the mixture m."""
    if teacher_weight == 0:
        return _forward_kl(student, teacher)
    (q, _), (p, _) = _softmax(student), _softmax(teacher)
    ratio = p / torch.lerp(q, p, teacher_weight).clamp_min_(_tiny(q))
    gradient = q.mul_(_dot(q, ratio)[:, None] - ratio).mul_(1 - teacher_weight)
    return _dot(p, ratio.clamp_min_(_tiny(q)).log_()), gradient


def _skew_reverse_kl(
    student: Tensor, teacher: Tensor, student_weight: float = 0.1, detach_mixture: bool = False
) -> tuple[Tensor, Tensor]:
    """h = log(q / m) - alpha q / m, or without the last term, with the mixture m."""
    if student_weight == 0:
        return _reverse_kl(student, teacher)
    (q, _), (p, _) = _softmax(student), _softmax(teacher)
    ratio = q / torch.lerp(p, q, student_weight).clamp_min_(_tiny(q))
    logarithm = ratio.clamp_min(_tiny(q)).log_()
    values = _dot(q, logarithm)
    slope = logarithm if detach_mixture else logarithm.sub_(ratio, alpha=student_weight)
    return values, slope.sub_(_dot(q, slope)[:, None]).mul_(q)


def _total_variation(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """h = sign(q - p) / 2."""
    (q, _), (p, _) = _softmax(student), _softmax(teacher)
    difference = p.neg_().add_(q)
    values = 0.5 * difference.abs().sum(-1)
    slope = difference.sign_().mul_(0.5)
    return values, slope.sub_(_dot(q, slope)[:, None]).mul_(q)


_CLOSED: dict[Callable[..., Tensor], Closed] = {
    divergences.forward_kl: _forward_kl,
    divergences.reverse_kl: _reverse_kl,
    divergences.symmetric_kl: _symmetric_kl,
    divergences.jensen_shannon: _jensen_shannon,
    divergences.skew_forward_kl: _skew_forward_kl,
    divergences.skew_reverse_kl: _skew_reverse_kl,
    divergences.total_variation: _total_variation,
}


# -- what they share ---------------------------------------------------------------------------------------------------


def _scaled(one: Tensor, temperature: float) -> Tensor:
    """Logits over the temperature, in at least float32."""
    one = one if one.dtype == torch.float64 else one.float()
    return one if temperature == 1 else one / temperature


def _softmax(one: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities, and the logarithm of the sum of exponentials of each row: the largest logit less the logarithm of
    its probability."""
    found = one.softmax(-1)
    return found, one.amax(-1) - found.amax(-1).log()


def _log_sum(one: Tensor) -> Tensor:
    return one.logsumexp(-1)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """The sum over classes of the products ``(N,)``, without a tensor of products."""
    return product(one[:, None], other[:, :, None]).flatten()


def _log_ratio(one: Tensor, other: Tensor) -> Tensor:
    """log(one / other); where ``one`` is 0 a finite number, which is then multiplied by 0."""
    tiny = _tiny(one)
    return (one / other.clamp_min(tiny)).clamp_min_(tiny).log_()


def _tiny(one: Tensor) -> float:
    """The smallest normal number."""
    return torch.finfo(one.dtype).tiny
