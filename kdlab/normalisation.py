"""Normalisation: from pixels to a network's inputs, and from inputs of one normalisation to those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdlab.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    r"""Inputs :math:`x_c = (u_c - m_c) / s_c` from pixels :math:`u` in [0, 1].

    Args:
        mean, std: one number for all channels, or one per channel, in units of the scaled pixels.

    Raises:
        ValueError: the two have different lengths, or a std is not greater than 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            object.__setattr__(
                self, name, (float(value),) if isinstance(value, (int, float)) else tuple(map(float, value))
            )
        if not self.mean or len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise ValueError(
                f"mean and std must be one number or one a channel, got {list(self.mean)} and {list(self.std)}"
            )
        if not all(number > 0 for number in self.std):
            raise ValueError(f"std must be greater than 0, got {list(self.std)}")

    @classmethod
    def of(cls, mean: float | Sequence[float], std: float | Sequence[float]) -> Normalisation:
        """The normalisation by a mean and a std that are each one number, or one a channel."""
        return cls(*((value,) if isinstance(value, (int, float)) else tuple(value) for value in (mean, std)))

    def __str__(self) -> str:
        mean, std = (
            f"{value[0]:g}" if len(value) == 1 else f"[{', '.join(f'{number:g}' for number in value)}]"
            for value in (self.mean, self.std)
        )
        return f"mean {mean} and std {std}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised ``pixels`` (float, (B, C, H, W), or any shape if mean and std are one number)."""
        return (pixels - _shaped(self.mean, pixels)) / _shaped(self.std, pixels)

    def check_channels(self, channels: int, key: str) -> None:
        """Raises InputError, which names ``key``, if mean or std have the wrong length for this number of channels."""
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, channels):
                raise InputError(
                    f"{key}.{name} must be one number or one for each of the {channels} channels of the inputs, "
                    f"got {list(getattr(self, name))}"
                )

    def onto(self, other: Normalisation) -> Affine | None:
        r"""The map from inputs of this normalisation to inputs of ``other``: :math:`x' = x\,s/s' + (m - m')/s'`. None
        if both are equal."""
        length = max(len(self.mean), len(self.std), len(other.mean), len(other.std))
        mean, std, their_mean, their_std = (
            value * (length if len(value) == 1 else 1) for value in (self.mean, self.std, other.mean, other.std)
        )
        if (mean, std) == (their_mean, their_std):
            return None
        factor = tuple(ours / theirs for ours, theirs in zip(std, their_std))
        return Affine(
            factor, tuple((ours - theirs) / divisor for ours, theirs, divisor in zip(mean, their_mean, their_std))
        )


@dataclass(frozen=True)
class Affine:
    """``x * factor + shift`` with one factor and one shift per channel, computed in at least float32 and rounded to the
    dtype of ``x``."""

    factor: tuple[float, ...]
    shift: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """The converted inputs, with the shape and dtype of ``x``: ``(B, C, H, W)``, or any shape if factor and shift
        are one number."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * _shaped(self.factor, wide) + _shaped(self.shift, wide)).to(x.dtype)


def _shaped(values: tuple[float, ...], like: Tensor) -> float | Tensor:
    """One number unchanged; several as a tensor that broadcasts over the channels of (B, C, H, W)."""
    if len(values) == 1:
        return values[0]
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


def problems(value: object, key: str, channels: int | None) -> list[str]:
    """The problems of a config's ``{mean: …, std: …}``; null has none.

    Args:
        channels: channels of the inputs; None if they are not images.
    """
    if value is None:
        return []
    example = f"{key}={{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}"
    if not isinstance(value, Mapping) or set(value) != {"mean", "std"}:
        return [f"{key} must hold mean and std of pixels that lie in [0, 1], for example {example}; got {value!r}"]
    for name, part in value.items():
        numbers = part if isinstance(part, list) else [part]
        if not numbers or not all(
            isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers
        ):
            return [f"{key}.{name} must be a number, or a list of one a channel, got {part!r}"]
    try:
        given = Normalisation(**value)
        if channels is not None:
            given.check_channels(channels, key)
    except (ValueError, InputError) as error:
        text = str(error)
        return [text if text.startswith(key) else f"{key}: {text}"]
    return []
