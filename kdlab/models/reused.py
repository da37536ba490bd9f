"""Networks that end in another network's classifier."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from kdlab.functional.maps import averaged

from .taps import Taps


class ReusedHead(nn.Module):
    """A projector to the teacher's last feature, the mean over the map, and a frozen copy of the teacher's classifier.

    Args:
        projector: projector of the student's last feature.
        classifier: the teacher's classifier, which is copied.
        size: height and width to which larger maps are averaged before the projector; None: no averaging.
    """

    def __init__(self, projector: nn.Module, classifier: nn.Module, size: Sequence[int] | None = None):
        super().__init__()
        self.projector, self.size = projector, None if size is None else tuple(size)
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)

    def train(self, mode: bool = True) -> ReusedHead:
        """Sets the mode of the projector; the classifier stays in evaluation mode."""
        super().train(mode)
        self.classifier.eval()  # it is the teacher's classifier, including its dropout
        return self

    def project(self, x: Tensor) -> Tensor:
        """The student's feature in the teacher's shape."""
        return self.projector(x if self.size is None else averaged(x, self.size))

    def classify(self, projected: Tensor) -> Tensor:
        """The teacher's classifier on a projected feature."""
        return self.classifier(projected if projected.dim() == 2 else projected.flatten(2).mean(2))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of the student's last feature."""
        return self.classify(self.project(x))


class ReusedClassifier(nn.Module):
    """The network that SimKD deploys: the student's body, the projector, and the teacher's classifier. The student's
    own head is still part of it and computed, but not used.

    Args:
        body: the student.
        tap: the student's last feature, by the name or path that the loss used.
        head: ``loss.head`` of a trained :class:`kdlab.losses.SimKD`.
        aliases: the ``taps:`` of the student's config.

    >>> import torch
    >>> body = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 10))
    >>> ReusedClassifier(body, "1", ReusedHead(nn.Linear(3, 4), nn.Linear(4, 10)))(torch.ones(5, 2)).shape
    torch.Size([5, 10])
    """

    def __init__(self, body: nn.Module, tap: str, head: ReusedHead, aliases: Mapping[str, str] | None = None):
        super().__init__()
        self.body, self.head, self.tap, self._taps = body, head, tap, Taps(body, [tap], aliases)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of the student's inputs, from the teacher's classifier."""
        with self._taps as features:
            self.body(x)
        return self.head(features[self.tap])
