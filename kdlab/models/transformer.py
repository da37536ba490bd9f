"""What text encoders and causal language models of Hugging Face share: taps, the check of their inputs, and the config
of a new model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdlab.errors import did_you_mean

from .architectures import ARCHITECTURES
from .hub import model_content

ATTENTIONS = ("sdpa", "eager")


class Transformer(nn.Module):
    """Base: a model of transformers as the attribute ``network``.

    A subclass sets ``network``, ``taps``, and calls :meth:`prepare`.
    """

    #: a folder is identified by its content, not by its name
    CONTENT: ClassVar[dict[str, Any]] = {"pretrained": model_content}

    network: Any
    #: tap name -> path, as :class:`kdlab.models.taps.Taps` reads it
    taps: dict[str, str]

    def prepare(self, padding: int | None) -> None:
        """Called once the network exists.

        Args:
            padding: id of the token that the model takes for padding; None: it need not know.
        """
        self._padding, self._is_checked = padding, False
        names = set(inspect.signature(self.network.forward).parameters)
        if (getattr(self.config, "type_vocab_size", 0) or 0) < 2:
            names.discard("token_type_ids")
        self._inputs = names - {"labels", "kwargs"}
        #: notes for the user on what the taps that are read have changed
        self.tap_notes: list[str] = []

    @property
    def config(self) -> Any:
        """The model's config, by transformers."""
        return self.network.config

    @property
    def positions(self) -> int | None:
        """The largest number of tokens; None if it is not limited."""
        number = getattr(self.config, "max_position_embeddings", None)
        kind = ARCHITECTURES.get(self.config.model_type)
        if number is not None and kind is not None and kind.positions_follow_padding:
            return number - self.config.pad_token_id - 1
        return number

    def taps_asked(self, paths: list[str]) -> None:
        """Called by :class:`kdlab.models.taps.Taps` with the paths that are read: attention probabilities need the
        implementation ``eager``."""
        asked = [name for name, path in self.taps.items() if path in paths]
        if any(name.startswith("attention") for name in asked) and self.config._attn_implementation != "eager":
            self.network.set_attn_implementation("eager")
            self._note(
                "a loss reads attention probabilities, so attention is computed by the implementation eager, which is "
                "slower than sdpa"
            )
        kind = ARCHITECTURES.get(self.config.model_type)
        if kind is not None and kind.rotary and any(name.startswith(("query", "key")) for name in asked):
            self._note(
                "the taps query and key are read before rotary positions, so scores that a loss computes of them are "
                "not the model's own; its attention probabilities are the taps attention1, …"
            )

    def _note(self, line: str) -> None:
        if line not in self.tap_notes:
            self.tap_notes.append(line)

    def check_tokens(self, input_ids: Tensor, attention_mask: Tensor | None, vocabulary: int) -> None:
        """Raises ValueError where there are more tokens than positions. In the first call also where a token is outside
        the vocabulary, or padding has another token than the model expects."""
        if self.positions is not None and input_ids.shape[1] > self.positions:
            raise ValueError(
                f"a text has {input_ids.shape[1]} tokens, and the model has positions for {self.positions}; set "
                f"data.length={self.positions} or less"
            )
        if self._is_checked or torch.compiler.is_compiling():
            return
        self._is_checked = True  # once: on a GPU the answers must be waited for
        largest = int(input_ids.max())
        if largest >= vocabulary:
            raise ValueError(
                f"the data have the token {largest}, and the model's vocabulary has {vocabulary} tokens: the data need "
                "the tokenizer of the model (data.tokenizer), or a new model their vocabulary (vocabulary=…)"
            )
        if attention_mask is None or self._padding is None:
            return
        found = input_ids[attention_mask == 0].unique().tolist()
        if found and found != [self._padding]:
            raise ValueError(
                f"padding has the token {found[0]} in the data, and the model's padding token is {self._padding}: the "
                f"tokenizer is another than the model's; if that is right, set padding={found[0]}"
            )


def check_choices(**choices: tuple[Any, Any]) -> None:
    """Raises ValueError for an argument that is none of its known values: name -> (value, known values)."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{did_you_mean(value, known)}")


def check_sizes(sizes: Mapping[str, Any], width: str = "width", heads: str = "heads") -> None:
    """Raises ValueError where a size of a new model is no whole number of at least 1, or ``heads`` does not divide
    ``width``."""
    wrong = [name for name, size in sizes.items() if not isinstance(size, int) or isinstance(size, bool) or size < 1]
    if wrong:
        raise ValueError(f"{wrong[0]} must be a whole number of at least 1, got {sizes[wrong[0]]!r}")
    if sizes[width] % sizes[heads]:
        raise ValueError(f"{heads} must divide {width}, got {heads}={sizes[heads]} and {width}={sizes[width]}")


def check_options(usual: Any, options: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> None:
    """Raises ValueError for a further field of a config that kdlab has an argument for, or that the config lacks.

    Args:
        usual: a config of this kind.
        fields: those that kdlab sets.
    """
    for name in options or {}:
        if name in fields:
            raise ValueError(f"options.{name}: kdlab has an argument of its own for it; leave it out of options")
        if not hasattr(usual, name):
            known = sorted(vars(usual))
            raise ValueError(f"options.{name}: {type(usual).__name__} has no such field{did_you_mean(name, known)}")
