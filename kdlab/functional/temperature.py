"""Operations on logits before they are compared: standardised rows, learned temperatures."""

from __future__ import annotations

import torch
from torch import Tensor

from .divergences import forward_kl
from .rows import reduced, same_shape, without_masked
from .sources import TASKS, Paper, method


@method(
    "logits",
    Paper("Sun et al.", 2024, "Logit Standardization in Knowledge Distillation", "https://arxiv.org/abs/2403.01427"),
    {"sunshangquan/logit-standardization-KD": "kd_logit_std dkd_logit_std mlkd_logit_std"},
    TASKS,
)
def standardise(logits: Tensor, epsilon: float = 1e-7, *, mask: Tensor | None = None) -> Tensor:
    r"""Each row of logits with mean 0 and standard deviation 1, :math:`(z - \bar z) / (\sigma(z) + \epsilon)`, as input
    of any loss.

    The deviation is the unbiased one (divided by C - 1), as in the authors' code. The gradient flows through mean and
    deviation, so a row of equal logits has a gradient as large as 1 / epsilon. Classes excluded by -inf stay excluded,
    and count for neither.

    Args:
        logits: ``(..., C)``, of the student or of the teacher.
        epsilon: added to the deviation.
        mask: ``(...)``, 0 for rows that do not count; they are set to zeros.

    Returns:
        ``(..., C)``, in at least float32.

    >>> standardise(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.0000,  0.0000,  1.0000]])
    """
    logits = without_masked(logits, mask)
    excluded = torch.isneginf(logits)
    classes = (~excluded).sum(-1, keepdim=True).to(logits.dtype)
    centred = logits.masked_fill(excluded, 0.0)
    centred = (centred - centred.sum(-1, keepdim=True) / classes).masked_fill(excluded, 0.0)
    deviation: Tensor = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / (classes - 1).clamp(min=1).sqrt()
    return (centred / (deviation + epsilon)).masked_fill(excluded, float("-inf"))


@method(
    "logits",
    Paper("Li et al.", 2023, "Curriculum Temperature for Knowledge Distillation", "https://arxiv.org/abs/2211.16231"),
    serves=TASKS,
)
def ctkd(
    student: Tensor,
    teacher: Tensor,
    temperature: Tensor,
    reversal: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Soft targets at a temperature that is trained against the student, :math:`T^2\,\mathrm{KL}(p^T \,\|\, q^T)`. A
    descent step lowers the loss for the student and raises it for the temperature, whose gradient is multiplied by
    ``-reversal``.

    Args:
        student, teacher: logits ``(..., C)``.
        temperature: T, positive: a tensor without dimensions, or one value per row ``(...)``; with gradient, if it is
            learned. See :func:`learned_temperature`.
        reversal: the factor on the reversed gradient with respect to T; 0 keeps T constant.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    >>> temperature = torch.tensor(2.0, requires_grad=True)
    >>> ctkd(torch.tensor([[2.0, 0.0]]), torch.tensor([[-2.0, 0.0]]), temperature)
    tensor([1.8485], grad_fn=<MulBackward0>)
    """
    same_shape(student, teacher, "ctkd", "teacher and student must have the same classes")
    if temperature.shape not in ((), student.shape[:-1]):
        raise ValueError(
            f"ctkd: the temperature is one number or one per row: logits {tuple(student.shape)} and temperature "
            f"{tuple(temperature.shape)} do not fit"
        )
    temperature = reverse_gradient(temperature.to(torch.promote_types(temperature.dtype, torch.float32)), reversal)
    if mask is not None and temperature.dim():
        temperature = temperature.masked_fill(mask == 0, 1.0)
    divided = temperature[..., None]
    values = forward_kl(without_masked(student, mask) / divided, without_masked(teacher, mask) / divided)
    return reduced(values * temperature**2, mask, reduction, student.shape[-1])


def reverse_gradient(x: Tensor, factor: float = 1.0) -> Tensor:
    """``x``, with a gradient of opposite sign and ``factor`` times the size (Ganin and Lempitsky (2015),
    https://arxiv.org/abs/1409.7495).

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> y = reverse_gradient(x, 0.5)
    >>> y.backward()
    >>> y.item(), x.grad.item()
    (3.0, -0.5)
    """
    constant = x.detach()
    return constant - factor * (x - constant)


def learned_temperature(raw: Tensor, start: float = 1.0, span: float = 20.0) -> Tensor:
    r"""A positive temperature from an unbounded number, :math:`T = \tau_0 + \tau_1\,\mathrm{sigmoid}(\theta)`.

    Args:
        raw: theta, of any shape.
        start: the lowest temperature.
        span: how much higher it can get.

    >>> learned_temperature(torch.tensor(1.0))
    tensor(15.6212)
    """
    return start + span * raw.sigmoid()
