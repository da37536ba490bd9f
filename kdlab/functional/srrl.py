"""SRRL: features, and the logits that the teacher's classifier computes from them. One value per sample."""

from torch import Tensor

from .divergences import forward_kl
from .features import hint
from .logits import logit_mse
from .rows import one_of, reduced, same_shape
from .sources import Paper, method

_SRRL = Paper(
    "Yang et al.",
    2021,
    "Knowledge Distillation via Softmax Regression Representation Learning",
    "https://openreview.net/forum?id=ZzwDy_wiWv",
)


@method("features", _SRRL)
def softmax_regression(
    student: Tensor,
    teacher: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    divergence: str = "mse",
    *,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""SRRL: the difference of the features, plus the difference of the logits that the *teacher's* classifier computes
    from both, :math:`\frac1C \|\bar f_s - \bar f_t\|^2 + \frac1K \|W\bar f_s - W\bar f_t\|^2`, where :math:`\bar f` is
    the mean over the map and W the teacher's classifier. As in the authors' code, both are means over their elements.

    Args:
        student: features ``(B, C)`` or maps ``(B, C, H, W)`` after the connector.
        teacher: features with the same number of channels; the map may have any size.
        student_logits: the output of the teacher's classifier for the student's feature, ``(B, K)``.
        teacher_logits: the teacher's logits, ``(B, K)``.
        divergence: ``mse`` of the logits (as in the authors' code, the default), or ``kl`` of the softmaxes.

    Returns:
        ``(B,)``

    Raises:
        ValueError: the shapes do not fit, or the divergence is unknown.

    >>> import torch
    >>> softmax_regression(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2), torch.full((1, 2), 2.0))
    tensor([5.])
    """
    one_of("divergence", divergence, ("mse", "kl"))
    student, teacher = _mean(student), _mean(teacher)
    same_shape(student, teacher, "softmax_regression", "the connector's output must have the teacher's channels")
    if mask is not None:
        student_logits, teacher_logits = (
            logits.masked_fill((mask == 0)[:, None], 0.0) for logits in (student_logits, teacher_logits)
        )
    difference = (
        logit_mse(student_logits, teacher_logits) if divergence == "mse" else forward_kl(student_logits, teacher_logits)
    )
    return reduced(hint(student, teacher, mask=mask) + difference, mask, reduction)


def _mean(x: Tensor) -> Tensor:
    return x if x.dim() == 2 else x.flatten(2).mean(2)
