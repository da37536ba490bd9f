r"""A student against a teacher of whom only a part of the distribution is known: its most probable classes with the
mass of all others, or samples of it. No second tensor of the size of the student's logits is kept.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .rows import reduced, wide

#: how many logits are in float32 at a time, beyond those that are given
_LOGITS_AT_ONCE = 2**22


def log_probabilities_at(student: Tensor, ids: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""The student's log-probabilities of some classes, and the logarithm of the mass of all others.

    The mass of the others is a sum over them, and not one minus a sum: it is accurate where it is small. With
    :math:`g_i` and :math:`g_t` the gradients that arrive at the two results and :math:`S = \sum_i g_i + g_t`, the
    gradient of a logit is :math:`g_i - q_i S` for a class that is named, and :math:`q_j (g_t / q_t - S)` for the
    others: one tensor of the size of the logits, and no other.

    Args:
        student: logits ``(N, V)``.
        ids: class numbers ``(N, k)``, each once in a row.
        present: ``(N, k)``, False for an entry that names no class; None: all do. The first entry of a row must.

    Returns:
        ``(N, k)`` (0 where an entry is not present) and ``(N,)``, -inf where no class is left.

    >>> student = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    >>> named, others = log_probabilities_at(student, torch.tensor([[2, 0, 1]]))
    >>> named.exp(), others.exp()
    (tensor([[0.2500, 0.2500, 0.2500]]), tensor([0.2500]))
    """
    if present is None:
        present = torch.ones_like(ids, dtype=torch.bool)
    # an entry that names no class repeats one that does, so that nothing is written to a place of its own
    ids = torch.where(present, ids, ids[:, :1])
    found: tuple[Tensor, Tensor] = _At.apply(student, ids, present)
    return found


class _At(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, ids: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        named, others = [], []
        for part, places, kept in _parts(student, ids, present):
            logits = wide(part)
            mine = logits.gather(1, places).masked_fill(~kept, -math.inf)
            rest = logits.scatter(1, places, -math.inf).logsumexp(1)
            total = torch.logaddexp(mine.logsumexp(1), rest)
            named.append((mine - total[:, None]).masked_fill(~kept, 0.0))
            others.append(torch.stack([rest, total]))
        rest, total = torch.cat(others, 1)
        log_named, log_rest = torch.cat(named), rest - total
        ctx.save_for_backward(student, ids, present, rest, log_named, log_rest)
        return log_named, log_rest

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_named: Tensor, of_rest: Tensor) -> tuple[Tensor, None, None]:
        student, ids, present, rest, log_named, log_rest = ctx.saved_tensors
        of_named = of_named.masked_fill(~present, 0.0)
        total = of_named.sum(1) + of_rest
        at_named = of_named - log_named.exp() * total[:, None]
        at_named = torch.where(present, at_named, at_named[:, :1])
        factor = torch.where(log_rest.isneginf(), 0.0, of_rest - log_rest.exp() * total)
        base = torch.where(rest.isneginf(), 0.0, rest)
        gradient = torch.empty_like(student)
        rows = _rows_at_once(student)
        for start in range(0, len(student), rows):
            part = slice(start, start + rows)
            # shares within the rest; those of the named classes mean nothing here, and may be infinite
            found = (wide(student[part]) - base[part, None]).exp_().mul_(factor[part, None])
            gradient[part] = found.scatter_(1, ids[part], at_named[part])
        return gradient, None, None


def _rows_at_once(student: Tensor) -> int:
    return max(_LOGITS_AT_ONCE // max(student.shape[1], 1), 1)


def _parts(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    rows = _rows_at_once(tensors[0])
    return list(zip(*(tensor.split(rows) for tensor in tensors)))


def tail_bucket(
    student: Tensor, ids: Tensor, log_probabilities: Tensor, log_tail: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Both distributions over k + 1 categories: the k classes that are known of the teacher, and all others together.

    An f-divergence between these two (KL in both directions, Jensen-Shannon, total variation, the skewed ones) is at
    most that between the whole distributions, by the data-processing inequality (Csiszár 1967), and 0 or more. It is
    equal if all classes are known: the last category is then empty. Renormalised top-k probabilities have neither
    property.

    Args:
        student: logits ``(N, V)``.
        ids: the teacher's k classes ``(N, k)``, each once in a row.
        log_probabilities: of these classes under the teacher, at ``temperature``, ``(N, k)``. -inf: the entry names no
            class (a row of which fewer are known); the first entry of a row must name one.
        log_tail: the logarithm of the teacher's mass of all other classes, ``(N,)``.
        temperature: T, at which the teacher's numbers were computed; the student's logits are divided by it.

    Returns:
        The logarithms of the student's and of the teacher's k + 1 probabilities, ``(N, k + 1)`` each. Where no other
        class is left, both are -inf in the last column. Elsewhere the teacher's is at least the smallest normal number,
        so that the reverse direction is finite.

    Raises:
        ValueError: the shapes do not fit.

    >>> student, teacher = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0, 0.0]])
    >>> log_p = teacher.log_softmax(-1)
    >>> ids, log_tail = torch.tensor([[0, 1]]), log_p[:, 2:].logsumexp(-1)
    >>> q, p = tail_bucket(student, ids, log_p[:, :2], log_tail)
    >>> q.exp(), p.exp()
    (tensor([[0.1749, 0.4754, 0.3498]]), tensor([[0.6103, 0.2245, 0.1652]]))
    """
    if not ids.shape == log_probabilities.shape == (*log_tail.shape, ids.shape[-1]) or len(student) != len(ids):
        raise ValueError(
            f"tail_bucket: ids {tuple(ids.shape)} and log-probabilities {tuple(log_probabilities.shape)} must be "
            f"(N, k), and the tail {tuple(log_tail.shape)} must be (N,), of as many rows as the logits "
            f"{tuple(student.shape)}"
        )
    log_p, log_tail = wide(log_probabilities), wide(log_tail)
    present = ~log_p.isneginf()
    named, rest = log_probabilities_at(student if temperature == 1.0 else student / temperature, ids, present)
    log_p, log_tail = log_p.to(named.dtype), log_tail.to(named.dtype)
    whole = present.sum(1) == student.shape[1]
    log_tail = log_tail.clamp(min=math.log(torch.finfo(named.dtype).tiny)).masked_fill(whole, -math.inf)
    named = named.masked_fill(~present, -math.inf)
    return torch.cat([named, rest[:, None]], 1), torch.cat([log_p, log_tail[:, None]], 1)


def sampled_forward_kl(
    student: Tensor,
    ids: Tensor,
    weights: Tensor,
    entropy: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""An unbiased estimate of the forward KL from samples of the teacher,
    :math:`-\sum_i \hat p_i \log q_i - H(p)` with :math:`\mathbb{E}\,\hat p = p`. Anshumann et al. (2025), "Sparse Logit
    Sampling: Accelerating Knowledge Distillation in LLMs", https://arxiv.org/abs/2503.16870

    The gradient of a logit is :math:`q \sum_i \hat p_i - \hat p`, whose mean is that of the forward KL,
    :math:`q - p`. A single value can be negative; its mean is the KL.

    Args:
        student: logits ``(N, V)``.
        ids: classes that were drawn ``(N, k)``, each once in a row.
        weights: :math:`\hat p` of these, ``(N, k)``: their share of the draws times the quotient of the teacher's
            probability and that of the draw. 0: the entry names no class. The first entry of a row must name one, also
            where its weight was rounded to 0.
        entropy: of the teacher at the temperature, ``(N,)``.
        temperature: T, at which the samples were drawn; the student's logits are divided by it.
        mask: ``(N,)``, 0 for rows that do not count.
        reduction: ``none``, ``mean``, ``sum``, ``batchmean``: :func:`kdlab.functional.reduced`.

    >>> student = torch.tensor([[0.0, 0.0]])
    >>> sampled_forward_kl(student, torch.tensor([[0, 1]]), torch.tensor([[0.75, 0.25]]), torch.tensor([0.5623]))
    tensor([0.1308])
    """
    present = weights != 0
    present[:, 0] = True  # other entries take its place, also where its weight was rounded to 0
    named, _ = log_probabilities_at(student if temperature == 1.0 else student / temperature, ids, present)
    values = -(weights.to(named.dtype) * named).sum(1) - entropy.to(named.dtype)
    return reduced(values, mask, reduction, student.shape[-1])
