"""Losses on logits, one value a row."""

import torch.nn.functional as F
from torch import Tensor

from .divergences import forward_kl
from .rows import reduced, same_shape, wide, without_masked
from .sources import Paper, method

_LANGUAGE = ("classifier", "encoder", "language model")
_HINTON = Paper("Hinton et al.", 2015, "Distilling the Knowledge in a Neural Network", "https://arxiv.org/abs/1503.02531")


@method("logits", Paper("Szegedy et al.", 2016, "Rethinking the Inception Architecture for Computer Vision", "https://arxiv.org/abs/1512.00567"),
        serves=_LANGUAGE)
def cross_entropy(student: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""Cross-entropy to the labels, :math:`-\sum_c t_c \log q_c`, with
    :math:`t = (1 - \epsilon)\,\mathrm{onehot}(y) + \epsilon / C`.

    Label smoothing: Szegedy et al. (2016), "Rethinking the Inception Architecture", section 7, https://arxiv.org/abs/1512.00567
    (the form torch has: the true class receives a share of epsilon too).

    Args:
        student: logits ``(N, C)``.
        target: class numbers ``(N,)``; -100 is ignored (its value is 0).
        label_smoothing: epsilon, in [0, 1].

    Raises:
        ValueError: the target is not one class number a row; both shapes are printed.

    >>> import torch
    >>> cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    tensor([0.1269])
    >>> cross_entropy(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), label_smoothing=0.1)
    tensor([0.2269])
    """
    if target.shape != student.shape[:1] or target.is_floating_point():
        raise ValueError(f"cross_entropy: logits {tuple(student.shape)} need one class number a row, got a target of shape "
                         f"{tuple(target.shape)} and type {target.dtype}")
    return F.cross_entropy(wide(student), target, reduction="none", label_smoothing=label_smoothing)


@method("logits", _HINTON, {"HobbitLong/RepDistiller": "kd", "megvii-research/mdistiller": "kd_total",
                            "yuanli2333/Teacher-free-Knowledge-Distillation": "tfkd_kd tfkd_self",
                            "intersun/PKD-for-BERT-Model-Compression": "pkd_kd"}, _LANGUAGE)
def hinton_kd(student: Tensor, teacher: Tensor, temperature: float = 4.0, temperature_squared: bool = True, *, mask: Tensor | None = None,
              reduction: str = "none") -> Tensor:
    r"""Soft targets: :math:`T^2\,\mathrm{KL}(p^T \,\|\, q^T)`, both distributions softened by T.

    Section 2 of the paper. The factor T^2 keeps the size of the gradient when T changes, because it shrinks as 1/T^2.

    Args:
        student, teacher: logits ``(N, C)``.
        temperature: T, positive.
        temperature_squared: whether the factor T^2 is applied.
        mask, reduction: see :func:`kdlab.functional.reduced`. ``elementmean`` is the reduction of Tf-KD, PKD and TAKD.

    Returns:
        ``(N,)``; its mean is what is called ``batchmean``.

    >>> import torch
    >>> z = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> hinton_kd(z, z)
    tensor([0., 0.])
    >>> hinton_kd(z, -z, temperature=2.0)
    tensor([1.8485, 0.4898])
    """
    values = forward_kl(student, teacher, temperature, mask=mask, reduction=reduction)
    return values * temperature**2 if temperature_squared else values


@method("logits", Paper("Ba and Caruana", 2014, "Do Deep Nets Really Need to be Deep?", "https://arxiv.org/abs/1312.6184"),
        {"airaria/TextBrewer": "textbrewer_kd_mse_loss"}, _LANGUAGE)
def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Squared difference of logits, :math:`\frac{1}{C}\sum_c (z_{s,c} - z_{t,c})^2`.

    Ba and Caruana (2014), "Do Deep Nets Really Need to be Deep?", equation 1, https://arxiv.org/abs/1312.6184 (there with the
    factor 1/2 and a sum over classes; here a mean, so that the weight does not depend on the number of classes).

    Args:
        student, teacher: logits ``(N, C)``.

    >>> import torch
    >>> logit_mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([2.5000])
    """
    same_shape(student, teacher, "logit_mse", "teacher and student must have the same classes")
    return (wide(student) - wide(teacher)).square().mean(-1)
