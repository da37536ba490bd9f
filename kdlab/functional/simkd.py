"""SimKD: the last feature, compared with the input of the teacher's classifier. One value per sample."""

from torch import Tensor

from .features import hint
from .sources import Paper, method

_SIMKD = Paper(
    "Chen et al.", 2022, "Knowledge Distillation with the Reused Teacher Classifier", "https://arxiv.org/abs/2203.14001"
)


@method("features", _SIMKD, {"DefangChen/SimKD": "simkd"})
def reused_classifier(
    student: Tensor, teacher: Tensor, *, mask: Tensor | None = None, reduction: str = "none"
) -> Tensor:
    r"""SimKD's only term: :math:`\frac{1}{D} \sum_d (f_{s,d} - f_{t,d})^2` between the projected last feature and the
    teacher's, as :func:`hint`. The method lies in the features that it is applied to: :class:`kdlab.losses.SimKD`.

    Args:
        student: the last feature after the projector, ``(B, ...)``.
        teacher: the teacher's last feature, of the same shape.

    Returns:
        ``(B,)``

    >>> import torch
    >>> reused_classifier(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]))
    tensor([5.])
    """
    return hint(student, teacher, mask=mask, reduction=reduction)
