"""DataFacts: what a task must know of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DataFacts:
    """What a data set says of itself without being read.

    Args:
        classes: how many columns a network's answers have: classes, labels, or values.
        shape: of one input.
        vocabulary: how many tokens the inputs are made of; None if they are no tokens, or if that is not stated.
        end_tokens: the numbers of the tokens that end an answer; empty if there is none, None if that is not known.
        decode: from tokens to their text; None if the inputs are no tokens, or if that is not known.
    """

    classes: int
    shape: tuple[int, ...] = ()
    vocabulary: int | None = None
    end_tokens: tuple[int, ...] | None = None
    decode: Callable[[list[int]], str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of_node(cls, node: Mapping[str, Any]) -> DataFacts:
        """The facts in a config's ``data``.

        >>> DataFacts.of_node({"classes": 10, "shape": [1, 8, 8]})
        DataFacts(classes=10, shape=(1, 8, 8), vocabulary=None, end_tokens=None)
        """
        return cls(node["classes"], tuple(node.get("shape") or ()), node.get("vocabulary"))
