r"""Distillation as a policy gradient (MiniLLM): the reverse KL of whole texts that the student generated.

The student's text :math:`y` is sampled; its reward at token t is :math:`r_t = \log p(y_t) - \log q(y_t)`. The gradient
of the reverse KL is a policy gradient with the sums of later rewards. All functions have one value per token,
``(B, R)`` over the R tokens of the answers, aligned with the positions that predict them: see
:func:`kdlab.functional.predicting` and :func:`kdlab.functional.generated_mask`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .divergences import MINILLM, reverse_kl
from .rows import one_of, reduced, same_shape, wide
from .sources import Paper, method
from .tokens import token_log_probability

_PPO = Paper("Schulman et al.", 2017, "Proximal Policy Optimization Algorithms", "https://arxiv.org/abs/1707.06347")
_K3 = Paper("Schulman", 2020, "Approximating KL Divergence", "http://joschu.net/blog/kl-approx.html")


@method("sequences", MINILLM, {"huggingface/trl": "trl_minillm_advantage"}, ("language model",))
def reverse_kl_reward(
    student: Tensor, teacher: Tensor, clip: float | None = None, *, mask: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    r"""The reward of a sampled token, :math:`r_t = \log p(y_t) - \log q(y_t)`. Differentiable:
    :func:`discounted_advantage` detaches.

    Args:
        student, teacher: log-probabilities of the sampled tokens, ``(B, R)``:
            :func:`kdlab.functional.token_log_probability`.
        clip: rewards are clipped to [-clip, clip]; None: no clipping. 100 in the code of MiniLLM.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    >>> import torch
    >>> reverse_kl_reward(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -200.0]]), clip=100.0)
    tensor([[   0., -100.]])
    """
    same_shape(student, teacher, "reverse_kl_reward", "both are log-probabilities of the same tokens")
    rewards = reduced(wide(teacher) - wide(student), mask)
    return reduced(rewards if clip is None else rewards.clamp(-clip, clip), mask, reduction)


@method(
    "sequences",
    MINILLM,
    {"huggingface/trl": "trl_minillm_advantage", "microsoft/LMOps": "minillm_lmops"},
    ("language model",),
)
def discounted_advantage(
    rewards: Tensor,
    discount: float = 0.95,
    *,
    length: str = "remaining",
    whiten: bool = False,
    discount_from: str = "token",
    padding: str = "masked",
    padding_length: float = 0.0,
    detach: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Sums of later rewards, :math:`A_t = \frac{1}{L_t} \sum_{j \ge t} \gamma^{j - t} m_j r_j`, computed in log2(R)
    additions.

    Args:
        rewards: ``(B, R)``.
        discount: gamma, in [0, 1].
        length: L_t: ``remaining``, the number of tokens that count from t on, as in the paper and in LMOps;
            ``discounted``, :math:`\sum_{j \ge t} \gamma^{j-t} m_j`, a weighted mean, as in TRL; ``none``, 1.
        whiten: subtract the mean over tokens and divide by their standard deviation (unbiased variance plus 1e-8), as
            in LMOps. The statistics are over the tokens of this call; with several processes, gather the rewards first.
        discount_from: ``token``: the formula. ``start``: :math:`\gamma^j` in place of :math:`\gamma^{j-t}`, as in TRL.
            The common factor cancels if ``length`` is ``discounted``, and TRL leaves it out for gamma 0.
        padding: ``masked``: the formula, and 0 at padding. ``counted``: as in LMOps, the rewards of padding are part of
            the sums, whitening is over padding too, and padding keeps its advantages.
        padding_length: m_j of padding in the ``discounted`` length; 1e-4 in TRL.
        detach: whether no gradient flows through the advantages, as a policy gradient requires.
        mask: ``(B, R)``, 0 for padding.
        reduction: see :func:`kdlab.functional.reduced`.

    >>> import torch
    >>> discounted_advantage(torch.tensor([[1.0, 2.0, 4.0]]), discount=0.5)
    tensor([[1., 2., 4.]])
    >>> discounted_advantage(torch.tensor([[1.0, 2.0, 4.0]]), discount=1.0, length="none",
    ...     mask=torch.tensor([[1, 1, 0]]))
    tensor([[3., 2., 0.]])
    """
    one_of("length", length, ("remaining", "discounted", "none"))
    one_of("discount_from", discount_from, ("token", "start"))
    one_of("padding", padding, ("masked", "counted"))
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must be between 0 and 1, got {discount}")
    rewards = wide(rewards)
    masked = mask if padding == "masked" else None
    rewards = reduced(rewards, masked)
    counts = torch.ones_like(rewards) if mask is None else reduced(torch.ones_like(rewards), mask)
    advantages = _later_sum(rewards, discount)
    if length == "remaining":
        advantages = advantages / _later_sum(counts, 1.0).clamp(min=1)
    elif length == "discounted":
        lengths = _later_sum(counts.masked_fill(counts == 0, padding_length), discount)
        advantages = advantages / lengths.masked_fill(lengths == 0, 1.0)
    if discount_from == "start" and length != "discounted" and discount > 0:
        advantages = advantages * discount ** torch.arange(
            rewards.shape[-1], device=rewards.device, dtype=rewards.dtype
        )
    if whiten:
        advantages = _whitened(advantages, torch.ones_like(counts) if masked is None else counts)
    advantages = advantages.detach() if detach else advantages
    return reduced(advantages, masked if reduction == "none" else mask, reduction)


@method("sequences", _PPO, {"microsoft/LMOps": "minillm_lmops"}, ("language model",))
def policy_gradient(
    student: Tensor,
    old: Tensor,
    advantages: Tensor,
    importance: Tensor | None = None,
    clip: float = 0.2,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""The clipped policy-gradient loss, :math:`\max(-A_t \rho_t, -A_t \min(\max(\rho_t, 1 - c), 1 + c))` with
    :math:`\rho_t = w_t\,q(y_t) / q_{\mathrm{old}}(y_t)`. Without an old policy and before any step, its gradient is
    that of :math:`-A_t w_t \log q(y_t)`.

    Args:
        student: current log-probabilities of the sampled tokens, ``(B, R)``.
        old: their log-probabilities when the text was sampled, constants.
        advantages: :func:`discounted_advantage`, constants.
        importance: w, the weight of a token that another policy proposed (in MiniLLM, a mixture with the teacher); it
            is inside the clip, as in LMOps. None means 1.
        clip: c.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        One value per token; at old == student and w = 1 it is minus the advantage.

    >>> import torch
    >>> policy_gradient(torch.tensor([[-1.0, 0.0]]), torch.tensor([[-1.0, -1.0]]), torch.tensor([[2.0, 2.0]]))
    tensor([[-2.0000, -2.4000]])
    """
    for name, other in (
        ("old", old),
        ("advantages", advantages),
        ("importance", student if importance is None else importance),
    ):
        if other.shape != student.shape:
            raise ValueError(
                f"policy_gradient: one value per token: student {tuple(student.shape)} and {name} {tuple(other.shape)} "
                "differ"
            )
    # far outside of any clip; an overflow of the exponential would give 0 times inf for an advantage of 0
    ratio = reduced(wide(student) - wide(old), mask).clamp(-20.0, 20.0).exp()
    if importance is not None:
        ratio = ratio * importance
    advantages = reduced(wide(advantages), mask)
    return reduced(torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)), mask, reduction)


@method("sequences", _K3, {"microsoft/LMOps": "minillm_rev_kl_metric"}, ("language model",))
def reverse_kl_estimate(
    student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    r"""Estimate of the reverse KL from one sampled token per position, :math:`e^{d} - 1 - d` with
    :math:`d = \log p(y_t) - \log q(y_t)`: it is unbiased if the student sampled the token, never negative, and has less
    variance than -d. It is for monitoring: its gradient is not that of the reverse KL.

    Args:
        student, teacher: log-probabilities of the sampled tokens, ``(B, R)``.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    >>> import torch
    >>> reverse_kl_estimate(torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.0, -2.0]]))
    tensor([[0.0000, 0.3679]])
    """
    same_shape(student, teacher, "reverse_kl_estimate", "both are log-probabilities of the same tokens")
    difference = reduced(wide(teacher) - wide(student), mask)
    return reduced(torch.expm1(difference) - difference, mask, reduction)


@method("sequences", MINILLM, {"microsoft/LMOps": "minillm_lmops"}, ("language model",))
def minillm(
    student: Tensor,
    teacher: Tensor,
    tokens: Tensor,
    old: Tensor,
    advantages: Tensor,
    importance: Tensor | None = None,
    temperature: float = 1.0,
    clip: float = 0.2,
    single_step: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""MiniLLM's loss on sampled text: :func:`policy_gradient` with the later rewards, plus the *single-step* term. The
    latter is the exact reverse KL over the vocabulary at each position (:func:`kdlab.functional.reverse_kl`) and needs
    no sampling: :math:`\ell_t = \ell^{\mathrm{pg}}_t + w\,\mathrm{KL}(q_t \,\|\, p_t)`.

    Args:
        student, teacher: logits at the positions that predict the tokens, ``(B, R, V)``.
        tokens: the sampled tokens, ``(B, R)``.
        old, advantages, importance, clip: see :func:`policy_gradient`.
        temperature: both sides' logits are divided by it.
        single_step: weight of the single-step term; 0 leaves it out.
        mask, reduction: see :func:`kdlab.functional.reduced`; LMOps uses ``mean``.

    >>> import torch
    >>> logits, tokens = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[1]])
    >>> minillm(logits, torch.tensor([[[0.0, 1.0]]]), tokens, torch.tensor([[-0.6931]]), torch.tensor([[2.0]]))
    tensor([[-1.8798]])
    """
    same_shape(student, teacher, "minillm", "teacher and student must have the same classes")
    values = policy_gradient(
        token_log_probability(student, tokens, temperature, mask=mask), old, advantages, importance, clip, mask=mask
    )
    if single_step:
        values = values + single_step * reverse_kl(student, teacher, temperature, mask=mask)
    return reduced(values, mask, reduction)


def _later_sum(x: Tensor, discount: float) -> Tensor:
    """sum over j >= t of discount^(j - t) x_j. Each pass doubles the range of the sums."""
    reach = 1
    while reach < x.shape[-1]:
        x = x + discount**reach * F.pad(x[..., reach:], (0, reach))
        reach *= 2
    return x


def _whitened(x: Tensor, counts: Tensor) -> Tensor:
    number = counts.sum()
    mean = (x * counts).sum() / number.clamp(min=1)
    variance = ((x - mean).square() * counts).sum() / (number - 1).clamp(min=1)
    return (x - mean) * torch.rsqrt(variance + 1e-8)
