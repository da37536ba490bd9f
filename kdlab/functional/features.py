"""Losses on features, one value a sample."""

from torch import Tensor

from .rows import same_shape, wide
from .sources import Paper, method


@method("features", Paper("Romero et al.", 2015, "FitNets: Hints for Thin Deep Nets", "https://arxiv.org/abs/1412.6550"),
        {"HobbitLong/RepDistiller": "fitnet fitnet_connector"})
def hint(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Mean squared difference of two feature tensors of the same shape,
    :math:`\frac{1}{D}\sum_d (f_{s,d} - f_{t,d})^2` over the D elements of a sample.

    Romero et al. (2015), "FitNets: Hints for Thin Deep Nets", equation 3, https://arxiv.org/abs/1412.6550 (there with the factor
    1/2 and a sum). The mean over samples of this value is the mean over all elements, as RepDistiller's HintLoss takes it.

    Args:
        student: features ``(B, ...)``, after the connector.
        teacher: features of the same shape.

    Returns:
        ``(B,)``

    >>> import torch
    >>> hint(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3.0))
    tensor([9.])
    """
    same_shape(student, teacher, "hint", "put a connector between them")
    return (wide(student) - wide(teacher)).square().flatten(1).mean(1)
