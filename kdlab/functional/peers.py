r"""Networks that teach each other: deep mutual learning.

Throughout, ``peers`` are the logits ``(N, C)`` of several networks, a list. A peer teaches as a constant:
``detach=False`` lets the gradient into the teaching networks too. The loss is that of *one* network; a strategy takes
it of each, summed (all learn from the same outputs) or one after another. :mod:`kdlab.functional.targets` makes the
soft targets.
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
    """The networks' logits ``(M, N, C)`` in at least float32; ValueError unless there are ``least`` of one shape."""
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
    r"""What one network learns from its peers, :math:`\frac{1}{K - 1} \sum_{j} T^2\,\mathrm{KL}(p_j \,\|\, p)` over the
    K - 1 others.

    Args:
        student: logits of the network that learns, ``(N, C)``.
        peers: logits of the others, each ``(N, C)``.
        temperature: T; 1 in the paper.
        average: the mean over peers, as in the paper; False sums, as the authors' code does.
        detach: whether the peers are constants, as in the paper; OnlineDistillGCN lets the gradient into them.
        epsilon: where it is not 0, each divergence is :math:`\sum_c p_{j,c} \log(\epsilon + p_{j,c} / (p_c +
            \epsilon))` as in the authors' code (1e-8 there), which is slightly below 0 for equal logits.
        temperature_squared: whether the factor T^2 is applied.
        mask, reduction: see :func:`kdlab.functional.reduced`.

    Returns:
        ``(N,)``

    Raises:
        ValueError: no peer, or logits of different shapes; all are printed.

    >>> import torch
    >>> z = torch.tensor([[0.0, 0.0]])
    >>> mutual_kl(z, [torch.tensor([[0.0, 1.0]]), z])
    tensor([0.0555])
    >>> mutual_kl(z, [torch.tensor([[0.0, 1.0]]), z], average=False)
    tensor([0.1109])
    """
    # detached one by one: behind a stack, a backward pass would still walk through the peers' networks, with zeros
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
