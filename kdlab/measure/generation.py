"""How fast a language model reads prompts and writes answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.models.generation import Generated, generate


def answering(network: nn.Module, prompts: Tensor, tokens: int) -> Callable[[], Generated]:
    """A call that has the network answer prompts greedily.

    Args:
        prompts: ``(B, P)``, all of the same length.
        tokens: of each answer; no token ends it earlier.
    """
    lengths = torch.full((len(prompts),), prompts.shape[1], device=prompts.device)
    return lambda: generate(network, prompts, lengths, most=tokens, end=None, temperature=0.0)


def generation_speed(
    reading: Sequence[float], whole: Sequence[float], batch: int, length: int, tokens: int
) -> dict[str, float]:
    """The speed of generation, from the durations in seconds of two kinds of calls.

    Args:
        reading: of calls that read the prompts and choose one token of each answer.
        whole: of calls that read the prompts and write ``tokens`` tokens of each answer.
        batch: prompts of a call.
        length: tokens of a prompt.
        tokens: of an answer, at least 2.

    Returns:
        ``first_token_ms``, the median time to the first tokens; ``prompt_tokens_per_second``, all tokens of the prompts
        divided by it; ``answer_ms``, the median time of whole answers; ``tokens_per_second``, of the tokens after the
        first ones: they take the difference of the two medians. The last one is absent if the difference is not
        positive, for answers that are too short to be timed.

    >>> generation_speed([0.1], [0.6], batch=2, length=10, tokens=6)
    {'first_token_ms': 100.0, 'prompt_tokens_per_second': 200.0, 'answer_ms': 600.0, 'tokens_per_second': 20.0}
    """
    first, all_of_it = float(np.median(reading)), float(np.median(whole))
    found = {
        "first_token_ms": round(first * 1000, 6),
        "prompt_tokens_per_second": round(batch * length / first, 3),
        "answer_ms": round(all_of_it * 1000, 6),
    }
    if all_of_it > first:
        found["tokens_per_second"] = round(batch * (tokens - 1) / (all_of_it - first), 3)
    return found
