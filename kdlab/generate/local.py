"""Answers of a model on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlab.data.text.tokenizers import quiet
from kdlab.models.generation import generate
from kdlab.models.gguf import is_gguf, read_header

from .kept import Answer
from .sampling import Sampling, drawn, probabilities, uniforms


def answered(
    network: Any,
    tokenizer: Any,
    tokens: Sequence[Sequence[int]],
    asked: Sequence[tuple[int, int]],
    sampling: Sampling,
    batch_size: int,
    device: torch.device,
) -> Iterator[list[Answer]]:
    """Answers, a batch at a time. Prompts of similar length are answered together, the longest first: so a batch that
    needs too much memory is the first one.

    Args:
        network: a causal language model.
        tokens: of each prompt.
        asked: (index, sample) of each answer.
    """
    ends = ending_tokens(network, tokenizer)
    order = sorted(asked, key=lambda one: (-len(tokens[one[0]]), one))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        lengths = torch.tensor([len(tokens[index]) for index, _ in part])
        ids = torch.zeros(len(part), int(lengths.max()), dtype=torch.long)
        for row, (index, _) in enumerate(part):
            ids[row, : len(tokens[index])] = torch.tensor(tokens[index])
        made = generate(
            network,
            ids.to(device),
            lengths.to(device),
            most=sampling.max_tokens,
            end=ends or None,
            choose=_choose(sampling, part, len(tokenizer), device),
        )
        found = made.tokens.cpu()
        answers = []
        for row, (index, sample) in enumerate(part):
            begin, count = int(lengths[row]), int(made.answers[row])
            ended = bool(made.ended[row])
            written = found[row, begin : begin + count - ended].tolist()
            with quiet():
                text = tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            answers.append(Answer(index, sample, text, count, "stop" if ended else "length"))
        yield answers


def _choose(sampling: Sampling, part: Sequence[tuple[int, int]], vocabulary: int, device: torch.device) -> Any:
    """The rule for the next tokens of a batch. A column that is no token of the tokenizer is never chosen."""
    index = torch.tensor([one for one, _ in part], device=device)
    sample = torch.tensor([one for _, one in part], device=device)

    def choose(logits: Tensor, place: int) -> Tensor:
        logits = logits[:, :vocabulary]
        if sampling.temperature == 0:
            return logits.argmax(-1)
        chances = probabilities(logits, sampling.temperature, sampling.top_k, sampling.top_p)
        return drawn(chances, uniforms(index, sample, place, sampling.seed))

    return choose


def ending_tokens(network: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the tokenizer's, and those that the model names for generation."""
    generation = getattr(getattr(network, "network", None), "generation_config", None)
    found = [tokenizer.eos_token_id, getattr(generation, "eos_token_id", None)]
    flat = [token for one in found for token in (one if isinstance(one, (list, tuple)) else [one])]
    return sorted({int(token) for token in flat if token is not None})


def licence_of(model: str) -> str | None:
    """The licence that a model's folder or file states; None if it states none.

    A folder states it at the head of README.md, or holds a file LICENSE, whose first line is taken.
    """
    if is_gguf(model):
        return read_header(model).fields.get("general.license")
    folder = Path(model)
    card = folder / "README.md"
    if card.is_file():
        head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        if head and (found := re.search(r"^license:\s*[\"']?([^\"'\n]+)", head[1], re.MULTILINE)):
            return found[1].strip()
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in lines if line.strip()), None)
    return None
