"""Codecs: how the answers of a teacher are stored, and what is read back.

| codec | stores | reads back |
| --- | --- | --- |
| ``float32`` | the values as they are | the same bits |
| ``float16`` | values of at most 65504 in size | float32, relative error at most 2^-11, or 3.0e-8 absolute |
| ``bfloat16`` | values of the range of float32 | float32, relative error at most 2^-8 |

A codec that is not exact changes what the student learns from, so it is part of a run's hash.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .refusals import CannotKeep

if TYPE_CHECKING:
    import torch
    from torch import Tensor

VALUES = "values"


class Codec(ABC):
    """Turns the values of many samples into named tensors, each with one entry a sample, and back.

    A file holds these tensors as they are. A batch decodes only the entries of its own samples, so a codec must treat
    each sample by itself. It may store several tensors, for example the largest values and their places.
    """

    #: the value of ``teacher.cache_dtype``
    name: str
    #: whether :meth:`decode` gives the same bits
    exact: bool = False
    #: the distance to the next value that it can store, as a part of the value
    place: float = 0.0

    @abstractmethod
    def encode(self, values: Tensor) -> dict[str, Tensor]:
        """What is stored of the values ``(N, ...)``: tensors ``(N, ...)`` by name; ``index`` is no such name.

        Raises:
            CannotKeep: it cannot hold them.
        """

    @abstractmethod
    def decode(self, stored: Mapping[str, Tensor]) -> Tensor:
        """The values ``(N, ...)`` from what is stored of some samples."""

    def read_back(self, values: Tensor) -> Tensor:
        """What a reader gets in place of these values: a teacher that is asked must not differ from its answers."""
        return values if self.exact else self.decode(self.encode(values))


class Exact(Codec):
    """The values as the teacher gives them."""

    name, exact = "float32", True

    def encode(self, values: Tensor) -> dict[str, Tensor]:
        """The values themselves."""
        return {VALUES: values}

    def decode(self, stored: Mapping[str, Tensor]) -> Tensor:
        """The values themselves."""
        return stored[VALUES]


class Rounded(Codec):
    """Floating-point values rounded to a narrower type, and read back as float32.

    >>> import torch
    >>> Rounded("bfloat16").read_back(torch.tensor([1.0, 1.001, 70000.0]))
    tensor([1.0000e+00, 1.0000e+00, 7.0144e+04])
    """

    def __init__(self, name: str):
        self.name = name

    @property
    def place(self) -> float:  # type: ignore[override]
        """The precision of the type: 2^-10 or 2^-7."""
        import torch

        return torch.finfo(self._type).eps

    @property
    def _type(self) -> torch.dtype:
        import torch

        return getattr(torch, self.name)

    def encode(self, values: Tensor) -> dict[str, Tensor]:
        """The rounded values; those of whole numbers as they are.

        Raises:
            CannotKeep: a finite value becomes infinite.
        """
        import torch

        if not values.is_floating_point():
            return {VALUES: values}
        rounded = values.to(self._type)
        if (rounded.isinf() & values.isfinite()).any():
            largest = values[values.isfinite()].abs().max().item()
            wider = "bfloat16" if self.name == "float16" and largest < torch.finfo(torch.bfloat16).max else "float32"
            raise CannotKeep(
                f"teacher.cache_dtype={self.name}: the teacher's values reach {largest:.4g}, and the largest that it "
                f"holds is {torch.finfo(self._type).max:.4g}; teacher.cache_dtype={wider}"
            )
        return {VALUES: rounded}

    def decode(self, stored: Mapping[str, Tensor]) -> Tensor:
        """The rounded values as float32."""
        return stored[VALUES].float() if stored[VALUES].is_floating_point() else stored[VALUES]


CODECS: dict[str, Codec] = {one.name: one for one in (Exact(), Rounded("float16"), Rounded("bfloat16"))}
