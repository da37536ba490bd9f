r"""Divergences between two categorical distributions given by logits. One value per row, in nats.

Throughout, :math:`p = \mathrm{softmax}(z_t / T)` is the teacher's distribution and :math:`q = \mathrm{softmax}(z_s /
T)` the student's. The factor T^2 is not included: see :func:`kdlab.functional.hinton_kd`.

Every function takes, besides its own parameters:

    student, teacher: logits ``(..., C)``, computed in at least float32. A logit of -inf excludes a class.
    temperature: T, positive; both sides' logits are divided by it.
    mask: ``(...)``, 0 for rows that do not count (padding); their gradient is exactly 0, whatever values they hold.
    reduction: ``none`` (one value per row, the default), ``mean``, ``sum``, ``batchmean``, ``elementmean``:
        :func:`kdlab.functional.reduced`.
    skip_infinite: True leaves out the classes that either side excludes with -inf, as the code of DistiLLM does.
        Otherwise a class that only one side excludes makes the divergence infinite if the formula does.

and raises ValueError, with both shapes, if they differ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .rows import added, is_empty, reduced, same_shape, without_masked
from .sources import TASKS, Paper, method

_KULLBACK = Paper(
    "Kullback and Leibler", 1951, "On Information and Sufficiency", "https://doi.org/10.1214/aoms/1177729694"
)
MINILLM = Paper(
    "Gu et al.", 2024, "MiniLLM: Knowledge Distillation of Large Language Models", "https://arxiv.org/abs/2306.08543"
)
_GKD = Paper(
    "Agarwal et al.",
    2024,
    "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
    "https://arxiv.org/abs/2306.13649",
)
_DISTILLM = Paper(
    "Ko et al.",
    2024,
    "DistiLLM: Towards Streamlined Distillation for Large Language Models",
    "https://arxiv.org/abs/2402.03898",
)
_F_DISTILL = Paper(
    "Wen et al.",
    2023,
    "f-Divergence Minimization for Sequence-Level Knowledge Distillation",
    "https://arxiv.org/abs/2307.15190",
)
_ABKD = Paper(
    "Wang et al.",
    2025,
    "ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge Distillation via α-β-Divergence",
    "https://arxiv.org/abs/2505.04560",
)
_AKL = Paper(
    "Wu et al.",
    2025,
    "Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large Language Models",
    "https://arxiv.org/abs/2404.02657",
)


@method("divergence", _KULLBACK, {"songmzhang/DSKD": "dskd_forward_kl", "jongwooko/distillm-2": "distillm2_kd"}, TASKS)
def forward_kl(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Kullback-Leibler divergence of the student from the teacher,
    :math:`\mathrm{KL}(p \,\|\, q) = \sum_c p_c (\log p_c - \log q_c)`.

    >>> import torch
    >>> forward_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1109])
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "forward_kl")
    return reduced(kl(log_p, log_q, _skipped(log_p, log_q, skip_infinite)), mask, reduction, student.shape[-1])


@method(
    "divergence",
    MINILLM,
    {
        "songmzhang/DSKD": "dskd_reverse_kl",
        "jongwooko/distillm": "distillm_reverse_kl",
        "huggingface/trl": "trl_minillm_single_step",
    },
    TASKS,
)
def reverse_kl(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Kullback-Leibler divergence of the teacher from the student, :math:`\mathrm{KL}(q \,\|\, p) = \sum_c q_c (\log
    q_c - \log p_c)`. It penalises probability that the student gives to classes which are improbable for the teacher,
    and hardly penalises classes that the student leaves out. At each position of a text that the student generated, it
    is the single-step term of MiniLLM.

    >>> import torch
    >>> reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1201])
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "reverse_kl")
    return reduced(kl(log_q, log_p, _skipped(log_p, log_q, skip_infinite)), mask, reduction, student.shape[-1])


@method(
    "divergence",
    Paper(
        "Jeffreys",
        1946,
        "An Invariant Form for the Prior Probability in Estimation Problems",
        "https://doi.org/10.1098/rspa.1946.0056",
    ),
    {"jongwooko/distillm": "distillm_symmetric_kl"},
    TASKS,
)
def symmetric_kl(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    reverse_weight: float = 0.5,
    *,
    entropy: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""A mixture of both directions, :math:`(1 - w)\,\mathrm{KL}(p \,\|\, q) + w\,\mathrm{KL}(q \,\|\, p)`. With w =
    1/2 it is half of Jeffreys' divergence.

    Args:
        reverse_weight: w, the weight of the reverse direction, in [0, 1].
        entropy: False keeps the teacher's entropy in the forward part, as in the code of DistiLLM. The forward part is
            then a cross-entropy: the same gradient, but not 0 for equal distributions.

    >>> import torch
    >>> symmetric_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1155])
    """
    _fraction("reverse_weight", reverse_weight)
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "symmetric_kl")
    skipped = _skipped(log_p, log_q, skip_infinite)
    # a direction of weight 0 may be infinite, and 0 times inf is NaN
    directions = ((1 - reverse_weight, log_p, log_q, entropy), (reverse_weight, log_q, log_p, True))
    parts = [weight * kl(a, b, skipped, kept) for weight, a, b, kept in directions if weight != 0]
    return reduced(added(parts, "symmetric_kl"), mask, reduction, student.shape[-1])


@method(
    "divergence",
    _GKD,
    {
        "huggingface/trl": "gkd_jsd",
        "jongwooko/distillm": "distillm_js_distance",
        "jongwooko/distillm-2": "distillm2_gkd",
        "songmzhang/DSKD": "dskd_js_divergence",
    },
    TASKS,
)
def jensen_shannon(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    teacher_weight: float | Tensor = 0.5,
    *,
    scaled: bool = False,
    epsilon: float = 0.0,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence with the teacher's weight w in the mixture :math:`m = w\,p + (1 - w)\,q`,

    .. math:: \mathrm{JS}_w = w\,\mathrm{KL}(p \,\|\, m) + (1 - w)\,\mathrm{KL}(q \,\|\, m).

    The formula tends to 0 as w goes to 0 or 1. The quotients have other limits:
    :math:`\mathrm{JS}_w / w \to \mathrm{KL}(p \,\|\, q)` for w to 0 and
    :math:`\mathrm{JS}_w / (1 - w) \to \mathrm{KL}(q \,\|\, p)` for w to 1. As in GKD, w = 0 is *defined* as the forward
    KL and w = 1 as the reverse KL, so the value jumps at both ends. With ``scaled``, the value is divided by w (1 - w);
    then both ends are limits, without a jump.

    Args:
        teacher_weight: w, in [0, 1]. It is GKD's and TRL's beta, and one minus DistiLLM's lambda, which is the weight
            of the student.
        scaled: divide by w (1 - w).
        epsilon: added to every probability inside a logarithm; 1e-9 in the code of DSKD.

    >>> import torch
    >>> s, t = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> jensen_shannon(s, t), jensen_shannon(s, t, teacher_weight=0.1), jensen_shannon(s, t, teacher_weight=0.0)
    (tensor([0.0285]), tensor([0.0100]), tensor([0.1109]))
    >>> jensen_shannon(s.double(), t.double(), teacher_weight=1e-3, scaled=True)
    tensor([0.1109], dtype=torch.float64)
    """
    _fraction("teacher_weight", teacher_weight)
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "jensen_shannon")
    skipped = _skipped(log_p, log_q, skip_infinite)
    # near an end the scaled form divides a rounding error by w, so the limit itself is more accurate there
    end = next_to_zero(log_p) if scaled else 0.0
    if teacher_weight <= end or teacher_weight >= 1 - end:
        values = kl(log_p, log_q, skipped) if teacher_weight <= end else kl(log_q, log_p, skipped)
        return reduced(values, mask, reduction, student.shape[-1])
    if epsilon:
        p, q = log_p.exp(), log_q.exp()
        middle = (teacher_weight * p + (1 - teacher_weight) * q + epsilon).log()
        terms = [a * ((a + epsilon).log() - middle) for a in (p, q)]
        first, second = (term.sum(-1) if skipped is None else term.masked_fill(skipped, 0.0).sum(-1) for term in terms)
    else:
        middle = log_mixture(log_p, log_q, teacher_weight)
        first, second = kl(log_p, middle, skipped), kl(log_q, middle, skipped)
    values = teacher_weight * first + (1 - teacher_weight) * second
    if scaled:
        values = values / (teacher_weight * (1 - teacher_weight))
    return reduced(values, mask, reduction, student.shape[-1])


@method(
    "divergence",
    _DISTILLM,
    {
        "jongwooko/distillm": "distillm_skewed_forward_kl",
        "songmzhang/DSKD": "dskd_skewed_forward_kl",
        "jongwooko/distillm-2": "distillm2_distillm_v2",
    },
    TASKS,
)
def skew_forward_kl(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    teacher_weight: float | Tensor = 0.1,
    *,
    entropy: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Skew KL, :math:`\mathrm{KL}(p \,\|\, \alpha p + (1 - \alpha) q)`: the divergence of the mixture from the
    teacher. Its gradient stays bounded for tiny q. At :math:`\alpha = 0` it is the forward KL, at 1 it is 0.

    Args:
        teacher_weight: alpha, the teacher's weight in the mixture, in [0, 1]; one number, or one per row ``(...)``.
        entropy: False keeps the teacher's entropy, as in the code of the first DistiLLM. The value is then a
            cross-entropy: the same gradient, but not 0 for equal distributions.

    >>> import torch
    >>> skew_forward_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.0906])
    """
    _fraction("teacher_weight", teacher_weight)
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "skew_forward_kl")
    values = kl(log_p, log_mixture(log_p, log_q, teacher_weight), _skipped(log_p, log_q, skip_infinite), entropy)
    return reduced(values, mask, reduction, student.shape[-1])


@method(
    "divergence",
    _DISTILLM,
    {
        "jongwooko/distillm": "distillm_skewed_reverse_kl",
        "songmzhang/DSKD": "dskd_skewed_reverse_kl",
        "jongwooko/distillm-2": "distillm2_distillm_v1",
    },
    TASKS,
)
def skew_reverse_kl(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    student_weight: float | Tensor = 0.1,
    *,
    detach_mixture: bool = False,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Skew reverse KL, :math:`\mathrm{KL}(q \,\|\, (1 - \alpha) p + \alpha q)`. At :math:`\alpha = 0` it is the
    reverse KL, at 1 it is 0.

    Args:
        student_weight: alpha, the student's weight in the mixture, in [0, 1]; one number, or one per row ``(...)``.
        detach_mixture: whether no gradient flows through the student inside the mixture, as in DistiLLM-2.

    >>> import torch
    >>> skew_reverse_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.0950])
    """
    _fraction("student_weight", student_weight)
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "skew_reverse_kl")
    middle = log_mixture(log_q.detach() if detach_mixture else log_q, log_p, student_weight)
    return reduced(kl(log_q, middle, _skipped(log_p, log_q, skip_infinite)), mask, reduction, student.shape[-1])


@method("divergence", _F_DISTILL, {"jongwooko/distillm": "distillm_tv_distance"}, TASKS)
def total_variation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Total variation distance, :math:`\tfrac12 \sum_c |p_c - q_c|`, in [0, 1].

    >>> import torch
    >>> total_variation(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.2311])
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "total_variation")
    difference = (log_p.exp() - log_q.exp()).abs()
    skipped = _skipped(log_p, log_q, skip_infinite)
    if skipped is not None:
        difference = difference.masked_fill(skipped, 0.0)
    return reduced(0.5 * difference.sum(-1), mask, reduction, student.shape[-1])


@method("divergence", _ABKD, serves=TASKS)
def alpha_beta(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    alpha: float = 0.2,
    beta: float = 0.7,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Alpha-beta divergence (Cichocki, Cruces, Amari (2011), equations 16 and 17, https://doi.org/10.3390/e13010134),

    .. math:: -\frac{1}{\alpha\beta} \sum_c \Big[ p_c^\alpha q_c^\beta - \frac{\alpha}{\alpha+\beta} p_c^{\alpha+\beta}
              - \frac{\beta}{\alpha+\beta} q_c^{\alpha+\beta} \Big].

    If a denominator is 0 (or below the square root of the precision), the limit is used in closed form. With
    :math:`r_c = p_c / q_c`, the limits are

    - :math:`\beta = 0`: :math:`\alpha^{-2} \sum [p^\alpha \log r^\alpha - p^\alpha + q^\alpha]`, which is the forward
      KL at :math:`\alpha = 1`;
    - :math:`\alpha = 0`: :math:`\beta^{-2} \sum [q^\beta \log r^{-\beta} - q^\beta + p^\beta]`, which is the reverse
      KL at :math:`\beta = 1`;
    - :math:`\alpha + \beta = 0`: :math:`\alpha^{-2} \sum [\log r^{-\alpha} + r^\alpha - 1]`;
    - both 0: :math:`\tfrac12 \sum (\log r)^2`.

    Args:
        alpha, beta: any real numbers; (1, 0) is the forward and (0, 1) the reverse KL.

    >>> import torch
    >>> s, t = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> alpha_beta(s, t), alpha_beta(s, t, alpha=1.0, beta=0.0)
    (tensor([0.1272]), tensor([0.1109]))
    """
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "alpha_beta")
    skipped = _skipped(log_p, log_q, skip_infinite)
    # near a limit the formula divides rounding errors by almost 0, so the limit itself is more accurate there
    alpha, beta = (0.0 if abs(value) < next_to_zero(log_p) else value for value in (alpha, beta))
    total = alpha + beta
    if alpha == 0 or beta == 0 or abs(total) < next_to_zero(log_p):
        terms = _alpha_beta_limit(log_p, log_q, alpha, beta)
    else:
        mixed, own, other = (alpha * log_p + beta * log_q).exp(), (total * log_p).exp(), (total * log_q).exp()
        terms = -(mixed - alpha / total * own - beta / total * other) / (alpha * beta)
    if skipped is not None:
        terms = terms.masked_fill(skipped, 0.0)
    return reduced(terms.sum(-1), mask, reduction, student.shape[-1])


def _alpha_beta_limit(log_p: Tensor, log_q: Tensor, alpha: float, beta: float) -> Tensor:
    """The closed forms of :func:`alpha_beta` for alpha, beta or their sum equal to 0, class by class."""
    log_ratio = log_p - log_q
    if alpha == 0 and beta == 0:
        return 0.5 * log_ratio.square()
    if beta == 0:
        return ((alpha * log_p).exp() * (alpha * log_ratio - 1) + (alpha * log_q).exp()) / alpha**2
    if alpha == 0:
        return ((beta * log_q).exp() * (-beta * log_ratio - 1) + (beta * log_p).exp()) / beta**2
    return (torch.expm1(alpha * log_ratio) - alpha * log_ratio) / alpha**2


@method("divergence", _AKL, {"songmzhang/DSKD": "dskd_adaptive_kl"}, TASKS)
def adaptive_kl(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    tail_mass: float = 0.5,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
    skip_infinite: bool = False,
) -> Tensor:
    r"""Adaptive KL, :math:`\frac{g_h}{g_h + g_t} \mathrm{KL}(p \,\|\, q) + \frac{g_t}{g_h + g_t} \mathrm{KL}(q \,\|\,
    p)`, with the sums :math:`g_h` and :math:`g_t` of :math:`|p_c - q_c|` over the teacher's head and tail (detached).
    The tail consists of the least probable classes whose total probability does not exceed ``tail_mass``. The value is
    0 for equal distributions (the code of DSKD divides 0 by 0 there).

    Args:
        tail_mass: upper bound of the teacher's total probability in the tail, in [0, 1].

    >>> import torch
    >>> adaptive_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1155])
    """
    _fraction("tail_mass", tail_mass)
    log_q, log_p = log_probabilities(student, teacher, temperature, mask, "adaptive_kl")
    p, gap = log_p.exp(), (log_p.exp() - log_q.exp()).abs().detach()
    ascending, order = p.detach().sort(-1)
    sorted_gap, in_tail = gap.gather(-1, order), ascending.cumsum(-1) <= tail_mass
    tail, both = sorted_gap.masked_fill(~in_tail, 0.0).sum(-1), sorted_gap.sum(-1)
    tail_share = tail / both.masked_fill(both == 0, 1.0)
    skipped = _skipped(log_p, log_q, skip_infinite)
    values = (1 - tail_share) * kl(log_p, log_q, skipped) + tail_share * kl(log_q, log_p, skipped)
    return reduced(values, mask, reduction, student.shape[-1])


# -- what they share ---------------------------------------------------------------------------------------------------


def log_probabilities(
    student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None, what: str
) -> tuple[Tensor, Tensor]:
    """Log-softmax of both at the temperature, in at least float32. Shapes are checked, and masked rows replaced."""
    same_shape(student, teacher, what, "teacher and student must have the same classes")
    return (without_masked(student, mask) / temperature).log_softmax(-1), (
        without_masked(teacher, mask) / temperature
    ).log_softmax(-1)


def kl(log_a: Tensor, log_b: Tensor, skipped: Tensor | None = None, entropy: bool = True) -> Tensor:
    """KL(a || b) per row; without ``entropy``, the cross-entropy of b under a. A class of probability 0 under a adds
    0."""
    a = log_a.exp()
    empty = a == 0 if skipped is None else (a == 0) | skipped
    if is_empty(empty):
        return (a * (log_a - log_b if entropy else -log_b)).sum(-1)
    # filled before the product, not after it: the gradient of 0 times inf is NaN even if the value is masked
    difference = -log_b.masked_fill(empty, 0.0)
    if entropy:
        difference = log_a.masked_fill(empty, 0.0) + difference
    return (a.masked_fill(empty, 0.0) * difference).sum(-1)


def log_mixture(log_a: Tensor, log_b: Tensor, weight: float | Tensor) -> Tensor:
    """log(w a + (1 - w) b), exact at w = 0 and w = 1."""
    log_weight: float | Tensor
    log_rest: float | Tensor
    if isinstance(weight, Tensor):
        log_weight, log_rest = weight.log()[..., None], torch.log1p(-weight)[..., None]
    elif weight in (0, 1):
        kept, other = (log_b, log_a) if weight == 0 else (log_a, log_b)
        return kept + 0.0 * other.masked_fill(torch.isneginf(other), 0.0)  # a gradient of 0 still reaches the other
    else:
        log_weight, log_rest = math.log(weight), math.log1p(-weight)
    excluded = torch.isneginf(log_a) & torch.isneginf(log_b)
    mixture = torch.logaddexp(
        log_a.masked_fill(excluded, 0.0) + log_weight, log_b.masked_fill(excluded, 0.0) + log_rest
    )
    return mixture.masked_fill(excluded, -math.inf)


def _skipped(log_p: Tensor, log_q: Tensor, skip_infinite: bool) -> Tensor | None:
    return torch.isinf(log_p) | torch.isinf(log_q) if skip_infinite else None


def next_to_zero(logits: Tensor) -> float:
    """The threshold below which a number is treated as 0: there, the limit is as accurate as a division by the
    number."""
    threshold: float = torch.finfo(logits.dtype).eps ** 0.5
    return threshold


def _fraction(name: str, value: float | Tensor) -> None:
    if not isinstance(value, Tensor) and not 0 <= value <= 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")
