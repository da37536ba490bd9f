"""Paraphraser and translator of factor transfer: Kim et al. (2018), https://arxiv.org/abs/1802.04977."""

from __future__ import annotations

from torch import Tensor, nn

SLOPE = 0.1


def _layers(make: type[nn.Module], inputs: int, outputs: tuple[int, ...], normalise: bool) -> nn.Sequential:
    """3x3 convolutions (with biases), each followed by BatchNorm (if ``normalise``) and a leaky ReLU."""
    layers = []
    for width in outputs:
        layers += [
            make(inputs, width, 3, padding=1),
            nn.BatchNorm2d(width) if normalise else nn.Identity(),
            nn.LeakyReLU(SLOPE),
        ]
        inputs = width
    return nn.Sequential(*layers)


class Paraphraser(nn.Module):
    """An autoencoder of the teacher's map. Its code is the teacher's factors. Its factors are meaningful only after it
    is trained to reconstruct its input (the mean of :func:`kdlab.functional.hint` between :meth:`forward` and the
    input).

    Args:
        channels: channels of the teacher's map.
        rate: the factors have ``rate * channels`` channels.
        normalise: whether BatchNorm follows every convolution (RepDistiller: no).

    >>> import torch
    >>> p = Paraphraser(8)
    >>> p.factors(torch.ones(1, 8, 5, 5)).shape, p(torch.ones(1, 8, 5, 5)).shape
    (torch.Size([1, 4, 5, 5]), torch.Size([1, 8, 5, 5]))
    """

    def __init__(self, channels: int, rate: float = 0.5, normalise: bool = False):
        super().__init__()
        code = factor_channels(channels, rate)
        self.encoder = _layers(nn.Conv2d, channels, (channels, code, code), normalise)
        self.decoder = _layers(nn.ConvTranspose2d, code, (code, channels, channels), normalise)

    def factors(self, x: Tensor) -> Tensor:
        """The factors ``(B, rate * channels, H, W)`` of the teacher's map ``(B, channels, H, W)``."""
        return self.encoder(x)

    def forward(self, x: Tensor) -> Tensor:
        """The map reconstructed from the factors."""
        return self.decoder(self.encoder(x))


class Translator(nn.Module):
    """Computes the student's factors from its map.

    Args:
        channels: channels of the student's map.
        teacher_channels, rate: the factors have ``rate * teacher_channels`` channels.
        normalise: whether BatchNorm follows every convolution (RepDistiller: yes).
    """

    def __init__(self, channels: int, teacher_channels: int, rate: float = 0.5, normalise: bool = True):
        super().__init__()
        code = factor_channels(teacher_channels, rate)
        self.encoder = _layers(nn.Conv2d, channels, (channels, code, code), normalise)

    def forward(self, x: Tensor) -> Tensor:
        """The factors ``(B, rate * teacher_channels, H, W)`` of the student's map ``(B, channels, H, W)``."""
        return self.encoder(x)


def factor_channels(teacher_channels: int, rate: float) -> int:
    """The number of the factors' channels: ``rate * teacher_channels``, rounded down.

    Raises:
        ValueError: it is less than 1.
    """
    if int(rate * teacher_channels) < 1:
        raise ValueError(
            f"rate {rate} leaves no factor for the teacher's {teacher_channels} channels; it must be at least "
            f"{1 / teacher_channels:.3g}"
        )
    return int(rate * teacher_channels)
