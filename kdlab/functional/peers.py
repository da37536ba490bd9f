r"""Networks that teach each other: deep mutual learning.

Throughout, ``peers`` is a list of the logits ``(N, C)`` of several networks. A teaching peer is a constant; with
``detach=False`` the gradient flows into the teaching networks, too. The loss is that of *one* network. A strategy
computes it for each network and sums the values (all learn from the same outputs), or trains one network after another.
:mod:`kdlab.functional.targets` has the soft targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .divergences import forward_kl, log_probabilities
from .rows import reduced, wide
from .sources import Paper, method

_DML = Paper("Zhang et al.", 2018, "Deep Mutual Learning", "https://arxiv.org/abs/1706.00384")
KDCL = Paper(
    "Guo et al.",
    2020,
    "Online Knowledge Distillation via Collaborative Learning",
    "https://openaccess.thecvf.com/content_CVPR_2020/html/"
    "Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html",
)


def stacked(peers: Sequence[Tensor], what: str, detach: bool, least: int = 1) -> Tensor:
    """The networks' logits ``(M, N, C)`` in at least float32. Raises ValueError unless there are at least ``least`` of
    the same shape."""
    shapes = [tuple(peer.shape) for peer in peers]
    if len(shapes) < least:
        raise ValueError(f"{what}: the logits of at least {least} networks are needed, got {len(shapes)}")
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"{what}: the networks' logits must all be (N, C) of the same rows and classes, got "
            f"{', '.join(map(str, shapes))}"
        )
    stack = torch.stack([wide(peer) for peer in peers])
    return stack.detach() if detach else stack


@method("logits", _DML, {"YingZhangDUT/Deep-Mutual-Learning": "dml_kl", "wangz3066/OnlineDistillGCN": "oad_dml_loss"})
def mutual_kl(
    student: Tensor,
    peers: Sequence[Tensor],
    temperature: float = 1.0,
    *,
    average: bool = True,
    detach: bool = True,
    epsilon: float = 0.0,
    temperature_squared: bool = True,
    mask: Tensor | None = None,
    reduction: str = "none",
) -> Tensor:
    r"""The term by which one network learns from its peers,
    :math:`\frac{1}{K - 1} \sum_{j} T^2\,\mathrm{KL}(p_j \,\|\, p)` over the K - 1 others.

    Args:
        student: logits of the network that learns, ``(N, C)``.
        peers: logits of the others, each ``(N, C)``.
        temperature: T; 1 in the paper.
        average: True: the mean over peers, as in the paper. False: the sum, as in the authors' code.
        detach: whether no gradient flows into the peers, as in the paper. In OnlineDistillGCN it does.
        epsilon: if it is not 0, each divergence is :math:`\sum_c p_{j,c} \log(\epsilon + p_{j,c} / (p_c + \epsilon))`,
            as in the authors' code (there 1e-8). The value is slightly below 0 for equal logits.
        temperature_squared: whether the factor T^2 is applied.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(N,)``

    Raises:
        ValueError: there is no peer, or the logits have different shapes. The message shows all shapes.

    >>> import torch
    >>> z = torch.tensor([[0.0, 0.0]])
    >>> mutual_kl(z, [torch.tensor([[0.0, 1.0]]), z])
    tensor([0.0555])
    >>> mutual_kl(z, [torch.tensor([[0.0, 1.0]]), z], average=False)
    tensor([0.1109])
    """
    # detached before stacking: after it, a backward pass would still run through the peers' networks, with zeros
    stack = stacked([student, *(peer.detach() if detach else peer for peer in peers)], "mutual_kl", False, least=2)
    student, teachers = stack[0].expand_as(stack[1:]), stack[1:]
    each = None if mask is None else mask.expand(len(teachers), *mask.shape)
    if epsilon:
        log_q, log_p = log_probabilities(student, teachers, temperature, each, "mutual_kl")
        p, q = log_p.exp(), log_q.exp()
        values = (p * (epsilon + p / (q + epsilon)).log()).sum(-1)
    else:
        values = forward_kl(student, teachers, temperature, mask=each)
    values = values.mean(0) if average else values.sum(0)
    values = values * temperature**2 if temperature_squared else values
    return reduced(values, mask, reduction, student.shape[-1])
