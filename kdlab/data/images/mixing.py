"""Mixing: two training images and their labels become one. Under every strategy, student and teacher see the same mixed
image.

So a teacher is "patient and consistent" (Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and
consistent", https://arxiv.org/abs/2106.05237): its answer is for exactly the pixels that the student sees, and needs no
label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.counter import derived_seed
from kdlab.errors import InputError

_MIXING = 31  # the stream of random numbers that mixes


class Mixing(ABC):
    r"""Base of the mixings. Each image of a batch is mixed with a partner from the same batch, drawn by a permutation.

    One :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)` is drawn per batch, and all views share partners and mixture.
    The draw depends only on (seed, epoch, index of the batch's first sample), so a resumed epoch mixes in the same way.
    Each process mixes only its own share of a batch, so two processes do not give the curve of one.

    Args:
        alpha: both parameters of the Beta distribution; 1 draws :math:`\lambda` uniformly.
        probability: of mixing a batch; in a batch that is not mixed every sample has a share of 1.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, alpha: float, probability: float):
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be greater than 0 and finite, got {alpha}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, got {probability}")
        self.alpha, self.probability = float(alpha), float(probability)

    def __call__(self, batch: Batch, seed: int) -> Batch:
        """The batch with mixed inputs in all views, with ``partner_target`` and ``share``.

        Raises:
            InputError: the inputs are none that can be mixed.
        """
        self.check(batch.inputs)
        random = np.random.default_rng(derived_seed(seed, batch.epoch, int(batch.index[0]), _MIXING))
        share, partners, views = 1.0, torch.arange(len(batch)), [batch.inputs, *batch.further_views]
        if random.random() < self.probability:
            partners = torch.from_numpy(random.permutation(len(batch)))
            share, views = self.blended(views, partners, float(random.beta(self.alpha, self.alpha)), random)
        return batch.replace(
            inputs=views[0],
            further_views=tuple(views[1:]),
            share=torch.full((len(batch),), share),
            partner_target=None if batch.target is None else batch.target[partners],
        )

    def check(self, inputs: Any) -> None:
        """Raises InputError where the inputs are none that can be mixed."""
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise InputError(
                f"data.mixing: {type(self).__name__} mixes inputs that are one tensor of floating-point numbers, and "
                "these data have others; leave it out (mixing=none)"
            )

    @abstractmethod
    def blended(
        self, views: list[Tensor], partners: Tensor, share: float, random: np.random.Generator
    ) -> tuple[float, list[Tensor]]:
        """How much of each image is its own, and the mixed views (B, …).

        Args:
            partners: for each sample the place of its partner in the batch, (B,).
            share: :math:`\\lambda` as it was drawn.
            random: for all further draws.
        """


class Mixup(Mixing):
    r"""Mixup, :math:`\tilde x = \lambda x + (1 - \lambda) x'`.

    Zhang, Cisse, Dauphin, Lopez-Paz (2018), "mixup: Beyond Empirical Risk Minimization",
    https://arxiv.org/abs/1710.09412, equation 1.

    >>> batch = Batch(torch.tensor([[0.0], [1.0]]), torch.tensor([3, 4]), torch.tensor([7, 9]))
    >>> mixed = Mixup(alpha=1.0)(batch, seed=1)
    >>> share = mixed.share[0].item()
    >>> mixed.partner_target.tolist(), torch.equal(mixed.inputs, torch.tensor([[1 - share], [share]]))
    ([4, 3], True)
    """

    def __init__(self, alpha: float = 0.2, probability: float = 1.0):
        super().__init__(alpha, probability)

    def blended(
        self, views: list[Tensor], partners: Tensor, share: float, random: np.random.Generator
    ) -> tuple[float, list[Tensor]]:
        """``share``, and each view as a weighted mean of image and partner (B, …)."""
        return share, [share * view + (1 - share) * view[partners] for view in views]


class CutMix(Mixing):
    r"""CutMix: a box of the partner's pixels in their place, :math:`\tilde x = M \odot x + (1 - M) \odot x'`.

    Yun, Han, Oh, Chun, Choe, Yoo (2019), "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features", https://arxiv.org/abs/1905.04899, equations 1 and 2. The box is :math:`\sqrt{1 - \lambda}` of the image
    high and wide (in whole pixels) around a uniformly drawn pixel; the box is clipped to the image, and the share is
    the part of the pixels that stay.

    >>> images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    >>> mixed = CutMix(probability=1.0)(Batch(images, torch.tensor([3, 4]), torch.tensor([7, 9])), seed=1)
    >>> bool((mixed.share == 1 - mixed.inputs[0].mean()).all())
    True
    """

    def __init__(self, alpha: float = 1.0, probability: float = 0.5):
        super().__init__(alpha, probability)

    def check(self, inputs: Any) -> None:
        """Raises InputError where the inputs are no float images (B, C, H, W)."""
        super().check(inputs)
        if inputs.dim() != 4:
            raise InputError(
                "data.mixing: CutMix cuts boxes out of images (channels, height, width), and an input of these data "
                f"has the shape {tuple(inputs.shape[1:])}; take mixing=mixup or mixing=none"
            )

    def blended(
        self, views: list[Tensor], partners: Tensor, share: float, random: np.random.Generator
    ) -> tuple[float, list[Tensor]]:
        """The share of pixels that an image keeps, and the views (B, C, H, W) with the partner's pixels in the box."""
        height, width = views[0].shape[-2:]
        down, across = (_interval(size, share, random) for size in (height, width))
        mixed = [view.clone() for view in views]
        for view, own in zip(mixed, views):
            view[..., down, across] = own[partners][..., down, across]
        return 1 - (down.stop - down.start) * (across.stop - across.start) / (height * width), mixed


def _interval(size: int, share: float, random: np.random.Generator) -> slice:
    """Where the box lies along one side of the image."""
    length = round(size * (1 - share) ** 0.5)
    start = int(random.integers(size)) - length // 2
    return slice(max(start, 0), min(start + length, size))
