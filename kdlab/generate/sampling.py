"""How tokens are chosen: the most probable one, or drawn with numbers that depend on the answer alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kdlab.counter import counter_bits, counter_uniform, derived_seed
from kdlab.errors import InputError

_STREAM = 57  # of random numbers


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Args:
        samples: answers to a prompt.
        temperature: logits are divided by it; 0: the most probable token.
        top_k: draw among so many tokens; None: all.
        top_p: draw among the most probable tokens that have this probability together (Holtzman et al. 2020,
            https://arxiv.org/abs/1904.09751).
        max_tokens: the most tokens of an answer, with the one that ends it.
        seed: of the draws.

    Raises:
        InputError: a value is out of its range.
    """

    samples: int = 1
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    max_tokens: int = 128
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("samples", "max_tokens", "top_k"):
            value = getattr(self, name)
            if not (name == "top_k" and value is None) and not (_whole(value) and value >= 1):
                raise InputError(f"sampling.{name} must be a whole number of at least 1, got {value!r}")
        if not _whole(self.seed):
            raise InputError(f"sampling.seed must be a whole number, got {self.seed!r}")
        if not (_number(self.temperature) and 0 <= self.temperature < math.inf):
            raise InputError(f"sampling.temperature must be a finite number of at least 0, got {self.temperature!r}")
        if not (_number(self.top_p) and 0 < self.top_p <= 1):
            raise InputError(f"sampling.top_p must be greater than 0 and at most 1, got {self.top_p!r}")
        if self.temperature == 0 and self.samples > 1:
            raise InputError(
                f"sampling.samples={self.samples}: with sampling.temperature=0 all answers to a prompt are equal; "
                "sampling.temperature=1 draws them"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on. How many samples there are is no part of it: the first ones stay the same."""
        found = asdict(self)
        del found["samples"]
        if self.temperature == 0:
            found.update(top_k=None, top_p=1.0, seed=None)
        return found

    def seed_of(self, index: int, sample: int) -> int:
        """A seed below 2^31 for a server that draws itself."""
        return derived_seed(self.seed, _STREAM, index, sample) % 2**31


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def uniforms(index: Tensor, sample: Tensor, place: int, seed: int) -> Tensor:
    """A number in [0, 1) for each answer ``(B,)`` and the place of a token in it.

    >>> index, sample = torch.tensor([4, 9]), torch.tensor([0, 1])
    >>> both = uniforms(index, sample, 3, seed=1)
    >>> both[1].item() == uniforms(index[1:], sample[1:], 3, seed=1).item()
    True
    """
    of_sample = counter_bits(counter_bits(index, seed, _STREAM) + sample, seed)
    return counter_uniform(of_sample + place, seed)


def probabilities(logits: Tensor, temperature: float, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    r"""The probabilities ``(…, C)`` that tokens are drawn with, in float64:
    :math:`\mathrm{softmax}(z / \tau)`, of the kept tokens alone, and 0 for the others.

    >>> logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    >>> [round(one, 3) for one in probabilities(logits, 1.0, top_k=3).tolist()]
    [0.444, 0.333, 0.222, 0.0]
    >>> [round(one, 3) for one in probabilities(logits, 1.0, top_p=0.6).tolist()]
    [0.571, 0.429, 0.0, 0.0]
    """
    scaled = logits.double() / temperature
    if top_k is not None and top_k < scaled.shape[-1]:
        scaled = scaled.masked_fill(scaled < scaled.topk(top_k).values[..., -1:], -torch.inf)
    found = scaled.softmax(-1)
    if top_p < 1:
        ordered, places = found.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        kept = torch.zeros_like(found).scatter(-1, places, torch.where(before < top_p, ordered, 0.0))
        found = kept / kept.sum(-1, keepdim=True)
    return found


def drawn(chances: Tensor, numbers: Tensor) -> Tensor:
    """The class ``(B,)`` at which the sum of the chances ``(B, C)`` passes the number ``(B,)`` in [0, 1).

    >>> drawn(torch.tensor([[0.5, 0.0, 0.5]]).repeat(3, 1), torch.tensor([0.1, 0.5, 0.9])).tolist()
    [0, 2, 2]
    """
    sums = chances.cumsum(-1)
    found = (sums <= numbers[:, None] * sums[:, -1:]).sum(-1)
    # rounding may carry a number past the last class that has a chance
    last = chances.shape[-1] - 1 - (chances.flip(-1) > 0).to(torch.int8).argmax(-1)
    return torch.minimum(found, last)
