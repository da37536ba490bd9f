r"""Universal logit distillation (ULD): compares a student and a teacher with different classes by their sorted
probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .answers import SMALLEST, answer, pair_by_bytes, pair_by_order
from .divergences import kl, log_mixture
from .rows import reduced, without_masked
from .sources import TASKS, Paper, method
from .tokens import sequence_mean

_ULD = Paper(
    "Boizard et al.",
    2024,
    "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation Loss for LLMs",
    "https://arxiv.org/abs/2402.12030",
)
_GOLD = Paper(
    "Patiño et al.",
    2025,
    "Unlocking On-Policy Distillation for Any Model Family",
    "https://huggingface.co/spaces/HuggingFaceH4/general-on-policy-logit-distillation",
)


@method("sequences", _ULD, {"Nicolas-BZRD/llm-recipes": "uld_official", "songmzhang/DSKD": "uld_dskd"}, TASKS)
def uld(
    student: Tensor,
    teacher: Tensor,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Distance of the sorted probabilities, :math:`\sum_k |p_{(k)} - q_{(k)}|`, with the smaller vocabulary padded
    with zeros.

    It is a Wasserstein distance in which all tokens are equally far apart. It does not depend on which token has which
    probability: a permutation of the classes does not change it.

    Args:
        student: logits ``(..., C_s)``.
        teacher: logits ``(..., C_t)``; C_t may differ from C_s.
        student_temperature, teacher_temperature: each side's logits are divided by its temperature.
        mask: ``(...)``, 0 for rows that do not count.
        reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        One value per row, in [0, 2].

    >>> import torch
    >>> uld(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0, -1.0]]))
    tensor([0.5105])
    """
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            f"uld: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must have the same rows; for "
            "texts of two tokenizers see uld_sequences"
        )
    q = (without_masked(student, mask) / student_temperature).softmax(-1)
    p = (without_masked(teacher, mask) / teacher_temperature).softmax(-1)
    return reduced(_sorted_distance(q, p), mask, reduction, student.shape[-1])


@method(
    "sequences",
    _GOLD,
    {
        "Nicolas-BZRD/llm-recipes": "uld_official",
        "songmzhang/DSKD": "uld_dskd",
        "huggingface/trl": "gold_uld gold_uld_extended",
    },
    ("language model",),
)
def uld_sequences(
    student: Tensor,
    teacher: Tensor,
    student_labels: Tensor,
    teacher_labels: Tensor,
    student_bytes: Tensor | None = None,
    teacher_bytes: Tensor | None = None,
    student_matched: Tensor | None = None,
    teacher_matched: Tensor | None = None,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
    *,
    positions: str = "predicting",
    skip_student_end: bool = False,
    skip_teacher_end: bool = False,
    merge: str = "bayesian",
    teacher_weight: float = 0.5,
    matched_weight: float | None = None,
    unmatched_weight: float | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""ULD of two texts with the same words in two tokenizations: the tokens of their answers are paired, and each pair
    is compared.

    There are two ways of pairing. In ULD, the k-th token of the student's answer is paired with the k-th of the
    teacher's, up to the shorter length. In GOLD, for which the bytes of each token are given, groups of tokens that
    cover the same bytes are paired; a group of several tokens is merged by the probabilities of its tokens. If the
    matched tokens of both vocabularies are given, their probabilities are compared one by one with the generalised
    Jensen-Shannon divergence (without normalising them to sum 1), and only the rest is sorted.

    A pair's value is :math:`\sum_i |p_{(i)} - q_{(i)}|`, or :math:`w_m\,\mathrm{JS}(p_m, q_m) + w_u \sum_i |p_{u(i)} -
    q_{u(i)}|` for the matched (m) and the unmatched (u) tokens. (i) orders each side by probability, with the smaller
    vocabulary padded with zeros.

    Args:
        student, teacher: logits ``(B, T_s, V_s)`` and ``(B, T_t, V_t)``, not shifted.
        student_labels, teacher_labels: ``(B, T_s)`` and ``(B, T_t)``, not shifted: the token if it counts (belongs to
            the answer), else -100.
        student_bytes, teacher_bytes: start and end (exclusive) in bytes of each token in the answer, ``(B, T, 2)``;
            both or none.
        student_matched, teacher_matched: numbers of the tokens that both vocabularies have, ``(M,)`` each:
            :func:`kdlab.functional.matched_tokens`; both or none.
        student_temperature, teacher_temperature: each side's logits are divided by its temperature.
        positions: the position at which a token's distribution is read. ``predicting``: the position before it; a first
            token without a predicting position is left out, with its partner. ``clamped`` (llm-recipes): the same, but
            a text that begins with its answer is read at the tokens themselves. ``answer``: at the token itself, which
            is correct for labels that are already shifted (DSKD), and one too late otherwise (TRL's observed).
        skip_student_end, skip_teacher_end: leave out the last token of the answer, the end of text.
        merge: ``bayesian`` or ``observed``, see :func:`kdlab.functional.answers.pair_by_bytes`.
        teacher_weight: teacher's weight in the generalised Jensen-Shannon divergence; 0 is the forward KL, 1 the
            reverse KL.
        matched_weight, unmatched_weight: weights of the two parts; None: the matched share of the teacher's vocabulary,
            and 1 minus it. The unmatched part is 0 if all tokens of one vocabulary are matched.
        reduction: ``none``: one value per pair ``(B, K)``, with K the smaller of T_s and T_t, and 0 if there is no
            pair. ``mean`` over all pairs of the batch. ``sum``. ``sequences``: the mean over the pairs of each text
            ``(B,)``, as in llm-recipes and TRL.

    >>> import torch
    >>> student, teacher = torch.zeros(1, 3, 2), torch.tensor([[[0.0, 1.0, -1.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0]]])
    >>> uld_sequences(student, teacher, torch.tensor([[-100, 0, 1]]), torch.tensor([[-100, 2, 1]]))
    tensor([[0.5105, 0.6667, 0.0000]])
    """
    if len(student) != len(teacher):
        raise ValueError(
            f"uld_sequences: student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must be the same texts"
        )
    if (student_bytes is None) != (teacher_bytes is None) or (student_matched is None) != (teacher_matched is None):
        raise ValueError("uld_sequences: give bytes, and matched tokens, for both sides or for neither")
    students = answer(student, student_labels, student_temperature, positions, skip_student_end)
    teachers = answer(teacher, teacher_labels, teacher_temperature, positions, skip_teacher_end)
    if student_bytes is None or teacher_bytes is None:
        q, p, counts = pair_by_order(students, teachers)
    else:
        q, p, counts = pair_by_bytes(students, teachers, student_bytes, teacher_bytes, merge)
    if student_matched is None or teacher_matched is None:
        values = _sorted_distance(q, p)
    else:
        values = _hybrid(q, p, student_matched, teacher_matched, teacher_weight, matched_weight, unmatched_weight)
    return (
        sequence_mean(values, counts)
        if reduction == "sequences"
        else reduced(values, counts, reduction, student.shape[-1])
    )


def _sorted_distance(q: Tensor, p: Tensor) -> Tensor:
    """L1 distance per row of probabilities in descending order, the shorter one padded with zeros."""
    size = max(q.shape[-1], p.shape[-1])
    first, second = (F.pad(x.sort(-1, descending=True).values, (0, size - x.shape[-1])) for x in (q, p))
    return (first - second).abs().sum(-1)


def _hybrid(
    q: Tensor,
    p: Tensor,
    student_matched: Tensor,
    teacher_matched: Tensor,
    teacher_weight: float,
    matched_weight: float | None,
    unmatched_weight: float | None,
) -> Tensor:
    if student_matched.shape != teacher_matched.shape:
        raise ValueError(
            f"matched tokens come in pairs: student {tuple(student_matched.shape)} and teacher "
            f"{tuple(teacher_matched.shape)} differ"
        )
    number = student_matched.shape[-1]
    matched = matched_distance(q[..., student_matched], p[..., teacher_matched], teacher_weight)
    if number in (q.shape[-1], p.shape[-1]):
        unmatched = torch.zeros_like(matched)
    else:  # a matched token has probability 0 here, which is sorted after all others, like the padding
        unmatched = _sorted_distance(q.index_fill(-1, student_matched, 0.0), p.index_fill(-1, teacher_matched, 0.0))
    share = number / p.shape[-1]
    weights = (
        (share, 1 - share)
        if matched_weight is None
        else (matched_weight, 1 - matched_weight if unmatched_weight is None else unmatched_weight)
    )
    return weights[0] * matched + weights[1] * unmatched


def matched_distance(q: Tensor, p: Tensor, teacher_weight: float) -> Tensor:
    """Generalised Jensen-Shannon divergence per row of probabilities that need not sum to 1. Each counts as at least
    1e-8."""
    log_q, log_p = q.clamp(min=SMALLEST).log(), p.clamp(min=SMALLEST).log()
    if teacher_weight in (0, 1):
        return kl(log_p, log_q) if teacher_weight == 0 else kl(log_q, log_p)
    middle = log_mixture(log_p, log_q, teacher_weight)
    return teacher_weight * kl(log_p, middle) + (1 - teacher_weight) * kl(log_q, middle)
