"""Sums of whole numbers as prompts with answers that can be checked: nothing is read or downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from kdlab.counter import counter_bits

from .causal import CausalText
from .files import Table
from .tokenizers import Tokenizer

_SUMS = 34  # the stream of random numbers that chooses the sums
SPECIAL = ("<pad>", "<end>")
CHARACTERS = "0123456789+="


class CharacterTokenizer(Tokenizer):
    """A tokenizer of single characters, with tokens that fill up (number 0) and end (number 1) a text.

    Args:
        characters: those that it knows, in the order of their numbers, from 2.

    >>> CharacterTokenizer("ab").loaded("abba")["input_ids"]
    [2, 3, 3, 2]
    """

    def __init__(self, characters: str):
        super().__init__("data.tokenizer", f"characters {characters}")
        self.characters = characters

    @property
    def identity(self) -> str:
        """SHA-256 of its tokens."""
        return hashlib.sha256("\0".join((*SPECIAL, *self.characters)).encode()).hexdigest()

    @cached_property
    def unpadded(self) -> Any:
        """The tokenizer, made now. It has a pad token."""
        from tokenizers import Tokenizer as Made
        from tokenizers import decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        numbers = {token: number for number, token in enumerate((*SPECIAL, *self.characters))}
        made = Made(models.WordLevel(numbers, unk_token=SPECIAL[0]))
        made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        made.decoder = decoders.Fuse()
        return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=SPECIAL[0], eos_token=SPECIAL[1])


class Sums(CausalText):
    """Sums of two whole numbers (``task=causal_lm``): the prompt ``12+35=`` has the answer ``47`` and the token that
    ends a text. Tokens are single characters.

    The sums are drawn from all pairs of numbers without repetition, so no sum is in two of train, validation and test.
    (``12+35`` and ``35+12`` are two sums.) Test is drawn first: it does not depend on ``samples``.

    Args:
        largest: the largest number; the smallest is 0.
        samples: sums of train and validation together.
        test_samples: sums of test.
        length: the most tokens of prompt and answer.
        pad_to, teacher_pad_to, buckets, folder: as for :class:`kdlab.data.TextData`.
        batch_size, evaluation_batch_size, validation, split_seed, fraction, drop_last: as for :class:`kdlab.data.Data`.
            ``split_seed`` also draws the sums of train and validation. Those of test are the same for every seed, so
            they are new to a teacher of another ``split_seed``.

    Raises:
        ValueError: an argument is out of its range, there are fewer pairs of numbers than sums, or a sum is longer than
            ``length``.

    >>> data = Sums(largest=9, samples=60, test_samples=40)
    >>> data.sums("test")[:2] == Sums(largest=9, samples=20, test_samples=40).sums("test")[:2]
    True
    """

    def __init__(
        self,
        largest: int = 99,
        samples: int = 2000,
        test_samples: int = 1000,
        length: int = 16,
        pad_to: str | int = "longest",
        teacher_pad_to: str = "same",
        buckets: bool = False,
        folder: str = "data",
        batch_size: int = 64,
        evaluation_batch_size: int = 500,
        validation: float = 0.1,
        split_seed: int = 0,
        fraction: float = 1.0,
        drop_last: bool = True,
    ) -> None:
        for name, value in (("largest", largest), ("samples", samples), ("test_samples", test_samples)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if samples + test_samples > (largest + 1) ** 2:
            raise ValueError(
                f"samples={samples} and test_samples={test_samples}: there are only {(largest + 1) ** 2} sums of two "
                f"numbers from 0 to {largest}; give a greater largest"
            )
        longest = len(f"{largest}+{largest}={2 * largest}") + 1
        if length < longest:
            raise ValueError(f"length={length}: sums of numbers to {largest} have up to {longest} tokens")
        super().__init__(
            tokenizer="characters",
            prompt="prompt",
            answer="answer",
            length=length,
            pad_to=pad_to,
            teacher_pad_to=teacher_pad_to,
            buckets=buckets,
            folder=folder,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
            validation=validation,
            split_seed=split_seed,
            fraction=fraction,
            drop_last=drop_last,
        )
        self.largest, self.samples, self.test_samples = largest, samples, test_samples
        self.tokenizer = CharacterTokenizer(CHARACTERS)

    def sums(self, split: str) -> list[tuple[int, int]]:
        """The pairs of numbers of ``train`` (with validation) or ``test``."""
        number = (self.largest + 1) ** 2
        order = counter_bits(torch.arange(number), 0, _SUMS).argsort(stable=True)
        test, others = order.split([self.test_samples, number - self.test_samples])
        train = others[counter_bits(others, self.split_seed, _SUMS).argsort(stable=True)][: self.samples]
        return [divmod(pair, self.largest + 1) for pair in (test if split == "test" else train).tolist()]

    def tables(self) -> dict[str, Table]:
        """Prompts and answers of train and test."""
        found = {}
        for split in ("train", "test"):
            pairs = self.sums(split)
            columns: dict[str, Sequence[Any]] = {
                "prompt": [f"{one}+{other}=" for one, other in pairs],
                "answer": [str(one + other) for one, other in pairs],
            }
            found[split] = Table(f"the sums of {split}", columns, range(1, len(pairs) + 1))
        return found
