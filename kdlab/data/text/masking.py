"""Masked tokens, as a function of (seed, epoch, view, index)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdlab.counter import counter_bits, counter_uniform
from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED

from .tokenizers import Tokenizer
from .tokens import Tokens

_CHOSEN, _KIND, _WORD = 61, 62, 63  # one stream of random numbers each
_POSITIONS = 2**20  # more than the tokens of any text


class MaskTokens:
    r"""The masks of BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1). Of the :math:`n` tokens
    of a text that are not special, :math:`\max(1, \mathrm{round}(p\,n))` are to be predicted. Of these, 80 % are
    replaced by the mask token, 10 % by a random one, and 10 % stay.

    How many tokens of a text are chosen does not depend on the epoch, so the mean of a step's loss is exact in any
    number of processes. Other ones are chosen in each epoch and view.

    Args:
        probability: p, between 0 and 1.
        masked: the part of the chosen tokens that the mask token replaces.
        random: the part that a random token replaces.

    Raises:
        ValueError: a number is out of its range.
    """

    draws = True

    def __init__(self, probability: float = 0.15, masked: float = 0.8, random: float = 0.1):
        if not 0 < probability < 1:
            raise ValueError(f"probability must lie between 0 and 1, got {probability}")
        if min(masked, random) < 0 or masked + random > 1:
            raise ValueError(f"masked and random must be parts whose sum is at most 1, got {masked} and {random}")
        self.probability, self.masked, self.random = float(probability), float(masked), float(random)

    def counts(self, tokens: Tensor) -> Tensor:
        """How many tokens of each text are chosen.

        Args:
            tokens: how many it has that are not special.

        >>> MaskTokens(0.15).counts(torch.tensor([0, 1, 10, 20])).tolist()
        [0, 1, 2, 3]
        """
        return (self.probability * tokens.double()).round().long().clamp(min=1).minimum(tokens)

    def __call__(
        self,
        ids: Tensor,
        maskable: Tensor,
        index: Tensor,
        mask_token: int,
        vocabulary: int,
        seed: int,
        epoch: int,
        view: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The tokens with masks, and the labels: the token at each chosen position, -100 elsewhere, both ``(B, T)``.

        Args:
            ids: the tokens ``(B, T)``, int64.
            maskable: the positions that are neither padding nor special tokens ``(B, T)``.
            index: the samples ``(B,)``.
            mask_token: id of the mask token.
            vocabulary: number of tokens, from which random ones are drawn.
        """
        place = index[:, None] * _POSITIONS + torch.arange(ids.shape[1], device=ids.device)
        key = (seed, epoch, view)
        # in order of the random numbers, the positions that cannot be masked last
        drawn = torch.where(maskable, counter_uniform(place, *key, _CHOSEN), 2.0)
        rank = drawn.argsort(1).argsort(1)
        chosen = maskable & (rank < self.counts(maskable.sum(1))[:, None])
        labels = torch.where(chosen, ids, IGNORED)
        kind = counter_uniform(place, *key, _KIND)
        words = counter_bits(place, *key, _WORD).remainder(vocabulary)
        changed = torch.where(chosen & (kind < self.masked), mask_token, ids)
        swapped = chosen & (kind >= self.masked) & (kind < self.masked + self.random)
        return torch.where(swapped, words, changed), labels


@dataclass(frozen=True)
class Masking:
    """Masks for the texts of one tokenizer.

    Args:
        masks: how tokens are chosen and replaced.
        mask_token: id of the mask token.
        special: ids of the special tokens, which are never chosen.
        vocabulary: number of tokens.
        seed: of the masks.
    """

    masks: MaskTokens
    mask_token: int
    special: Tensor
    vocabulary: int
    seed: int = 0

    @classmethod
    def of(cls, masks: MaskTokens, tokenizer: Tokenizer) -> Masking:
        """Raises InputError if the tokenizer has no mask token."""
        loaded = tokenizer.loaded
        if loaded.mask_token_id is None:
            raise InputError(
                f"data.masking: the tokenizer {tokenizer.name} has no mask token; task=masked_lm needs one, as BERT's "
                "tokenizers have it"
            )
        special = torch.tensor(sorted(set(loaded.all_special_ids)))
        return cls(masks, int(loaded.mask_token_id), special, len(loaded))

    def seeded(self, seed: int) -> Masking:
        """The same with another seed."""
        return replace(self, seed=seed)

    def counts(self, tokens: Tokens) -> Tensor:
        """How many tokens of each text are chosen, ``(N,)``."""
        ordinary = (~torch.isin(tokens.ids.values, self.special)).long().cumsum(0)
        before = torch.cat([ordinary.new_zeros(1), ordinary])
        return self.masks.counts(before[tokens.ids.ends] - before[tokens.ids.ends - tokens.ids.lengths])

    def __call__(
        self, inputs: dict[str, Tensor], rows: Tensor, epoch: int, view: int = 0
    ) -> tuple[dict[str, Tensor], Tensor]:
        """A network's inputs with masks, and the labels ``(B, T)``."""
        ids = inputs["input_ids"]
        maskable = inputs["attention_mask"].bool() & ~torch.isin(ids, self.special)
        changed, labels = self.masks(ids, maskable, rows, self.mask_token, self.vocabulary, self.seed, epoch, view)
        return {**inputs, "input_ids": changed}, labels
