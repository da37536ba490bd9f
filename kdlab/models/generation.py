"""Answers that a causal language model generates: many prompts at once, greedy or sampled, with seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.counter import counter_uniform
from kdlab.functional.tokens import IGNORED

_TOKENS = 61  # the stream of random numbers that samples tokens

#: from the prompts, filled up on the right, and their lengths to the logits of the next token ``(B, V)``, and to a
#: function that takes the next tokens ``(B, 1)`` and returns the logits of those after them
Begin = Callable[[Tensor, Tensor], tuple[Tensor, Callable[[Tensor], Tensor]]]


@dataclass(frozen=True)
class Generated:
    """Prompts with their answers.

    Args:
        tokens: each prompt and, directly after it, its answer, filled up on the right ``(B, T)``.
        prompts: tokens of each prompt ``(B,)``.
        answers: tokens of each answer ``(B,)``. The token that ends a text is one of them, and nothing follows it.
        ended: which answers have such a token ``(B,)``. The others are truncated.
    """

    tokens: Tensor
    prompts: Tensor
    answers: Tensor
    ended: Tensor

    @property
    def mask(self) -> Tensor:
        """Which positions are no padding ``(B, T)``."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < (self.prompts + self.answers)[:, None]

    @property
    def labels(self) -> Tensor:
        """The tokens of the answers, and -100 at all other positions ``(B, T)``.

        >>> Generated(torch.tensor([[5, 7, 2, 0]]), *(torch.tensor([n]) for n in (1, 2)), torch.tensor([True])).labels
        tensor([[-100,    7,    2, -100]])
        """
        places = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        counts = self.mask & (places >= self.prompts[:, None])
        return self.tokens.masked_fill(~counts, IGNORED)


@torch.no_grad()
def generate(
    network: nn.Module,
    prompts: Tensor,
    lengths: Tensor,
    *,
    most: int,
    end: int | Sequence[int] | None,
    padding: int = 0,
    temperature: float = 1.0,
    index: Tensor | None = None,
    key: Sequence[int] = (),
    choose: Callable[[Tensor, int], Tensor] | None = None,
) -> Generated:
    r"""The network's answers to prompts, in evaluation mode (no dropout) and without gradients.

    Each token is drawn by inversion from :math:`\mathrm{softmax}(z / \tau)`, with a uniform number that is a function
    of (key, sample, place in the answer). So an answer does not depend on the other prompts in the batch, nor on how
    prompts are divided over processes (but for the rounding of the logits). With temperature 0, the most probable token
    is taken.

    A network with a method ``cached(prompts, lengths)`` (:class:`kdlab.models.CausalModel`) keeps keys and values. Any
    other one is called on the whole texts for each token, with ``input_ids`` and ``attention_mask``.

    Args:
        network: maps tokens to the logits of the next token ``(B, T, V)``.
        prompts: ``(B, P)``, filled up on the right. What follows a prompt is not read.
        lengths: tokens of each prompt ``(B,)``, at least 1.
        most: the most tokens of an answer, at least 1.
        end: the token that ends an answer, or several; None: all answers have ``most`` tokens.
        padding: the token after answers that have ended.
        temperature: tau; 0: greedy.
        index: the number of each sample ``(B,)``; None: its place in the batch.
        key: of the random numbers, for example (seed, step).
        choose: from logits ``(B, V)`` and the place in the answer to the next tokens ``(B,)``, in place of the rule
            above.

    Raises:
        ValueError: an argument is out of its range, or a prompt is empty.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1 (token of an answer), got {most}")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be 0 (greedy) or greater, and finite, got {temperature}")
    if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= prompts.shape[1]:
        raise ValueError(f"each prompt must have 1 to {prompts.shape[1]} tokens, got {int(lengths.min())}")
    number = torch.arange(len(prompts), device=prompts.device) if index is None else index
    ends = None if end is None else torch.tensor([end] if isinstance(end, int) else list(end), device=prompts.device)
    drawn: list[Tensor] = []
    with evaluating(network):
        begin = _begin(network)
        if not len(prompts):
            return Generated(prompts, lengths, lengths, lengths > 0)
        logits, following = begin(prompts, lengths)
        done = torch.zeros(len(prompts), dtype=torch.bool, device=prompts.device)
        answers = torch.zeros_like(lengths)
        for place in range(most):
            if choose is None:
                tokens = _chosen(logits, temperature, number, (*key, _TOKENS, place))
            else:
                tokens = choose(logits, place)
            tokens = tokens.masked_fill(done, padding)
            drawn.append(tokens)
            answers = answers + (~done).to(answers.dtype)
            if ends is not None:
                done = done | torch.isin(tokens, ends)
            if place + 1 == most or bool(done.all()):
                break
            logits = following(tokens[:, None])
    return Generated(_joined(prompts, lengths, torch.stack(drawn, 1), answers, padding), lengths, answers, done)


class Mixture(nn.Module):
    r"""Two language models as one whose next token is distributed as :math:`a\,p_\tau + (1 - a)\,q_\tau`, for
    :func:`generate` at the same temperature. Gu et al. (2024), section 2.2, https://arxiv.org/abs/2306.08543

    Args:
        first: the model with the probabilities p.
        second: the one with q; its vocabulary is the same.
        share: a, between 0 and 1.
        temperature: tau; 0: p and q are those of temperature 1, and the most probable token of the mixture is taken.
    """

    def __init__(self, first: nn.Module, second: nn.Module, share: float, temperature: float = 1.0):
        super().__init__()
        self.first, self.second = first, second
        self.share, self.temperature = share, temperature or 1.0

    def cached(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """As :meth:`kdlab.models.CausalModel.cached`: logits whose softmax at the temperature is the mixture."""
        (first, first_following), (second, second_following) = (
            _begin(one)(prompts, lengths) for one in (self.first, self.second)
        )

        def following(tokens: Tensor) -> Tensor:
            return self._mixed(first_following(tokens), second_following(tokens))

        return self._mixed(first, second), following

    def _mixed(self, first: Tensor, second: Tensor) -> Tensor:
        p, q = ((one.double() / self.temperature).softmax(-1) for one in (first, second))
        return (self.share * p + (1 - self.share) * q).log() * self.temperature


def _begin(network: nn.Module) -> Begin:
    """How an answer begins, with keys and values kept if the network can."""
    return getattr(network, "cached", None) or _Uncached(network)


def _chosen(logits: Tensor, temperature: float, index: Tensor, key: Sequence[int]) -> Tensor:
    """The next token of each row of logits ``(B, V)``."""
    if temperature == 0:
        return logits.argmax(-1)
    mass = (logits.double() / temperature).softmax(-1).cumsum(-1)
    drawn = counter_uniform(index, *key)[:, None] * mass[:, -1:]
    return torch.searchsorted(mass, drawn, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _joined(prompts: Tensor, lengths: Tensor, drawn: Tensor, answers: Tensor, padding: int) -> Tensor:
    """Each prompt with its answer directly after it, as wide as the longest."""
    width = int((lengths + answers).max())
    places = torch.arange(width, device=prompts.device)
    behind = (places - lengths[:, None]).clamp(0, drawn.shape[1] - 1)
    before = places.clamp(max=prompts.shape[1] - 1).expand(len(prompts), -1)
    found = torch.where(places < lengths[:, None], prompts.gather(1, before), drawn.gather(1, behind))
    return found.masked_fill(places >= (lengths + answers)[:, None], padding)


def left_padded(prompts: Tensor, lengths: Tensor, padding: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts filled up on the left, so that all answers begin in one column.

    Returns:
        Tokens, attention mask and positions, each ``(B, P)`` with P the longest prompt. Positions count the prompt's
        own tokens from 0.

    >>> [one.tolist() for one in left_padded(torch.tensor([[5, 6, 9], [7, 9, 9]]), torch.tensor([2, 1]))]
    [[[5, 6], [0, 7]], [[1, 1], [0, 1]], [[0, 1], [0, 0]]]
    """
    width = int(lengths.max())
    places = torch.arange(width, device=prompts.device) - (width - lengths)[:, None]
    mask = places >= 0
    places = places.clamp(min=0)
    return prompts.gather(1, places).masked_fill(~mask, padding), mask.long(), places


class _Uncached:
    """A network that is called on whole texts, filled up on the right, for each token."""

    def __init__(self, network: nn.Module):
        self.network = network

    def __call__(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        ids, ends = prompts[:, : int(lengths.max())], lengths

        def logits() -> Tensor:
            mask = (torch.arange(ids.shape[1], device=ids.device) < ends[:, None]).long()
            answer: Any = self.network(input_ids=ids, attention_mask=mask)
            answer = getattr(answer, "logits", answer)
            return answer[torch.arange(len(ids), device=ids.device), ends - 1]

        def following(tokens: Tensor) -> Tensor:
            nonlocal ids, ends
            ids = torch.cat([ids, tokens], 1).scatter(1, ends[:, None], tokens)
            ends = ends + 1
            return logits()

        return logits(), following


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A context in which a network is in evaluation mode. Afterwards each of its modules has its former mode."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
