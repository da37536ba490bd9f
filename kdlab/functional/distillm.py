"""DistiLLM-2: one divergence for the teacher's texts (chosen), another for the student's texts (rejected)."""

from __future__ import annotations

from torch import Tensor

from .divergences import forward_kl, jensen_shannon, skew_forward_kl, skew_reverse_kl
from .rows import reduced, same_shape
from .sources import Paper, method
from .tokens import predicted, predicting, same_tokens, sequence_mean, token_log_probability, token_mask

_DISTILLM2 = Paper(
    "Ko et al.",
    2025,
    "DistiLLM-2: A Contrastive Approach Boosts the Distillation of LLMs",
    "https://arxiv.org/abs/2503.07067",
)
_VERIFIED = {"jongwooko/distillm-2": "distillm2_distillm_v1 distillm2_distillm_v2 distillm2_gkd distillm2_kd"}

#: the divergences of the chosen and of the rejected texts
KINDS = {
    "v2": ("skew_forward", "skew_reverse"),
    "v1": ("skew_reverse", "skew_reverse"),
    "gkd": ("jensen_shannon", "jensen_shannon"),
    "kd": ("forward", None),
}


@method("sequences", _DISTILLM2, _VERIFIED, ("language model",))
def distillm2(
    student_chosen: Tensor,
    teacher_chosen: Tensor,
    student_rejected: Tensor,
    teacher_rejected: Tensor,
    labels_chosen: Tensor,
    labels_rejected: Tensor,
    forward_alpha: float = 0.1,
    reverse_alpha: float = 0.1,
    rejected_weight: float = 1.0,
    *,
    kind: str = "v2",
    forward_anchor: float | None = None,
    reverse_anchor: float | None = None,
    detach_alpha: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""For each prompt :math:`(2 - \beta)\,D(y_t) + \beta\,D'(y_s)`, with the chosen text :math:`y_t` of the teacher
    and the rejected text :math:`y_s` of the student. D and D' are :func:`text_divergence`. They are means over the
    tokens of a text, so long texts have no larger weight.

    Args:
        student_chosen, teacher_chosen: logits of the chosen texts ``(B, T, V)``, not shifted.
        student_rejected, teacher_rejected: logits of the rejected texts ``(B, T', V)``.
        labels_chosen, labels_rejected: ``(B, T)`` and ``(B, T')``, not shifted; -100 does not count.
        forward_alpha, reverse_alpha: alpha of the skew forward and of the skew reverse KL.
        rejected_weight: beta, in [0, 2]: a number, or scheduled by :func:`distillm2_beta`.
        kind: ``v2``: skew forward KL for chosen and skew reverse KL for rejected texts. ``v1``: skew reverse KL for
            both. ``gkd``: generalised Jensen-Shannon divergence for both, with teacher's weight 0.9. ``kd``: forward KL
            for the chosen texts alone.
        forward_anchor, reverse_anchor: anchors, which give each text its own alpha (see :func:`text_divergence`). None:
            one alpha for all.
        detach_alpha: see :func:`text_divergence`.
        mask: ``(B,)``, 0 for pairs that do not count.
        reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(B,)``

    >>> import torch
    >>> flat, sure, labels = torch.zeros(1, 2, 2), torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), torch.tensor([[-100, 1]])
    >>> distillm2(flat, sure, flat, sure, labels, labels)
    tensor([0.1856])
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not 0 <= rejected_weight <= 2:
        raise ValueError(f"rejected_weight must be between 0 and 2, got {rejected_weight}")
    alphas = {
        "skew_forward": (forward_alpha, forward_anchor),
        "skew_reverse": (reverse_alpha, reverse_anchor),
        "jensen_shannon": (0.9, None),
        "forward": (0.0, None),
    }
    chosen, rejected = KINDS[kind]
    values = text_divergence(
        student_chosen,
        teacher_chosen,
        labels_chosen,
        *alphas[chosen],
        divergence=chosen,
        detach_alpha=detach_alpha,
        mask=mask,
    )
    if rejected is not None:
        other = text_divergence(
            student_rejected,
            teacher_rejected,
            labels_rejected,
            *alphas[rejected],
            divergence=rejected,
            detach_alpha=detach_alpha,
            mask=mask,
        )
        values = (2 - rejected_weight) * values + rejected_weight * other
    return reduced(values, mask, reduction)


@method("sequences", _DISTILLM2, _VERIFIED, ("language model",))
def text_divergence(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    alpha: float = 0.1,
    anchor: float | None = None,
    *,
    divergence: str = "skew_forward",
    detach_alpha: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""A divergence of each text, the mean over its tokens.

    With an anchor m, each text has its own :math:`\alpha = \mathrm{clip}(1 - (1 - \alpha_0)\,m / (\bar p - \bar q +
    10^{-5}),\ 0.01,\ \alpha_0)`: :math:`\bar p` and :math:`\bar q` are the exponentials of the mean log-probability of
    its tokens for the teacher and for the student (the other way round for the skew reverse KL). A text on which both
    agree gets a small alpha, at which the divergence is sharp.

    Args:
        student, teacher: logits ``(B, T, V)``, not shifted.
        labels: ``(B, T)``, not shifted; -100 does not count.
        alpha: the weight in the mixture: the teacher's for ``skew_forward`` and ``jensen_shannon``, the student's for
            ``skew_reverse`` (there without gradient); with an anchor, it is the largest alpha. ``forward`` has no
            alpha.
        anchor: m; None: the same alpha for all texts.
        divergence: ``skew_forward``, ``skew_reverse``, ``jensen_shannon`` or ``forward``.
        detach_alpha: whether a text's alpha is a constant in the gradient. False differentiates through alpha, as the
            authors' code does; the student can then also lower the loss by changing alpha.
        mask: ``(B,)``, 0 for texts that do not count.
        reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(B,)``, 0 for a text without tokens that count.

    >>> import torch
    >>> flat, sure, labels = torch.zeros(1, 2, 2), torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), torch.tensor([[-100, 1]])
    >>> text_divergence(flat, sure, labels), text_divergence(flat, sure, labels, anchor=0.5)
    (tensor([0.0906]), tensor([0.1088]))
    """
    same_shape(student, teacher, "text_divergence", "teacher and student must have the same classes")
    same_tokens(student, labels, "text_divergence")
    student, teacher, tokens, counts = predicting(student), predicting(teacher), predicted(labels), token_mask(labels)
    if mask is not None:
        if mask.shape != labels.shape[:1]:
            raise ValueError(
                f"one mask entry per text: labels {tuple(labels.shape)} and mask {tuple(mask.shape)} differ"
            )
        counts = counts & (mask != 0)[:, None]
    weight: float | Tensor = alpha
    if anchor is not None:
        likelihood = [
            sequence_mean(token_log_probability(side, tokens, mask=counts), counts).exp() for side in (teacher, student)
        ]
        first, second = reversed(likelihood) if divergence == "skew_reverse" else likelihood
        alphas = (1 - (1 - alpha) * anchor / (first - second + 1e-5)).clamp(0.01, alpha)[:, None]
        weight = alphas.detach() if detach_alpha else alphas
    if divergence == "skew_forward":
        values = skew_forward_kl(student, teacher, teacher_weight=weight, mask=counts)
    elif divergence == "skew_reverse":
        values = skew_reverse_kl(student, teacher, student_weight=weight, detach_mixture=True, mask=counts)
    elif divergence == "jensen_shannon":
        values = jensen_shannon(student, teacher, teacher_weight=weight, mask=counts)
    elif divergence == "forward":
        values = forward_kl(student, teacher, mask=counts)
    else:
        raise ValueError(
            f"divergence must be skew_forward, skew_reverse, jensen_shannon or forward, got {divergence!r}"
        )
    return reduced(sequence_mean(values, counts), mask, reduction)


def distillm2_beta(step: int, steps: int) -> float:
    r"""DistiLLM-2's schedule of the rejected texts' weight: it rises from 1 to 1.5 in the first half of the training,
    :math:`1 + \min(1, 2 s / S) / 2`.

    >>> distillm2_beta(0, 100), distillm2_beta(25, 100), distillm2_beta(80, 100)
    (1.0, 1.25, 1.5)
    """
    return 1.0 + 0.5 * min(1.0, 2 * step / steps)
