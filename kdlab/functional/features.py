"""Losses on features, one value per sample. All take ``mask`` ``(B,)`` and ``reduction``, see
:func:`kdlab.functional.reduced`."""

import torch
from torch import Tensor

from .kernels import unit
from .maps import counted, same_size, samples
from .rows import one_of, reduced
from .sources import Paper, method

FORMS = ("code", "paper")

_AT = Paper(
    "Zagoruyko and Komodakis",
    2017,
    "Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via "
    "Attention Transfer",
    "https://arxiv.org/abs/1612.03928",
)
_VID = Paper(
    "Ahn et al.",
    2019,
    "Variational Information Distillation for Knowledge Transfer",
    "https://arxiv.org/abs/1904.05835",
)
_FT = Paper(
    "Kim et al.",
    2018,
    "Paraphrasing Complex Network: Network Compression via Factor Transfer",
    "https://arxiv.org/abs/1802.04977",
)


@method(
    "features",
    Paper("Romero et al.", 2015, "FitNets: Hints for Thin Deep Nets", "https://arxiv.org/abs/1412.6550"),
    {"HobbitLong/RepDistiller": "fitnet fitnet_connector"},
)
def hint(student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: str = "none") -> Tensor:
    r"""Mean squared difference of two feature tensors of the same shape,
    :math:`\frac{1}{D}\sum_d (f_{s,d} - f_{t,d})^2` over the D elements of a sample.

    Romero et al. (2015), "FitNets: Hints for Thin Deep Nets", equation 3, https://arxiv.org/abs/1412.6550 (there with
    the factor 1/2 and a sum). The mean of this value over samples is the mean over all elements, as in RepDistiller's
    HintLoss.

    Args:
        student: features ``(B, ...)``, after the connector.
        teacher: features of the same shape.

    Returns:
        ``(B,)``

    >>> import torch
    >>> hint(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3.0))
    tensor([9.])
    """
    student, teacher = samples(student, teacher, mask, "hint")
    return reduced((student - teacher).square().flatten(1).mean(1), mask, reduction)


def attention_map(x: Tensor, power: float) -> Tensor:
    """The attention map of ``(B, C, H, W)``: the mean over channels of its power, flattened and divided by its L2 norm,
    ``(B, H W)``."""
    return unit(x.pow(power).mean(1).flatten(1))


@method("features", _AT, {"HobbitLong/RepDistiller": "at", "yoshitomo-matsubara/torchdistill": "at_torchdistill"})
def attention_transfer(
    student: Tensor,
    teacher: Tensor,
    power: float = 2.0,
    form: str = "code",
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Attention transfer between two maps. With :math:`a = \mathrm{vec}\big(\tfrac1C \sum_c f_c^p\big)` and
    :math:`\hat a = a / \|a\|_2` of each side, the value is

    ``code``: :math:`\frac{1}{HW} \sum_i (\hat a_{s,i} - \hat a_{t,i})^2`, as in the authors' code and in RepDistiller;
    ``paper``: :math:`\|\hat a_s - \hat a_t\|_2`, not squared, as the paper's equation 2.

    The channels may differ. If the sizes differ, the larger map is averaged to the size of the smaller one first.

    Args:
        student: maps ``(B, C, H, W)``.
        teacher: maps ``(B, C', H', W')``.
        power: p. The paper takes the power of the absolute value, the code of the value itself; both are the same for
            even p.
        form: ``code`` or ``paper``.

    Returns:
        ``(B,)``, for one pair of stages. The values of several stages are summed.

    Raises:
        ValueError: the features are not maps, or the form is unknown.

    >>> import torch
    >>> s, t = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0]]]])
    >>> attention_transfer(s, t), attention_transfer(s, t, form="paper")
    (tensor([0.2929]), tensor([0.7654]))
    """
    one_of("form", form, FORMS)
    _whole_power(power)
    student, teacher = same_size(counted(student, mask), counted(teacher, mask), "attention_transfer")
    difference = attention_map(student, power) - attention_map(teacher, power)
    values = difference.square().mean(1) if form == "code" else torch.linalg.vector_norm(difference, dim=1)
    return reduced(values, mask, reduction)


@method("features", _VID, {"HobbitLong/RepDistiller": "vid"})
def variational_information(
    student: Tensor, teacher: Tensor, variance: Tensor, *, mask: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    r"""Variational information distillation: the negative logarithm of a Gaussian's density at the teacher's feature,
    without its constant, :math:`\frac{1}{D} \sum_d \tfrac12 \Big[ \frac{(\mu_d - f_{t,d})^2}{\sigma_c^2} + \log
    \sigma_c^2 \Big]`.

    Args:
        student: the mean :math:`\mu`, which a regressor predicts from the student's feature, ``(B, C, ...)``.
        teacher: features of the same shape.
        variance: :math:`\sigma_c^2`, positive, one per channel, ``(C,)``.

    Returns:
        ``(B,)``; for equal features it is :math:`\tfrac12` times the mean of :math:`\log \sigma^2`, not 0.

    Raises:
        ValueError: the shapes do not fit.

    >>> import torch
    >>> variational_information(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([1.0, 4.0]))
    tensor([0.8466])
    """
    student, teacher = samples(
        student, teacher, mask, "variational_information", "the regressor's output must have the teacher's shape"
    )
    if variance.shape != student.shape[1:2]:
        raise ValueError(
            f"variational_information: features {tuple(student.shape)} need one variance per channel, "
            f"{tuple(student.shape[1:2])}, got {tuple(variance.shape)}"
        )
    variance = variance.to(student.dtype).view(-1, *[1] * (student.dim() - 2))
    values = 0.5 * ((student - teacher).square() / variance + variance.log())
    return reduced(values.flatten(1).mean(1), mask, reduction)


@method("features", _FT, {"HobbitLong/RepDistiller": "ft", "yoshitomo-matsubara/torchdistill": "ft_torchdistill"})
def factor_transfer(
    student: Tensor,
    teacher: Tensor,
    norm: float = 1.0,
    form: str = "code",
    power: float = 2.0,
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""Factor transfer between the translator's and the paraphraser's factors.

    ``paper``: :math:`\Big\| \frac{F_s}{\|F_s\|_2} - \frac{F_t}{\|F_t\|_2} \Big\|_p`, the factors flattened.
    torchdistill's mean over all elements at p = 1 is ``reduction="elementmean"``.
    ``code``, as in RepDistiller: the factors are first converted to attention maps :math:`\hat a` (see
    :func:`attention_transfer`). At p = 1 the value is :math:`\frac{1}{HW} \sum_i |\hat a_{s,i} - \hat a_{t,i}|`; at
    another (even) p it is the mean of the p-th power of the difference.

    Args:
        student: the student's factors ``(B, C, H, W)``.
        teacher: the teacher's factors, of the same shape for ``paper``; for ``code`` channels may differ, and the
            larger map is averaged.
        norm: p.
        form: ``code`` or ``paper``.
        power: power of the attention map, for ``code``.

    Returns:
        ``(B,)``

    Raises:
        ValueError: the shapes do not fit, or the form is unknown.

    >>> import torch
    >>> s, t = torch.tensor([[[[3.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0]]]])
    >>> factor_transfer(s, t), factor_transfer(s, t, form="paper").round(decimals=4)
    (tensor([0.5000]), tensor([1.]))
    """
    one_of("form", form, FORMS)
    if form == "paper":
        student, teacher = samples(
            student, teacher, mask, "factor_transfer", "translator and paraphraser must have outputs of the same shape"
        )
        student, teacher = student.flatten(1), teacher.flatten(1)
        values = torch.linalg.vector_norm(unit(student) - unit(teacher), norm, dim=1)
        return reduced(values, mask, reduction, student.shape[1])
    _whole_power(power)
    student, teacher = same_size(counted(student, mask), counted(teacher, mask), "factor_transfer")
    difference = attention_map(student, power) - attention_map(teacher, power)
    values = difference.abs() if norm == 1 else difference.pow(norm)
    return reduced(values.mean(1), mask, reduction, difference.shape[1])


def _whole_power(power: float) -> None:
    if power < 1 or power != int(power):
        raise ValueError(f"power must be a whole number of at least 1, since features may be negative; got {power}")
