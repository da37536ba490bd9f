"""The gate of ONE: the weights of the branches, computed from the shared feature."""

import torch.nn.functional as F
from torch import Tensor, nn


class BranchGate(nn.Module):
    """Linear, BatchNorm, ReLU and softmax over the branches. Lan et al. (2018), "Knowledge Distillation by On-the-Fly
    Native Ensemble", https://arxiv.org/abs/1806.04606

    Args:
        features: channels of the shared feature.
        branches: number of classifiers.

    >>> import torch
    >>> BranchGate(8, 3)(torch.ones(2, 8, 4, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(self, features: int, branches: int):
        super().__init__()
        if branches < 2:
            raise ValueError(f"branches must be at least 2, got {branches}")
        self.linear = nn.Linear(features, branches)
        self.norm = nn.BatchNorm1d(branches)

    def forward(self, shared: Tensor) -> Tensor:
        """The weights ``(N, branches)``, with the sum 1 in each row, from the shared feature ``(N, D)``, or from a map
        ``(N, D, H, W)``, which is pooled first."""
        if shared.dim() not in (2, 4) or shared.shape[1] != self.linear.in_features:
            raise ValueError(
                f"the gate reads features (N, {self.linear.in_features}) or maps with that many channels, got "
                f"{tuple(shared.shape)}"
            )
        pooled = shared.mean((2, 3)) if shared.dim() == 4 else shared
        scores = self.linear(pooled)
        if len(scores) == 1:  # a single sample (maybe the last batch) has no batch statistics
            norm = self.norm
            normed = F.batch_norm(scores, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            normed = self.norm(scores)
        return normed.relu().softmax(-1)
